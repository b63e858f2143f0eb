//! The context of a generation, which all its instances share: the plugin, and what it may use.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};

use super::call::Callees;
use super::event_times::EventTimes;
use super::http::grant::HttpGrant;
use super::identity::Identity;
use super::memory::MemoryBudget;
use super::processors::Processors;
use super::services::Services;
use super::usage::Usage;
use crate::limits::PluginLimits;
use crate::manifest::{Buckets, Settings};
use crate::registry::Namespace;
use crate::router::Router;

/// The plugin that a guest belongs to, and what the guest may use of the node.
pub(crate) struct Context {
    /// The name of the plugin and the number of its generation.
    pub(crate) identity: Identity,
    /// The way to the plugin's clients, on this node and on other nodes.
    pub(crate) router: Router,
    /// The way to the node's plugins, including the guest's own plugin.
    pub(crate) callees: Weak<dyn Callees>,
    /// The processors of the node, which all plugins share.
    pub(crate) processors: Arc<Processors>,
    /// The memory of all guests of the node.
    pub(crate) memory: Arc<MemoryBudget>,
    /// What the plugin uses of both, in all its generations.
    pub(crate) usage: Arc<Usage>,
    /// The limits of the guest and its events.
    pub(crate) limits: PluginLimits,
    /// The settings that the guest can read by `wasi:config`.
    pub(crate) settings: Settings,
    /// The node's key-value store and its access to HTTPS.
    pub(crate) services: Services,
    /// The buckets that the guest may open, if any are granted.
    pub(crate) buckets: Option<Buckets>,
    /// How long the events of the generation took.
    pub(crate) times: Arc<EventTimes>,
    /// Whether another generation has taken over, or none handles events any more.
    pub(crate) is_superseded: AtomicBool,
    /// The hosts that the guest may send requests to, if any are granted.
    pub(crate) http: Option<HttpGrant>,
}

impl Context {
    /// The namespace of the plugin's clients on this node.
    pub(crate) fn namespace(&self) -> &Arc<Namespace> {
        self.router.namespace()
    }

    /// The name of the plugin.
    pub(crate) fn plugin(&self) -> &str {
        &self.identity.plugin
    }
}
