//! The registry: who is connected to this node.
//!
//! Clients, uids and groups, a `Namespace` for each plugin: `chat` cannot see or reach the
//! clients of `ticker`. Everything here is synchronous and bounded by what it touches; no
//! lock is held while another client's is taken, in this order: a client's own state, then an
//! index shard, then an outbox.

mod client;
mod dirty;
mod index;
mod namespace;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use client::{Client, Close, Closer, Departure, Ending, Info};
pub use dirty::{DirtyList, DirtyLists};
pub use namespace::{Namespace, Page, Refused};

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
}

impl Registry {
    /// An empty one, whose dirty clients `sweepers` tasks will write.
    pub fn new(
        incarnation: Incarnation,
        limits: Limits,
        counters: Arc<Counters>,
        sweepers: usize,
    ) -> Arc<Registry> {
        Arc::new(Registry {
            incarnation,
            next: AtomicU64::new(1),
            random: RandomState::new(),
            dirty: DirtyLists::new(sweepers),
            limits,
            counters,
        })
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
