//! `wasi:config/store`.

use std::collections::BTreeMap;

use crate::bindings::config::wasi::config::store;

// Its errors are for stores that are elsewhere. A node has read the manifest, and gives none.

pub(crate) fn get(name: &str) -> Option<String> {
    store::get(name).ok().flatten()
}

pub(crate) fn all() -> BTreeMap<String, String> {
    store::get_all().unwrap_or_default().into_iter().collect()
}
