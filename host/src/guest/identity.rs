//! Whom a line or a count is about.

use std::sync::Arc;

use crate::counters::Counters;

/// A build of a plugin, as log lines name it, and the counters of its node.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The plugin's name.
    pub(crate) plugin: Arc<str>,
    /// Which load of the plugin it is.
    pub(crate) generation: u64,
    /// What happens on the node, in numbers.
    pub(crate) counters: Arc<Counters>,
}
