//! The registry: the clients that are connected to this node.
//!
//! Each plugin has a `Namespace` with its clients, uids and groups: `chat` cannot see or reach the
//! clients of `ticker`. All calls are synchronous, and their cost depends only on what they touch.
//! The locks of two clients are never held at the same time. Locks are taken in this order: a
//! client's own state, then an index shard, then an outbox.

mod changes;
mod client;
mod client_status;
mod clock;
mod dirty;
mod events;
mod gate;
mod held_state;
mod index;
mod names;
mod namespace;
mod refused;
mod sending;
mod serving;
mod shared;
mod timers;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Weak};

use parking_lot::RwLock;

pub use changes::{Changed, Changes, Kind};
pub use client::{Arrival, Client, Close, Closer, Departure, Ending};
pub use client_status::{ClientStatus, address_text};
pub use clock::{Clock, in_ms, ms_since_1970, now_ms};
pub use dirty::{DirtyList, DirtyLists, HoldingDirty};
pub use events::{Event, EventKind, Events, Watcher};
pub use gate::MoveSide;
pub use held_state::{HeldState, Info};
pub use names::Names;
pub use namespace::{Binding, Namespace};
pub use refused::Refused;
pub use serving::{Serving, ServingBuild, ServingCanary, ServingSource, ServingState};
pub use shared::NodeState;
pub use timers::{Firing, Schedule, Scope, TimerRecord, Timers, Version};

use crate::counters::Counters;
use crate::id::Incarnation;
use crate::limits::Limits;
use crate::tracer::Tracer;

/// The clients of a node, grouped by their plugins.
#[derive(Debug)]
pub struct Registry {
    shared: Arc<NodeState>,
    /// The namespaces by the names of their plugins. The owner of a plugin keeps its namespace
    /// alive.
    namespaces: RwLock<BTreeMap<Arc<str>, Weak<Namespace>>>,
}

impl Registry {
    /// An empty registry, with the clock of the system. `sweepers` is the number of tasks that write to
    /// dirty clients; `is_meshed` means that changes are recorded for other nodes.
    pub fn new(
        incarnation: Incarnation,
        limits: Limits,
        counters: Arc<Counters>,
        tracer: Tracer,
        sweepers: usize,
        is_meshed: bool,
    ) -> Arc<Registry> {
        let clock = Clock::default();
        Registry::with_clock(
            incarnation,
            limits,
            counters,
            tracer,
            sweepers,
            is_meshed,
            clock,
        )
    }

    /// An empty registry, as `new` makes it, with another clock for plugins.
    pub fn with_clock(
        incarnation: Incarnation,
        limits: Limits,
        counters: Arc<Counters>,
        tracer: Tracer,
        sweepers: usize,
        is_meshed: bool,
        clock: Clock,
    ) -> Arc<Registry> {
        let shared = NodeState::new(
            incarnation,
            limits,
            counters,
            tracer,
            sweepers,
            is_meshed,
            clock,
        );
        Arc::new(Registry {
            shared: Arc::new(shared),
            namespaces: RwLock::default(),
        })
    }

    /// Adds an empty namespace for a plugin, in place of a former namespace of that name.
    pub fn open(&self, plugin: &str) -> Arc<Namespace> {
        let plugin: Arc<str> = plugin.into();
        let namespace = Namespace::new(&plugin, &self.shared);
        let mut namespaces = self.namespaces.write();
        // Those of plugins that other nodes had once.
        namespaces.retain(|_, namespace| namespace.strong_count() > 0);
        namespaces.insert(plugin, Arc::downgrade(&namespace));
        namespace
    }

    /// The namespace of a plugin, if the plugin is on this node or its namespace is still in use.
    pub fn namespace(&self, plugin: &str) -> Option<Arc<Namespace>> {
        self.namespaces.read().get(plugin).and_then(Weak::upgrade)
    }

    /// The namespaces of all plugins.
    pub fn namespaces(&self) -> Vec<Arc<Namespace>> {
        self.namespaces
            .read()
            .values()
            .filter_map(Weak::upgrade)
            .collect()
    }
}

impl Deref for Registry {
    type Target = NodeState;

    fn deref(&self) -> &NodeState {
        &self.shared
    }
}
