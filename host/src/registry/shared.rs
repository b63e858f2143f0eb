//! What all namespaces of a node share.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::changes::Changes;
use super::dirty::DirtyLists;
use super::events::Events;
use crate::counters::Counters;
use crate::id::{ClientId, Incarnation};
use crate::limits::Limits;

/// The node's own: its limits and counters, and where its clients' changes are told.
#[derive(Debug)]
pub struct Shared {
    incarnation: Incarnation,
    next: AtomicU64,
    random: RandomState,
    dirty: DirtyLists,
    limits: Limits,
    counters: Arc<Counters>,
    /// For whoever tells the other nodes, where there are any.
    changes: Option<Changes>,
    /// For whoever watches.
    events: Arc<Events>,
}

impl Shared {
    pub(super) fn new(
        incarnation: Incarnation,
        limits: Limits,
        counters: Arc<Counters>,
        sweepers: usize,
        is_meshed: bool,
    ) -> Shared {
        Shared {
            incarnation,
            next: AtomicU64::new(1),
            random: RandomState::new(),
            dirty: DirtyLists::new(sweepers),
            limits,
            counters,
            changes: is_meshed.then(Changes::default),
            events: Arc::default(),
        }
    }

    /// What changes, where there are other nodes to be told.
    pub fn changes(&self) -> Option<&Changes> {
        self.changes.as_ref()
    }

    /// What happens, for whoever watches.
    pub fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// This run of the node.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The node's limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The node's counters.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The clients that have something to write.
    pub fn dirty(&self) -> &DirtyLists {
        &self.dirty
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the random part is 25 bits"
    )]
    pub(super) fn next_id(&self) -> ClientId {
        let counter = self.next.fetch_add(1, Ordering::Relaxed);
        ClientId::new(
            self.incarnation,
            counter,
            self.random.hash_one(counter) as u32,
        )
    }
}

/// The time, in milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
