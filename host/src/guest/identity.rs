//! The identity of a plugin's generation, for log lines and counters.

use std::sync::Arc;

use crate::counters::Counters;

/// The plugin and the generation that log lines name, and the counters of the node.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The name of the plugin.
    pub(crate) plugin: Arc<str>,
    /// The number of the plugin's generation.
    pub(crate) generation: u64,
    /// The counters of the node.
    pub(crate) counters: Arc<Counters>,
}
