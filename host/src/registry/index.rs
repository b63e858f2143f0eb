//! An index: from a name (a uid or a group) to the clients that have it.
//!
//! A name exists while it has members. A walk through the members holds a shard's lock for a
//! limited number of members at a time, so a large group does not block the other names.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::changes::Kind;
use super::client::{ADOPTED_KEYS, Client};
use super::events::{EventKind, Events};
use super::names::Names;
use crate::id::ClientId;

/// How many members are visited under one lock, for some 50 µs.
const MEMBERS_A_LOCK: usize = 1024;

/// The clients of one name, by the counters in their ids.
pub(super) type Members = BTreeMap<u64, Arc<Client>>;

/// All names of one kind, each with its clients.
#[derive(Debug)]
pub(super) struct Index {
    names: Names<Members>,
    kind: Kind,
    plugin: Arc<str>,
    events: Arc<Events>,
}

impl Index {
    /// An empty index for a plugin.
    pub(super) fn new(kind: Kind, plugin: &Arc<str>, events: &Arc<Events>) -> Index {
        Index {
            names: Names::default(),
            kind,
            plugin: plugin.clone(),
            events: events.clone(),
        }
    }

    /// Adds a client to a name, unless `admit`, which gets the members so far, returns an error.
    pub(super) fn insert<T, E>(
        &self,
        name: &Arc<str>,
        client: &Arc<Client>,
        admit: impl FnOnce(&mut Members) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut shard = self.names.shard(name).write();
        let result = match shard.get_mut(name) {
            Some(members) => admit(members),
            None => admit(&mut Members::new()),
        };
        if result.is_ok() {
            let members = shard.entry(name.clone()).or_insert_with(|| {
                // Under the lock: of one name they come in order.
                let occupied = || EventKind::Occupied(self.kind, name.clone());
                self.events.emit(&self.plugin, occupied);
                Members::new()
            });
            members.insert(client.key(), client.clone());
        }
        result
    }

    /// Removes a client from a name. A name without members is removed, too.
    pub(super) fn remove(&self, name: &str, client: &Client) {
        let mut shard = self.names.shard(name).write();
        if let Some(members) = shard.get_mut(name) {
            members.remove(&client.key());
            if members.is_empty() {
                shard.remove(name);
                let vacated = || EventKind::Vacated(self.kind, name.into());
                self.events.emit(&self.plugin, vacated);
            }
        }
    }

    /// How many clients have this name.
    pub(super) fn count(&self, name: &str) -> usize {
        self.names
            .shard(name)
            .read()
            .get(name)
            .map_or(0, BTreeMap::len)
    }

    /// The number of names in the index.
    pub(super) fn name_count(&self) -> u64 {
        self.names.count()
    }

    /// Visits each member of the name once, as the index is when the visit reaches the member.
    pub(super) fn for_each(&self, name: &str, mut visit: impl FnMut(&Arc<Client>)) {
        let shard = self.names.shard(name);
        walk(|after| {
            let shard = shard.read();
            let members = shard.get(name)?;
            visit_some(members, after, &mut visit)
        });
    }

    /// The members that the name has now.
    pub(super) fn members(&self, name: &str) -> Vec<Arc<Client>> {
        let mut members = Vec::new();
        self.for_each(name, |client| members.push(client.clone()));
        members
    }

    /// Up to `limit` members whose counter is higher than `after`, in order, without those to which
    /// other nodes have given their ids.
    pub(super) fn members_after(
        &self,
        name: &str,
        after: Option<u64>,
        limit: usize,
    ) -> Vec<Arc<Client>> {
        let shard = self.names.shard(name).read();
        let members = shard.get(name).into_iter();
        members
            .flat_map(|members| members.range(later_than(after)))
            .take_while(|(key, _)| **key < ADOPTED_KEYS)
            .map(|(_, c)| c.clone())
            .take(limit)
            .collect()
    }

    /// The members to which other nodes have given their ids.
    pub(super) fn adopted(&self, name: &str) -> Vec<ClientId> {
        let shard = self.names.shard(name).read();
        let members = shard.get(name).into_iter();
        let adopted = members.flat_map(|members| members.range(ADOPTED_KEYS..));
        adopted.map(|(_, client)| client.id()).collect()
    }

    /// Up to `limit` names that come after `after`, in order.
    pub(super) fn names_after(&self, after: Option<&str>, limit: usize) -> Vec<Arc<str>> {
        self.names.after(after, limit)
    }
}

/// Repeats `step` until it returns `None`. A step visits some members after a counter, and returns
/// the counter of the last one.
pub(super) fn walk(mut step: impl FnMut(Option<u64>) -> Option<u64>) {
    let mut after = None;
    while let Some(last) = step(after) {
        after = Some(last);
    }
}

/// Visits a limited number of members after a counter. The result is the counter of the last one,
/// if there may be more.
pub(super) fn visit_some(
    members: &Members,
    after: Option<u64>,
    visit: &mut impl FnMut(&Arc<Client>),
) -> Option<u64> {
    let mut last = None;
    let mut visited = 0;
    for (counter, client) in members.range(later_than(after)).take(MEMBERS_A_LOCK) {
        visit(client);
        last = Some(*counter);
        visited += 1;
    }
    last.filter(|_| visited == MEMBERS_A_LOCK)
}

fn later_than(counter: Option<u64>) -> (Bound<u64>, Bound<u64>) {
    (
        counter.map_or(Bound::Unbounded, Bound::Excluded),
        Bound::Unbounded,
    )
}
