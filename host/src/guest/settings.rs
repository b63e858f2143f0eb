//! The host's side of `wasi:config/store`: the values under `[config]` in a manifest.

use wasmtime::component::{HasData, Linker};

use self::generated::wasi::config::store;
use crate::manifest::Settings;

/// The interface that a component imports to read its settings.
pub(super) const INTERFACE: &str = "wasi:config/store@0.2.0-rc.1";

/// The bindings generated from `wit/wasi/config`.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
mod generated {
    wasmtime::component::bindgen!({ path: "../wit/wasi/config", world: "imports" });
}

/// A guest's view of its plugin's settings.
pub(super) struct SettingsView<'a>(pub(super) &'a Settings);

/// Tells the linker which type a view borrows.
struct HasSettings;

impl HasData for HasSettings {
    type Data<'a> = SettingsView<'a>;
}

/// Serves `wasi:config/store` to the guests of this linker.
pub(super) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> SettingsView<'_>,
) -> wasmtime::Result<()> {
    generated::Imports::add_to_linker::<T, HasSettings>(linker, view)
}

impl store::Host for SettingsView<'_> {
    fn get(&mut self, key: String) -> Result<Option<String>, store::Error> {
        Ok(self.0.get(&key).map(str::to_owned))
    }

    fn get_all(&mut self) -> Result<Vec<(String, String)>, store::Error> {
        let owned = |(name, text): (&str, &str)| (name.to_owned(), text.to_owned());
        Ok(self.0.iter().map(owned).collect())
    }
}
