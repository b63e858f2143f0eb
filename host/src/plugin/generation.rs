//! A generation: one loaded build of a plugin, with what its manifest says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::access::Access;
use crate::guest::Pool;
use crate::limits::PluginLimits;
use crate::manifest::{Routes, Rules};
use crate::policy::Policies;
use crate::registry::{Serving, ServingState};

/// What makes a generation new: the digest of its component and its manifest.
pub(super) type Digest = [u8; 32];

/// One loaded build of a plugin.
pub(super) struct Generation {
    /// Which load of the plugin it is.
    pub(super) number: u64,
    pub(super) pool: Arc<Pool>,
    pub(super) policies: Policies,
    pub(super) routes: Routes,
    pub(super) access: Access,
    /// What its manifest demands of who comes in; none: it has no manifest.
    pub(super) rules: Option<Rules>,
    pub(super) digest: Digest,
    /// The plugins that may call it.
    pub(super) callers: Vec<String>,
    /// A timer that nobody handles has been logged.
    pub(super) has_logged_timers: AtomicBool,
}

impl Generation {
    /// What bounds its events.
    pub(super) fn limits(&self) -> &PluginLimits {
        &self.pool.context().limits
    }

    /// How the plugin is run with it, as other nodes are told.
    pub(super) fn serving(&self, state: ServingState) -> Serving {
        let limits = self.limits();
        Serving {
            state,
            routes: self.routes.written(),
            uid: self.policies.uid,
            overflow: self.policies.overflow,
            refuse: self.policies.refuse,
            patience: limits.call_wait + limits.wait_timeout,
        }
    }

    /// Whether this is the first timer that nobody hears, which is logged.
    pub(super) fn is_first_unheard_timer(&self) -> bool {
        !self.has_logged_timers.swap(true, Ordering::Relaxed)
    }
}
