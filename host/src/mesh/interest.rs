//! Interest: which uids and groups each peer holds, and how many clients of each.
//!
//! The peers tell this themselves, on the same stream as everything else. The interest is kept in
//! memory, so that a message finds the holders of its target, and a count its value, without a
//! question to any node. The interest of a peer ends with its incarnation. For each name that a
//! peer holds, the interest takes about 120 bytes (docs/mesh.md). How much a peer may tell is
//! bounded (`holdings.rs`).

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::holdings::{HoldingSize, name_cost};
use super::servers::Servers;
use super::snapshot::Snapshot;
use crate::id::{ClientId, Incarnation};
use crate::registry::{Kind, Names};

/// How many names are checked under one lock while a peer's names are removed.
const NAMES_A_LOCK: usize = 4096;

/// The most plugins that are remembered only because a node that had them was lost. Of more, those
/// that were lost first are forgotten.
const ORPHANS: usize = 1000;

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
    /// The nodes of the clients that have moved there from others.
    moved: RwLock<HashMap<ClientId, MovedTo>>,
}

/// Where a client has moved to.
#[derive(Clone, Copy, Debug)]
pub(super) struct MovedTo {
    /// The node, and the snapshot of it that this belongs to, or came after.
    pub(super) snapshot: Snapshot,
    /// The number of the move.
    pub(super) number: u64,
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

/// What has become of a name, when a peer has told how many clients it has of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// The peer holds some clients, and held none before.
    New,
    /// The peer holds some clients as before, or none as before.
    AsBefore,
    /// The peer holds none any more.
    Gone,
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

    /// Removes what a node said before its `snapshot` began, and returns how much that was. Call
    /// this when the snapshot is complete.
    pub(super) fn forget_before(&self, snapshot: Snapshot) -> HoldingSize {
        let mut freed = HoldingSize::default();
        for (_, space) in self.spaces() {
            let before = space.held_by(snapshot.node);
            drop_older(&mut space.clients.write(), snapshot);
            drop_older(&mut space.fires.write(), snapshot);
            space.servers.write().drop_older(snapshot);
            freed.bytes += space.forget_moved_before(snapshot);
            let after = space.held_by(snapshot.node);
            freed.plugins += before.plugins.saturating_sub(after.plugins);
            freed.bytes += before.bytes.saturating_sub(after.bytes);
            freed.bytes += forget_before(&space.uids, snapshot);
            freed.bytes += forget_before(&space.groups, snapshot);
        }
        freed
    }

    /// Removes everything that a node held, when the node is gone.
    pub(super) fn forget(&self, node: Incarnation) {
        let number = u32::MAX;
        self.forget_before(Snapshot { node, number });
    }

