//! Interest: which uids and groups each peer holds, and how many clients of each.
//!
//! The peers tell this themselves, on the same stream as everything else. The interest is kept in
//! memory, so that a message finds the holders of its target, and a count its value, without a
//! question to any node. The interest of a peer ends with its incarnation. For each name that a
//! peer holds, the interest takes about 120 bytes (docs/mesh.md).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::RwLock;
use smallvec::SmallVec;

use super::servers::Servers;
use super::snapshot::Snapshot;
use crate::id::Incarnation;
use crate::registry::{Kind, Names};

/// How many names are checked under one lock while a peer's names are removed.
const NAMES_A_LOCK: usize = 4096;

/// The interest of all peers, for all plugins.
#[derive(Debug, Default)]
pub struct Interest {
    spaces: RwLock<BTreeMap<Arc<str>, Arc<Space>>>,
}

/// The interest of all peers, for one plugin.
#[derive(Debug, Default)]
pub struct Space {
    clients: RwLock<Holders>,
    /// The firing rank of each peer for the plugin's timers, in the place of a number of clients.
    fires: RwLock<Holders>,
    /// The nodes that run the plugin.
    pub(super) servers: RwLock<Servers>,
    uids: Names<Holders>,
    groups: Names<Holders>,
}

/// The nodes that hold a name, with the number of its clients. Usually this is one node.
type Holders = SmallVec<[Holder; 1]>;

/// A node, and how many clients of a name or a plugin it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The node that holds the name.
    pub node: Incarnation,
    /// The number of clients on that node.
    pub clients: u32,
    /// The number of the full snapshot that this entry belongs to, or came after.
    snapshot: u32,
}

/// How much a node holds, for all plugins together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// The number of clients.
    pub clients: u64,
    /// The number of uids.
    pub uids: u64,
    /// The number of groups.
    pub groups: u64,
}

impl Interest {
    /// The interest of the peers for a plugin, if any peer has said anything about it.
    pub fn space(&self, plugin: &str) -> Option<Arc<Space>> {
        self.spaces.read().get(plugin).cloned()
    }

    /// The interest of the peers for a plugin; an empty entry is made if there is none.
    pub(super) fn space_of(&self, plugin: &str) -> Arc<Space> {
        if let Some(space) = self.space(plugin) {
            return space;
        }
        let mut spaces = self.spaces.write();
        spaces.entry(plugin.into()).or_default().clone()
    }

    /// All plugins that any peer has said anything about.
    pub(super) fn spaces(&self) -> Vec<(Arc<str>, Arc<Space>)> {
        let spaces = self.spaces.read();
        let spaces = spaces.iter();
        spaces
            .map(|(plugin, space)| (plugin.clone(), space.clone()))
            .collect()
    }

    /// Removes what a node said before its `snapshot` began. Call this when the snapshot is
    /// complete.
    pub(super) fn forget_before(&self, snapshot: Snapshot) {
        for (_, space) in self.spaces() {
            drop_older(&mut space.clients.write(), snapshot);
            drop_older(&mut space.fires.write(), snapshot);
            space.servers.write().drop_older(snapshot);
            forget_before(&space.uids, snapshot);
            forget_before(&space.groups, snapshot);
        }
    }

    /// Removes everything that a node held, when the node is gone.
    pub(super) fn forget(&self, node: Incarnation) {
        let number = u32::MAX;
        self.forget_before(Snapshot { node, number });
    }

    /// How much a node holds. This walks all names, so it is for rare calls only.
    pub fn sizes(&self, node: Incarnation) -> Sizes {
        let mut sizes = Sizes::default();
        for (_, space) in self.spaces() {
            let clients = space
                .nodes()
                .into_iter()
                .filter(|holder| holder.node == node);
            sizes.clients += clients.map(|holder| u64::from(holder.clients)).sum::<u64>();
            sizes.uids += held_by(&space.uids, node);
            sizes.groups += held_by(&space.groups, node);
        }
        sizes
    }
}

impl Space {
    /// The nodes that hold clients of this uid or group.
    pub fn holders(&self, kind: Kind, name: &str) -> SmallVec<[Holder; 1]> {
        let shard = self.names(kind).shard(name).read();
        shard.get(name).cloned().unwrap_or_default()
    }

    /// The nodes that hold any clients of the plugin.
    pub fn nodes(&self) -> SmallVec<[Holder; 1]> {
        self.clients.read().clone()
    }

    /// The firing rank of each peer that fires the plugin's timers.
    pub(super) fn firing(&self) -> Vec<(Incarnation, u32)> {
        let holders = self.fires.read();
        holders
            .iter()
            .map(|holder| (holder.node, holder.clients))
            .collect()
    }

    /// Up to `limit` names of uids or groups that come after `after`, in order.
    pub fn names_after(&self, kind: Kind, after: Option<&str>, limit: usize) -> Vec<Arc<str>> {
        self.names(kind).after(after, limit)
    }

    /// Notes that a peer holds `clients` of the plugin.
    pub(super) fn note_clients(&self, snapshot: Snapshot, clients: u64) {
        note(&mut self.clients.write(), snapshot, clients);
    }

    /// Notes a peer's firing rank for the plugin's timers, where 0 means none; true if it had none
    /// before.
    pub(super) fn note_fires(&self, snapshot: Snapshot, fires: u32) -> bool {
        note(&mut self.fires.write(), snapshot, u64::from(fires))
    }

