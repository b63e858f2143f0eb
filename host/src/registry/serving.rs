//! How a node serves a plugin. Nodes without the plugin need this for the plugin's clients that are
//! connected to them.

use std::sync::Arc;
use std::time::Duration;

use crate::policy::{CompressionPolicy, OverflowPolicy, RefusePolicy, ResumePolicy, UidPolicy};
use crate::rollout::Rollout;

/// How a node serves a plugin.
#[derive(Clone, Debug, Default, PartialEq)]
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
    /// The plugin's rules for clients that come back, which apply on the nodes of its clients.
    pub resume: Option<ResumePolicy>,
    /// How long the node takes for one event at most.
    pub patience: Duration,
    /// The build that runs, if one does.
    pub build: Option<ServingBuild>,
    /// The build that runs beside that one for a part of the clients, if one does.
    pub canary: Option<ServingCanary>,
    /// Why the last load of the plugin failed, if it did.
    pub failure: Option<String>,
}

/// The build that a node runs for a part of the clients.
#[derive(Clone, Debug, PartialEq)]
pub struct ServingCanary {
    /// The build that it runs.
    pub build: ServingBuild,
    /// The clients that it is for.
    pub rollout: Arc<Rollout>,
}

impl Serving {
    /// The texts of any length that it has.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let canary = self.canary.iter();
        let uids = canary.flat_map(|canary| canary.rollout.uids());
        let texts = self.routes.iter().chain(uids);
        texts.chain(&self.failure).map(String::as_str)
    }
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

impl ServingCanary {
    /// Whether it takes over for all clients by itself, once its time has come.
    pub fn promotes_itself(&self) -> bool {
        self.rollout.promote_after().is_some()
    }

    /// The number by which nodes name it, which is not 0. The same build that begins again has another
    /// one.
    pub fn id(&self) -> u64 {
        let first = self.build.digest[..8].try_into().unwrap_or_default();
        (u64::from_le_bytes(first) ^ self.rollout.began_ms()).max(1)
    }
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