    /// Removes the plugins about which no peer says anything any more. A plugin whose last node was
    /// lost is remembered for `lasting`, and for as long as it `is_needed`. Returns whether any
    /// plugin was removed.
    pub(super) fn prune(&self, lasting: Duration, is_needed: impl Fn(&str) -> bool) -> bool {
        let mut spaces = self.spaces.write();
        let before = spaces.len();
        let empty = spaces.values().filter(|space| space.is_empty());
        let orphaned = |space: &Arc<Space>| space.servers.read().orphaned_since;
        let mut orphans: Vec<Instant> = empty.filter_map(orphaned).collect();
        orphans.sort_unstable();
        let last_beyond = orphans.len().checked_sub(ORPHANS + 1);
        let last_beyond = last_beyond.map(|last| orphans[last]);
        let is_forgotten = |since: Instant| since.elapsed() > lasting || Some(since) <= last_beyond;
        spaces.retain(|plugin, space| {
            // Somebody may just be noting something about it. While the lock is held, nobody new
            // can get at it.
            Arc::strong_count(space) > 1
                || !space.is_empty()
                || orphaned(space).is_some_and(|since| !is_forgotten(since) || is_needed(plugin))
        });
        spaces.len() < before
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

    /// Whether the node holds clients of the plugin.
    pub(super) fn has_clients_of(&self, node: Incarnation) -> bool {
        is_among(&self.clients.read(), node)
    }

    /// The node that the client has moved to, if it has moved.
    pub fn moved_to(&self, client: ClientId) -> Option<Incarnation> {
        let moved = self.moved.read();
        moved.get(&client).map(|at| at.snapshot.node)
    }

    /// The number of the client's last move to another node, if it has moved.
    pub(super) fn last_move(&self, client: ClientId) -> Option<u64> {
        self.moved.read().get(&client).map(|at| at.number)
    }

    /// Notes that a client has moved to a peer, or is no longer there. What is said of an earlier move
    /// than the last one does not count.
    pub(super) fn note_moved(&self, client: ClientId, at: MovedTo, is_there: bool) -> Noted {
        let mut moved = self.moved.write();
        let former = moved.get(&client).copied();
        if former.is_some_and(|former| former.number > at.number) {
            return Noted::AsBefore;
        }
        let was_there = former.is_some_and(|former| former.snapshot.node == at.snapshot.node);
        match (is_there, was_there) {
            (true, _) => {
                moved.insert(client, at);
                if was_there {
                    Noted::AsBefore
                } else {
                    Noted::New
                }
            }
            (false, true) => {
                moved.remove(&client);
                Noted::Gone
            }
            (false, false) => Noted::AsBefore,
        }
    }

    /// Removes the clients that a node has said before its `snapshot` began to have, and returns what
    /// they counted.
    fn forget_moved_before(&self, snapshot: Snapshot) -> usize {
        let mut moved = self.moved.write();
        let before = moved.len();
        moved.retain(|_, at| {
            at.snapshot.node != snapshot.node || at.snapshot.number >= snapshot.number
        });
        (before - moved.len()) * HoldingSize::MOVED_CLIENT.bytes
    }

    /// Whether the node holds this uid or group.
    pub(super) fn holds(&self, kind: Kind, name: &str, node: Incarnation) -> bool {
        let shard = self.names(kind).shard(name).read();
        shard
            .get(name)
            .is_some_and(|holders| is_among(holders, node))
    }

    /// How much the node holds of the plugin, without its uids and groups.
    pub(super) fn held_by(&self, node: Incarnation) -> HoldingSize {
        let texts = self.servers.read().text_bytes(node);
        let is_held =
            texts.is_some() || self.has_clients_of(node) || is_among(&self.fires.read(), node);
        HoldingSize {
            plugins: usize::from(is_held),
            bytes: texts.unwrap_or_default(),
        }
    }

    /// Whether no peer says anything about the plugin.
    fn is_empty(&self) -> bool {
        self.clients.read().is_empty()
            && self.fires.read().is_empty()
            && self.servers.read().nodes.is_empty()
            && self.moved.read().is_empty()
            && self.uids.count() == 0
            && self.groups.count() == 0
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
        note(&mut self.fires.write(), snapshot, u64::from(fires)) == Noted::New
    }

    /// Notes that a peer holds `clients` of this uid or group.
    pub(super) fn note(&self, kind: Kind, name: &str, snapshot: Snapshot, clients: u64) -> Noted {
        let mut shard = self.names(kind).shard(name).write();
        if let Some(holders) = shard.get_mut(name) {
            let noted = note(holders, snapshot, clients);
            if holders.is_empty() {
                shard.remove(name);
            }
            return noted;
        }
        if clients == 0 {
            return Noted::AsBefore;
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

fn is_among(holders: &Holders, node: Incarnation) -> bool {
    holders.iter().any(|holder| holder.node == node)
}

/// Removes what a node said before its `snapshot` began, and returns what that counted. This does
/// not hold one lock all the time, since messages look up their targets here.
fn forget_before(names: &Names<Holders>, snapshot: Snapshot) -> usize {
    let mut freed = 0;
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
                let before = holders.len();
                drop_older(holders, snapshot);
                if holders.len() < before {
                    freed += name_cost(name);
                }
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
    freed
}

/// Sets the count of a holder.
fn note(holders: &mut Holders, snapshot: Snapshot, clients: u64) -> Noted {
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
    match place {
        None if clients > 0 => Noted::New,
        Some(_) if clients == 0 => Noted::Gone,
        _ => Noted::AsBefore,
    }
}

fn drop_older(holders: &mut Holders, snapshot: Snapshot) {
    holders.retain(|holder| holder.node != snapshot.node || holder.snapshot >= snapshot.number);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Serving, ServingState};

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
        let note = |node, clients| space.note(Kind::Group, "lobby", snapshot(node, 1), clients);
        assert_eq!(note(ada, 2), Noted::New);
        assert_eq!(note(bob, 1), Noted::New);
        assert_eq!(note(ada, 3), Noted::AsBefore);
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

        assert_eq!(note(ada, 0), Noted::Gone);
        assert_eq!(note(bob, 0), Noted::Gone);
        assert_eq!(note(bob, 0), Noted::AsBefore);
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
        let told = (0..3 * NAMES_A_LOCK).map(|name| name_cost(&name.to_string()));
        let freed = interest.forget_before(snapshot(ada, 2));
        let plugins = 1;
        let bytes = told.sum::<usize>() - name_cost("0");
        assert_eq!(freed, HoldingSize { plugins, bytes });
        assert_eq!(interest.sizes(ada).uids, 1);
        assert_eq!(interest.sizes(bob).uids, 1);
        assert!(space.nodes().is_empty());

        interest.forget(ada);
        assert_eq!(
            space.names_after(Kind::Uid, None, 10),
            ["7"].map(Arc::<str>::from)
        );
    }

    fn open() -> Serving {
        Serving {
            state: ServingState::Open,
            ..Serving::default()
        }
    }

    const LASTING: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_plugin_of_which_nobody_says_anything_is_forgotten() {
        let interest = Interest::default();
        let [ada] = nodes();
        interest.space_of("empty");
        let (held, lost) = (interest.space_of("held"), interest.space_of("lost"));
        held.note_clients(snapshot(ada, 1), 1);
        lost.servers.write().note(snapshot(ada, 1), open());
        lost.servers.write().drop_older(snapshot(ada, 2));
        drop(lost);
        let left = |needed| {
            interest.prune(LASTING, |plugin| Some(plugin) == needed);
            let left = interest.spaces().into_iter();
            left.map(|(plugin, _)| plugin.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(left(None), ["held", "lost"], "it may come back");
        tokio::time::advance(LASTING * 2).await;
        assert_eq!(left(Some("lost")), ["held", "lost"], "it has clients here");
        held.note_clients(snapshot(ada, 1), 0);
        assert_eq!(left(None), ["held"], "somebody may note something about it");
        drop(held);
        assert!(left(None).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn of_too_many_lost_plugins_the_first_are_forgotten() {
        let interest = Interest::default();
        let [ada] = nodes();
        for number in 0..ORPHANS + 2 {
            let space = interest.space_of(&number.to_string());
            space.servers.write().note(snapshot(ada, 1), open());
            space.servers.write().drop_older(snapshot(ada, 2));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(interest.prune(LASTING, |_| false));
        assert_eq!(interest.spaces().len(), ORPHANS);
        let is_known = |plugin| interest.space(plugin).is_some();
        assert!(!is_known("0") && !is_known("1") && is_known("2"));
        assert!(!interest.prune(LASTING, |_| false));
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