    /// Notes that a peer holds `clients` of this uid or group; true if it held none before.
    pub(super) fn note(&self, kind: Kind, name: &str, snapshot: Snapshot, clients: u64) -> bool {
        let mut shard = self.names(kind).shard(name).write();
        if let Some(holders) = shard.get_mut(name) {
            let is_new = note(holders, snapshot, clients);
            if holders.is_empty() {
                shard.remove(name);
            }
            return is_new;
        }
        if clients == 0 {
            return false;
        }
        let holders = shard.entry(name.into()).or_default();
        note(holders, snapshot, clients)
    }

    fn names(&self, kind: Kind) -> &Names<Holders> {
        match kind {
            Kind::Uid => &self.uids,
            Kind::Group => &self.groups,
        }
    }
}

fn held_by(names: &Names<Holders>, node: Incarnation) -> u64 {
    names.count_where(|holders| holders.iter().any(|holder| holder.node == node))
}

/// Removes what a node said before its `snapshot` began. This does not hold one lock all the time,
/// since messages look up their targets here.
fn forget_before(names: &Names<Holders>, snapshot: Snapshot) {
    for shard in names.shards() {
        let mut after: Option<Arc<str>> = None;
        loop {
            let mut shard = shard.write();
            let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut emptied = Vec::new();
            let mut last = None;
            for (name, holders) in shard
                .range_mut::<str, _>((from, Bound::Unbounded))
                .take(NAMES_A_LOCK)
            {
                drop_older(holders, snapshot);
                if holders.is_empty() {
                    emptied.push(name.clone());
                }
                last = Some(name.clone());
            }
            for name in emptied {
                shard.remove(&name);
            }
            match last {
                Some(last) => after = Some(last),
                None => break,
            }
        }
    }
}

/// Sets the count of a holder; true if it held none before.
fn note(holders: &mut Holders, snapshot: Snapshot, clients: u64) -> bool {
    let Snapshot { node, number } = snapshot;
    let place = holders.iter().position(|holder| holder.node == node);
    let clients = u32::try_from(clients).unwrap_or(u32::MAX);
    match (place, clients) {
        (Some(place), 0) => {
            holders.swap_remove(place);
        }
        (None, 0) => {}
        (Some(place), _) => {
            holders[place].clients = clients;
            holders[place].snapshot = number;
        }
        (None, _) => holders.push(Holder {
            node,
            clients,
            snapshot: number,
        }),
    }
    place.is_none() && clients > 0
}

fn drop_older(holders: &mut Holders, snapshot: Snapshot) {
    holders.retain(|holder| holder.node != snapshot.node || holder.snapshot >= snapshot.number);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(node: Incarnation, number: u32) -> Snapshot {
        Snapshot { node, number }
    }

    fn nodes<const N: usize>() -> [Incarnation; N] {
        std::array::from_fn(|_| Incarnation::draw().expect("randomness"))
    }

    #[test]
    fn the_last_word_on_a_name_counts() {
        let interest = Interest::default();
        let [ada, bob] = nodes();
        let space = interest.space_of("chat");
        assert!(space.note(Kind::Group, "lobby", snapshot(ada, 1), 2));
        assert!(space.note(Kind::Group, "lobby", snapshot(bob, 1), 1));
        assert!(!space.note(Kind::Group, "lobby", snapshot(ada, 1), 3));
        let mut holders: Vec<_> = space
            .holders(Kind::Group, "lobby")
            .iter()
            .map(|holder| (holder.node, holder.clients))
            .collect();
        holders.sort();
        let mut expected = vec![(ada, 3), (bob, 1)];
        expected.sort();
        assert_eq!(holders, expected);
        assert!(space.holders(Kind::Uid, "lobby").is_empty());
        let sizes = interest.sizes(ada);
        assert_eq!((sizes.uids, sizes.groups), (0, 1));

        space.note(Kind::Group, "lobby", snapshot(ada, 1), 0);
        space.note(Kind::Group, "lobby", snapshot(bob, 1), 0);
        assert!(space.names_after(Kind::Group, None, 10).is_empty());
    }

    #[test]
    fn a_new_picture_replaces_the_one_before_and_a_gone_node_holds_nothing() {
        let interest = Interest::default();
        let [ada, bob] = nodes();
        let space = interest.space_of("chat");
        for name in 0..3 * NAMES_A_LOCK {
            space.note(Kind::Uid, &name.to_string(), snapshot(ada, 1), 1);
        }
        space.note(Kind::Uid, "7", snapshot(bob, 1), 1);
        space.note_clients(snapshot(ada, 1), 9);
        space.note(Kind::Uid, "8", snapshot(ada, 2), 1);
        interest.forget_before(snapshot(ada, 2));
        assert_eq!(interest.sizes(ada).uids, 1);
        assert_eq!(interest.sizes(bob).uids, 1);
        assert!(space.nodes().is_empty());

        interest.forget(ada);
        assert_eq!(
            space.names_after(Kind::Uid, None, 10),
            ["7"].map(Arc::<str>::from)
        );
    }

    #[test]
    fn names_come_in_order_page_by_page() {
        let interest = Interest::default();
        let [ada] = nodes();
        let space = interest.space_of("chat");
        for name in ["c", "a", "e", "b", "d"] {
            space.note(Kind::Uid, name, snapshot(ada, 1), 1);
        }
        let page = |after| space.names_after(Kind::Uid, after, 2);
        assert_eq!(page(None), ["a", "b"].map(Arc::<str>::from));
        assert_eq!(page(Some("b")), ["c", "d"].map(Arc::<str>::from));
        assert_eq!(page(Some("d")), ["e"].map(Arc::<str>::from));
    }
}
