//! The plugin's settings: `[config]` of its manifest, as it was when this build was loaded.
//!
//! ```toml
//! # chat.toml
//! [config]
//! greeting = "hello"
//! api_key = { file = "chat.key" }
//! ```
//!
//! A change of the manifest is a reload, and the next build's instances read the new ones. A
//! plugin that calls neither of these does not import `wasi:config/store`.

use std::collections::BTreeMap;

use crate::host::config as host;

/// The setting of this name, if the manifest has it.
///
/// ```
/// use jackfield_sdk::{config, testing::Host};
///
/// let host = Host::new().config(&[("greeting", "hello")]);
/// assert_eq!(host.run(|| config::get("greeting")).as_deref(), Some("hello"));
/// assert_eq!(host.run(|| config::get("farewell")), None);
/// ```
pub fn get(name: &str) -> Option<String> {
    host::get(name)
}

/// All settings, by name.
///
/// ```
/// use jackfield_sdk::{config, testing::Host};
///
/// let host = Host::new().config(&[("greeting", "hello")]);
/// assert_eq!(host.run(config::all)["greeting"], "hello");
/// ```
pub fn all() -> BTreeMap<String, String> {
    host::all()
}
