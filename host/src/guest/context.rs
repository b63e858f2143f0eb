//! What all instances of one generation share: whom they act for, and what they may.

use std::sync::{Arc, Weak};

use super::call::Callees;
use super::http::grant::Grant;
use super::identity::Identity;
use super::services::Services;
use crate::limits::PluginLimits;
use crate::manifest::{Buckets, Settings};
use crate::registry::Namespace;
use crate::router::Router;

/// What a guest acts for, and what it may use of the node.
pub(crate) struct Context {
    /// The plugin and the generation.
    pub(crate) identity: Identity,
    /// The way to the plugin's clients, here and at other nodes.
    pub(crate) router: Router,
    /// The way to the node's plugins, the guest's own among them.
    pub(crate) callees: Weak<dyn Callees>,
    /// What bounds its events.
    pub(crate) limits: PluginLimits,
    /// What it can read by `wasi:config`.
    pub(crate) settings: Settings,
    /// What it uses of the node beside.
    pub(crate) services: Services,
    /// The buckets that it may open, if any are granted.
    pub(crate) buckets: Option<Buckets>,
    /// The hosts that it may ask, if any are granted.
    pub(crate) http: Option<Grant>,
}

impl Context {
    /// The plugin's clients here.
    pub(crate) fn namespace(&self) -> &Arc<Namespace> {
        self.router.namespace()
    }

    /// The plugin's name.
    pub(crate) fn plugin(&self) -> &str {
        &self.identity.plugin
    }
}
