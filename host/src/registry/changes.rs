//! Changes: the uids and groups whose number of clients on this node has changed, for the task that
//! tells the other nodes.
//!
//! The changes are a set and not a queue: a name that changes a hundred times before the task looks
//! is told once, with its last number. The set thus holds at most the names that exist or have
//! existed since the last look.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::id::ClientId;

/// The kind of a name: uid or group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The name is a uid.
    Uid,
    /// The name is a group.
    Group,
}

/// The changes since they were last taken, for each plugin.
#[derive(Debug, Default)]
pub struct Changes {
    changed: Mutex<BTreeMap<Arc<str>, Changed>>,
    is_pending: AtomicBool,
    something: Notify,
}

/// The changes of one plugin.
#[derive(Debug, Default)]
pub struct Changed {
    /// Whether the plugin's number of clients has changed.
    pub clients: bool,
    /// The uids whose number of clients has changed.
    pub uids: BTreeSet<Arc<str>>,
    /// The groups whose number of members has changed.
    pub groups: BTreeSet<Arc<str>>,
    /// Whether this node's firing rank for the plugin's timers may have changed.
    pub fires: bool,
    /// Whether the way in which this node serves the plugin has changed.
    pub serving: bool,
    /// The timers of the cluster that have changed.
    pub timers: BTreeSet<Arc<str>>,
    /// The clients of other nodes' ids that this node has, or has no more, each with the number of
    /// the move that has brought it here.
    pub adopted: BTreeMap<ClientId, u64>,
}

impl Changes {
    /// Takes the changes since the last call.
    pub fn take(&self) -> BTreeMap<Arc<str>, Changed> {
        std::mem::take(&mut *self.changed.lock())
    }

    /// Marks the changes that were taken as told. Until then these changes are pending, so that
    /// whoever must not send anything before them can wait. Newer changes stay pending.
    pub fn told(&self) {
        let changed = self.changed.lock();
        if changed.is_empty() {
            self.is_pending.store(false, Ordering::Release);
        } else {
            self.something.notify_one();
        }
    }

    /// Whether there are changes that have not been told yet.
    pub fn is_pending(&self) -> bool {
        self.is_pending.load(Ordering::Acquire)
    }

    /// Waits until something has changed.
    pub async fn something(&self) {
        self.something.notified().await;
    }

    pub(super) fn add_clients(&self, plugin: &Arc<str>) {
        let mut changed = self.changed.lock();
        changed.entry(plugin.clone()).or_default().clients = true;
        self.added();
    }

    pub(super) fn add(&self, plugin: &Arc<str>, kind: Kind, name: &Arc<str>) {
        let mut changed = self.changed.lock();
        let changed = changed.entry(plugin.clone()).or_default();
        let names = match kind {
            Kind::Uid => &mut changed.uids,
            Kind::Group => &mut changed.groups,
        };
        names.insert(name.clone());
        self.added();
    }

    pub(super) fn add_fires(&self, plugin: &Arc<str>) {
        let mut changed = self.changed.lock();
        changed.entry(plugin.clone()).or_default().fires = true;
        self.added();
    }

    pub(super) fn add_serving(&self, plugin: &Arc<str>) {
        let mut changed = self.changed.lock();
        changed.entry(plugin.clone()).or_default().serving = true;
        self.added();
    }

    pub(super) fn add_timer(&self, plugin: &Arc<str>, name: &Arc<str>) {
        let mut changed = self.changed.lock();
        let changed = changed.entry(plugin.clone()).or_default();
        changed.timers.insert(name.clone());
        self.added();
    }

    pub(super) fn add_adopted(&self, plugin: &Arc<str>, client: ClientId, number: u64) {
        let mut changed = self.changed.lock();
        let changed = changed.entry(plugin.clone()).or_default();
        changed.adopted.insert(client, number);
        self.added();
    }

    fn added(&self) {
        // One wake-up for all that is added until somebody looks.
        if !self.is_pending.swap(true, Ordering::AcqRel) {
            self.something.notify_one();
        }
    }
}
