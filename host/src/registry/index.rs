//! An index: from a name (a uid, a group) to the clients that have it.
//!
//! A name exists while it has members. Walks hold a shard's lock for a bounded number of
//! members at a time, so a large group does not stop the others.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::changes::Kind;
use super::client::Client;
use super::events::{EventKind, Events};
use super::names::Names;

/// Members visited under one lock: some 50 µs of it.
const MEMBERS_A_LOCK: usize = 1024;

/// The clients of one name, by their counter.
pub(super) type Members = BTreeMap<u64, Arc<Client>>;

/// Names, each with its clients.
#[derive(Debug)]
pub(super) struct Index {
    names: Names<Members>,
    kind: Kind,
    plugin: Arc<str>,
    events: Arc<Events>,
}

impl Index {
    /// An empty one of a plugin's.
    pub(super) fn new(kind: Kind, plugin: &Arc<str>, events: &Arc<Events>) -> Index {
        Index {
            names: Names::default(),
            kind,
            plugin: plugin.clone(),
            events: events.clone(),
        }
    }

    /// Adds a client unless `admit`, which sees the members so far, says otherwise.
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
            members.insert(client.id().counter(), client.clone());
        }
        result
    }

    /// Removes a client; the name goes with its last member.
    pub(super) fn remove(&self, name: &str, client: &Client) {
        let mut shard = self.names.shard(name).write();
        if let Some(members) = shard.get_mut(name) {
            members.remove(&client.id().counter());
            if members.is_empty() {
                shard.remove(name);
                let vacated = || EventKind::Vacated(self.kind, name.into());
                self.events.emit(&self.plugin, vacated);
            }
        }
    }

    /// How many clients have the name.
    pub(super) fn count(&self, name: &str) -> usize {
        self.names
            .shard(name)
            .read()
            .get(name)
            .map_or(0, BTreeMap::len)
    }

    /// How many names there are.
    pub(super) fn name_count(&self) -> u64 {
        self.names.count()
    }

    /// Visits each member once, as the index stands when it gets there.
    pub(super) fn for_each(&self, name: &str, mut visit: impl FnMut(&Arc<Client>)) {
        let shard = self.names.shard(name);
        walk(|after| {
            let shard = shard.read();
            let members = shard.get(name)?;
            visit_some(members, after, &mut visit)
        });
    }

    /// The members as they are now.
    pub(super) fn members(&self, name: &str) -> Vec<Arc<Client>> {
        let mut members = Vec::new();
        self.for_each(name, |client| members.push(client.clone()));
        members
    }

    /// Up to `limit` members that come after the counter `after`.
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
            .map(|(_, c)| c.clone())
            .take(limit)
            .collect()
    }

    /// Up to `limit` names that come after `after`, in order.
    pub(super) fn names_after(&self, after: Option<&str>, limit: usize) -> Vec<Arc<str>> {
        self.names.after(after, limit)
    }
}

/// Repeats `step`, which visits some members after a counter and answers the last one's, to
/// the end.
pub(super) fn walk(mut step: impl FnMut(Option<u64>) -> Option<u64>) {
    let mut after = None;
    while let Some(last) = step(after) {
        after = Some(last);
    }
}

/// Visits a bounded number of members after a counter; answers the last one's, if there may
/// be more.
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
