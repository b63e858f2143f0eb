//! How a node serves a plugin. Nodes without the plugin need this for the plugin's clients that are
//! connected to them.

use std::time::Duration;

use crate::policy::{CompressionPolicy, OverflowPolicy, RefusePolicy, UidPolicy};

/// How a node serves a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Serving {
    /// Whether the node takes events of the plugin's clients.
    pub state: ServingState,
    /// The plugin's paths in addition to `/NAME` and `/api/NAME`, as in its manifest.
    pub routes: Vec<String>,
    /// The plugin's policy for uids, which applies on the nodes of its clients.
    pub uid: UidPolicy,
    /// The plugin's policy for full outboxes, which applies on the nodes of its clients.
    pub overflow: OverflowPolicy,
    /// The plugin's policy for refused clients, which applies on the nodes of its clients.
    pub refuse: RefusePolicy,
    /// The plugin's compression, which applies on the nodes of its clients.
    pub compression: Option<CompressionPolicy>,
    /// How long the node takes for one event at most.
    pub patience: Duration,
    /// The build that runs, if one does.
    pub build: Option<ServingBuild>,
    /// Why the last load of the plugin failed, if it did.
    pub failure: Option<String>,
}

/// The build that a node runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServingBuild {
    /// The number of the load that made the generation.
    pub generation: u64,
    /// The digest of the build.
    pub digest: [u8; 32],
    /// The time when the generation took over, in milliseconds since 1970.
    pub loaded_at_ms: u64,
    /// Where the build comes from.
    pub source: ServingSource,
}

/// Where a build that runs comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServingSource {
    /// A peer of another version has not said it.
    #[default]
    Unknown,
    /// The plugins folder of the node.
    Folder,
    /// The deployment of the plugin.
    Deployment,
    /// The builds that the node has kept: it was gone back to.
    KeptBuild,
}

/// Whether a node takes events of a plugin's clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServingState {
    /// The node has no such plugin.
    #[default]
    None,
    /// The node takes events.
    Open,
    /// The plugin's file is gone; the node only takes the ends of clients.
    Closing,
    /// The node has the plugin, but can't run it now.
    Away,
}
