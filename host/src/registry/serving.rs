//! How a node runs a plugin: what those that do not run it need for their clients of it.

use std::time::Duration;

use crate::policy::{OverflowPolicy, RefusePolicy, UidPolicy};

/// How a node runs a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Serving {
    /// Whether it takes events.
    pub state: ServingState,
    /// Its paths beside `/NAME` and `/api/NAME`, as its manifest has them.
    pub routes: Vec<String>,
    /// Policies that hold where its clients are.
    pub uid: UidPolicy,
    /// Likewise.
    pub overflow: OverflowPolicy,
    /// Likewise.
    pub refuse: RefusePolicy,
    /// How long one event takes at most.
    pub patience: Duration,
}

/// Whether a node takes events of a plugin's clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServingState {
    /// It has no such plugin.
    #[default]
    None,
    /// It does.
    Open,
    /// The plugin's file is gone: it still takes the ends of clients.
    Closing,
    /// It has the plugin, and can't run it now.
    Away,
}
