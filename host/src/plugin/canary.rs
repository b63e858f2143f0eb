//! A canary: a generation that handles the events of a part of the clients, beside the generation of
//! all others.
//!
//! Both are compared since the canary began. The canary either takes over for all clients, and the
//! other generation ends; or it ends itself, and its clients have the other one.

use std::sync::Arc;
use std::time::Duration;

use crate::histogram::HistogramSnapshot;
use crate::rollout::Rollout;

/// What a generation is as a canary.
#[derive(Debug)]
pub(super) struct Canary {
    /// The clients that it is for.
    pub(super) rollout: Arc<Rollout>,
    /// When both began to be compared on this node, in milliseconds since 1970.
    pub(super) since_ms: u64,
    /// What the generation of the others had done before that.
    pub(super) before: BuildRecord,
    /// What the canary had done before that.
    pub(super) canary_before: BuildRecord,
}

/// What a generation has done.
#[derive(Clone, Debug, Default)]
pub(super) struct BuildRecord {
    pub(super) events: u64,
    pub(super) failures: u64,
    pub(super) messages: HistogramSnapshot,
}

impl BuildRecord {
    /// Returns what was done since then.
    pub(super) fn since(&self, before: &BuildRecord) -> BuildRecord {
        BuildRecord {
            events: self.events.saturating_sub(before.events),
            failures: self.failures.saturating_sub(before.failures),
            messages: self.messages.since(&before.messages),
        }
    }

    /// Returns how long messages took at the 99th percentile, and how many there were.
    pub(super) fn p99(&self) -> (Option<Duration>, u64) {
        (self.messages.percentile(99), self.messages.count())
    }
}

/// What a canary and the generation of the others have done since the canary began.
pub(super) struct Comparison {
    pub(super) stable: BuildRecord,
    pub(super) canary: BuildRecord,
}
