//! Changes: which uids and groups have another number of clients here than before, for
//! whoever tells the other nodes.
//!
//! A set and no queue: a name that changes a hundred times before somebody looks is told once,
//! with the number it then has. So it holds at most the names that there are and were since.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// What a name names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A uid.
    Uid,
    /// A group.
    Group,
}

/// What has changed since the last look, for each plugin.
#[derive(Debug, Default)]
pub struct Changes {
    changed: Mutex<BTreeMap<Arc<str>, Changed>>,
    is_pending: AtomicBool,
    something: Notify,
}

/// What has changed of one plugin.
#[derive(Debug, Default)]
pub struct Changed {
    /// The number of its clients.
    pub clients: bool,
    /// Numbers of its uids' clients.
    pub uids: BTreeSet<Arc<str>>,
    /// Numbers of its groups' members.
    pub groups: BTreeSet<Arc<str>>,
    /// Whether its timers fire here.
    pub fires: bool,
    /// How it is run here.
    pub serving: bool,
    /// Timers of the cluster.
    pub timers: BTreeSet<Arc<str>>,
}

impl Changes {
    /// What has changed since the last call.
    pub fn take(&self) -> BTreeMap<Arc<str>, Changed> {
        std::mem::take(&mut *self.changed.lock())
    }

    /// What was taken has been told. Until then it is pending: whoever must not speak before
    /// it is told waits for that.
    pub fn told(&self) {
        let changed = self.changed.lock();
        if changed.is_empty() {
            self.is_pending.store(false, Ordering::Release);
        } else {
            self.something.notify_one();
        }
    }

    /// Whether something has changed that has not been told.
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

    fn added(&self) {
        // One wake-up for all that is added until somebody looks.
        if !self.is_pending.swap(true, Ordering::AcqRel) {
            self.something.notify_one();
        }
    }
}
