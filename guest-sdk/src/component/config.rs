//! `wasi:config/store`.

use std::collections::BTreeMap;

use self::bindings::wasi::config::store;

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic
)]
mod bindings {
    wit_bindgen::generate!({ path: "../wit/wasi/config", world: "imports" });
}

// Its errors are for stores that are elsewhere. A node has read the manifest, and gives none.

pub(crate) fn get(name: &str) -> Option<String> {
    store::get(name).ok().flatten()
}

pub(crate) fn all() -> BTreeMap<String, String> {
    store::get_all().unwrap_or_default().into_iter().collect()
}
