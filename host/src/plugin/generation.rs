//! A generation: one loaded build of a plugin, with the settings of its manifest.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::canary::Canary;
use super::probation::Probation;
use crate::access::Access;
use crate::guest::Pool;
use crate::limits::PluginLimits;
use crate::manifest::{Routes, Rules};
use crate::policy::Policies;
use crate::registry::{Serving, ServingBuild, ServingCanary, ServingSource, ServingState};

/// The digest of a generation's component, manifest, keys and settings. A different digest makes a
/// new generation.
pub(super) type Digest = [u8; 32];

/// One loaded build of a plugin.
pub(super) struct Generation {
    /// The number of the plugin's load that made this generation.
    pub(super) number: u64,
    pub(super) pool: Arc<Pool>,
    pub(super) policies: Policies,
    pub(super) routes: Routes,
    pub(super) access: Access,
    /// The rules of the manifest for clients that come in; none if there is no manifest.
    pub(super) rules: Option<Rules>,
    pub(super) digest: Digest,
    /// The names of the plugins that may call this one.
    pub(super) callers: Vec<String>,
    /// Whether a timer that the plugin does not handle has been logged.
    pub(super) has_logged_timers: AtomicBool,
    pub(super) probation: Probation,
    /// Wakes the task that takes builds back.
    pub(super) build_failed: Arc<Notify>,
    /// Where its files come from. The same build may be in the folder, and be deployed after that.
    pub(super) source: Mutex<ServingSource>,
    /// The time when it took over, in milliseconds since 1970.
    pub(super) loaded_at_ms: AtomicU64,
    /// The clients that it is for, while it is a canary.
    pub(super) canary: ArcSwapOption<Canary>,
}

impl Generation {
    /// Returns the limits for the events of this generation.
    pub(super) fn limits(&self) -> &PluginLimits {
        &self.pool.context().limits
    }

    /// Counts an event that has failed. If too many have failed, the build is taken back.
    pub(super) fn event_failed(&self) {
        if self.probation.event_failed(self.limits(), || self.events()) {
            self.build_failed.notify_one();
        }
    }

    /// Says how many of the events have failed.
    pub(super) fn failures(&self) -> String {
        let (failures, events) = (self.probation.failures(), self.events());
        format!("{failures} of {events} events failed")
    }

    /// Returns how many events the generation has had.
    pub(super) fn events(&self) -> u64 {
        self.pool.context().times.count()
    }

    /// Returns how the plugin runs with this generation, in the form that other nodes are told.
    pub(super) fn serving(&self, state: ServingState) -> Serving {
        Serving {
            state,
            routes: self.routes.written(),
            uid: self.policies.uid,
            overflow: self.policies.overflow,
            refuse: self.policies.refuse,
            compression: self.policies.compression,
            resume: self.policies.resume,
            patience: self.patience(),
            build: Some(self.build()),
            canary: None,
            failure: None,
        }
    }

    /// Returns how long an event takes at most.
    pub(super) fn patience(&self) -> Duration {
        let limits = self.limits();
        limits.call_wait + limits.wait_timeout
    }

    /// Returns the build and the clients that it is for, if it is a canary.
    pub(super) fn serving_canary(&self) -> Option<ServingCanary> {
        let canary = self.canary.load_full()?;
        Some(ServingCanary {
            build: self.build(),
            rollout: canary.rollout.clone(),
        })
    }

    /// Returns the build of this generation.
    pub(super) fn build(&self) -> ServingBuild {
        ServingBuild {
            generation: self.number,
            digest: self.digest,
            loaded_at_ms: self.loaded_at_ms.load(Ordering::Relaxed),
            source: *self.source.lock(),
        }
    }

    /// Returns whether this is the first timer that the plugin does not handle; only that one is
    /// logged.
    pub(super) fn is_first_unheard_timer(&self) -> bool {
        !self.has_logged_timers.swap(true, Ordering::Relaxed)
    }
}
