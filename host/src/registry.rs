//! The registry: who is connected to this node.
//!
//! Clients, uids and groups, a `Namespace` for each plugin: `chat` cannot see or reach the
//! clients of `ticker`. Everything here is synchronous and bounded by what it touches; no
//! lock is held while another client's is taken, in this order: a client's own state, then an
//! index shard, then an outbox.

mod changes;
mod client;
mod dirty;
mod events;
mod index;
mod names;
mod namespace;
mod serving;
mod timers;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::RwLock;

pub use changes::{Changed, Changes, Kind};
pub use client::{Client, Close, Closer, Departure, Ending, Info};
pub use dirty::{DirtyList, DirtyLists};
pub use events::{Event, Events, Happened, Watcher};
pub use names::Names;
pub use namespace::{Binding, Namespace, Refused};
pub use serving::{Serving, ServingState};
pub use timers::{Firing, Known, Schedule, Scope, Timers, Version};

use crate::counters::Counters;
use crate::id::{ClientId, Incarnation};
use crate::limits::Limits;

/// What the namespaces of a node share.
#[derive(Debug)]
pub struct Registry {
    incarnation: Incarnation,
    next: AtomicU64,
    random: RandomState,
    dirty: DirtyLists,
    limits: Limits,
    counters: Arc<Counters>,
    /// By their plugins' names. Whoever runs the plugin keeps it.
    namespaces: RwLock<BTreeMap<Arc<str>, Weak<Namespace>>>,
    /// For whoever tells the other nodes, where there are any.
    changes: Option<Changes>,
    /// For whoever watches.
    events: Arc<Events>,
}

impl Registry {
    /// An empty one, whose dirty clients `sweepers` tasks will write. `is_meshed`: it keeps
    /// account of what changes.
    pub fn new(
        incarnation: Incarnation,
        limits: Limits,
        counters: Arc<Counters>,
        sweepers: usize,
        is_meshed: bool,
    ) -> Arc<Registry> {
        Arc::new(Registry {
            incarnation,
            next: AtomicU64::new(1),
            random: RandomState::new(),
            dirty: DirtyLists::new(sweepers),
            limits,
            counters,
            namespaces: RwLock::default(),
            changes: is_meshed.then(Changes::default),
            events: Arc::default(),
        })
    }

    /// The clients of the plugin of that name, if it is, or was, on this node.
    pub fn namespace(&self, plugin: &str) -> Option<Arc<Namespace>> {
        self.namespaces.read().get(plugin).and_then(Weak::upgrade)
    }

    /// The clients of all plugins.
    pub fn namespaces(&self) -> Vec<Arc<Namespace>> {
        self.namespaces
            .read()
            .values()
            .filter_map(Weak::upgrade)
            .collect()
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
    fn next_id(&self) -> ClientId {
        let counter = self.next.fetch_add(1, Ordering::Relaxed);
        ClientId::new(
            self.incarnation,
            counter,
            self.random.hash_one(counter) as u32,
        )
    }
}

/// The time, in milliseconds since 1970.
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
