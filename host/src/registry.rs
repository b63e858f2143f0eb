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
mod refused;
mod serving;
mod shared;
mod timers;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Weak};

use parking_lot::RwLock;

pub use changes::{Changed, Changes, Kind};
pub use client::{Client, Close, Closer, Departure, Ending, Info};
pub use dirty::{DirtyList, DirtyLists};
pub use events::{Event, EventKind, Events, Watcher};
pub use names::Names;
pub use namespace::{Binding, Namespace};
pub use refused::Refused;
pub use serving::{Serving, ServingState};
pub use shared::Shared;
pub use timers::{Firing, Schedule, Scope, TimerRecord, Timers, Version};

use crate::counters::Counters;
use crate::id::Incarnation;
use crate::limits::Limits;

/// The clients of a node, by the plugins that they came for.
#[derive(Debug)]
pub struct Registry {
    shared: Arc<Shared>,
    /// By their plugins' names. Whoever runs the plugin keeps it.
    namespaces: RwLock<BTreeMap<Arc<str>, Weak<Namespace>>>,
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
        let shared = Shared::new(incarnation, limits, counters, sweepers, is_meshed);
        Arc::new(Registry {
            shared: Arc::new(shared),
            namespaces: RwLock::default(),
        })
    }

    /// An empty namespace for the plugin of that name, in place of the one it may have had.
    pub fn open(&self, plugin: &str) -> Arc<Namespace> {
        let plugin: Arc<str> = plugin.into();
        let namespace = Namespace::new(&plugin, &self.shared);
        let mut namespaces = self.namespaces.write();
        namespaces.insert(plugin, Arc::downgrade(&namespace));
        namespace
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
}

impl Deref for Registry {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}
