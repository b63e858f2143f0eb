//! This module reads the plugin's settings.
//!
//! They are `[config]` of its manifest, as it was when this build was loaded:
//!
//! ```toml
//! # chat.toml
//! [config]
//! greeting = "hello"
//! api_key = { file = "chat.key" }
//! ```
//!
//! A change of the manifest is a reload, and the next build's instances read the new settings. A
//! plugin that calls neither of these functions does not import `wasi:config/store`.

use std::collections::BTreeMap;

use crate::host::config as host;

/// Returns the setting of this name, if the manifest has it.
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

/// Returns all settings, sorted by name.
///
/// ```
/// use jackfield_sdk::{config, testing::Host};
///
/// let host = Host::new().config(&[("greeting", "hello"), ("farewell", "bye")]);
/// let settings = host.run(config::all);
/// assert_eq!(settings["greeting"], "hello");
/// assert!(settings.keys().eq(["farewell", "greeting"]));
/// ```
pub fn all() -> BTreeMap<String, String> {
    host::all()
}
