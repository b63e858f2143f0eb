//! The stand-in's settings.

use std::collections::BTreeMap;

use super::current;

pub(crate) fn get(name: &str) -> Option<String> {
    current(|node| node.settings.get(name).cloned())
}

pub(crate) fn all() -> BTreeMap<String, String> {
    current(|node| node.settings.clone())
}
