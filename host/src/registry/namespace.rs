//! A namespace: the clients, uids and groups of one plugin on this node.
//!
//! It outlives the plugin's generations; their policies are handed in with each reload. What
//! a call changes, the next call sees.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::RwLock;

use super::changes::Kind;
use super::client::{Client, ClientState, Close, Closer, Departure, Ending, Info};
use super::dirty::Dirtied;
use super::events::EventKind;
use super::index::{Index, Members, visit_some, walk};
use super::names::SHARDS;
use super::refused::Refused;
use super::serving::Serving;
use super::shared::{Shared, now_ms};
use super::timers::Timers;
use crate::delivery::{Delivery, Reach, Target};
use crate::id::ClientId;
use crate::message::Frame;
use crate::outbox::{Bound, Outcome, Pushed};
use crate::policy::{OverflowPolicy, Policies, UidPolicy};

/// Sent to whoever had a uid that another client took over (policy `kick-old`). Of the
/// private range, so that a client library does not come back at once.
const TAKEN_OVER: (u16, &str) = (4001, "uid taken over");

/// Clients that one call changes before it lets others run: at most a millisecond of it.
const CLIENTS_A_TURN: usize = 512;

/// One plugin's clients on this node.
#[derive(Debug)]
pub struct Namespace {
    name: Arc<str>,
    shared: Arc<Shared>,
    clients: [RwLock<Members>; SHARDS],
    uids: Index,
    groups: Index,
    policies: ArcSwap<Policies>,
    serving: ArcSwap<Serving>,
    timers: Arc<Timers>,
}

/// A client that has a uid, and since when. Between two nodes the order of these decides who
/// keeps a uid that only one may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    /// In milliseconds since 1970.
    pub at_ms: u64,
    /// Which client.
    pub client: ClientId,
}

impl Namespace {
    /// An empty namespace for the plugin of that name.
    pub(super) fn new(name: &Arc<str>, shared: &Arc<Shared>) -> Arc<Namespace> {
        Arc::new(Namespace {
            name: name.clone(),
            shared: shared.clone(),
            clients: Default::default(),
            uids: Index::new(Kind::Uid, name, shared.events()),
            groups: Index::new(Kind::Group, name, shared.events()),
            policies: ArcSwap::default(),
            serving: ArcSwap::default(),
            timers: Timers::new(name, shared),
        })
    }

    /// The plugin's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// This happens to the plugin, or to one of its clients.
    pub fn emit(&self, what: impl FnOnce() -> EventKind) {
        self.shared.events().emit(&self.name, what);
    }

    /// What the namespaces of the node share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The policies of the generation that runs.
    pub fn policies(&self) -> Policies {
        **self.policies.load()
    }

    /// The plugin's timers on this node.
    pub fn timers(&self) -> &Arc<Timers> {
        &self.timers
    }

    /// A generation with these policies has taken over.
    pub fn set_policies(&self, policies: Policies) {
        self.policies.store(Arc::new(policies));
    }

    /// How the plugin is run here.
    pub fn serving(&self) -> Arc<Serving> {
        self.serving.load_full()
    }

    /// It is run like this from here on.
    pub fn serve(&self, serving: Serving) {
        if *self.serving.load_full() != serving {
            self.serving.store(Arc::new(serving));
            if let Some(changes) = self.shared.changes() {
                changes.add_serving(&self.name);
            }
        }
    }

    /// A client asks to come in: it can be bound, joined and sent to from here on.
    pub fn arrive(&self) -> Arc<Client> {
        let limits = self.shared.limits();
        let bound = Bound {
            messages: limits.outbox_messages,
            bytes: limits.outbox_bytes,
        };
        let client = Arc::new(Client::new(self.shared.next_id(), bound));
        self.shard(client.id())
            .write()
            .insert(client.id().counter(), client.clone());
        if let Some(changes) = self.shared.changes() {
            changes.add_clients(&self.name);
        }
        client
    }

    /// The client has left, as `close` says: nothing here counts it any more. True the first
    /// time; what it was is kept for its `on-close`.
    pub fn leave(&self, client: &Client, close: &Close) -> bool {
        self.take_out(client, &mut client.held.lock(), close)
    }

    /// Makes the client leave and queues its ending; false if it had left.
    pub fn end(&self, client: &Client, ending: &Ending) -> bool {
        // Both under one lock: whoever sees that it has left finds its last frames queued.
        let mut held = client.held.lock();
        let leaves = self.take_out(client, &mut held, &ending.close);
        if leaves {
            client.end(ending);
        }
        leaves
    }

    /// Queues a delivery for each client it is for, once.
    pub fn deliver(&self, delivery: &Delivery<'_>) -> Reach {
        let mut sending = Sending::new(self, delivery);
        match delivery.to {
            Target::All => {
                for shard in &self.clients {
                    walk(|after| {
                        visit_some(&shard.read(), after, &mut |client| sending.push(client))
                    });
                }
            }
            Target::Uids(names) => sending.through(&self.uids, names),
            Target::Groups(names) => sending.through(&self.groups, names),
        }
        sending.reach
    }

    /// Queues a frame for one client.
    pub fn send_to(&self, client: &Arc<Client>, frame: Frame) -> Result<(), Refused> {
        let id = client.id();
        let overflow = self.policies.load().overflow;
        let key = (overflow == OverflowPolicy::Conflate).then(|| "client".into());
        let pushed = self.push(client, frame, key, overflow);
        if pushed.dirtied {
            self.shared.dirty().add(client.clone());
        }
        match pushed.outcome {
            Outcome::Queued => Ok(()),
            Outcome::Dropped | Outcome::Overflowed => Err(Refused::Overloaded(id)),
            Outcome::Closing => Err(Refused::NotFound(id)),
        }
    }

    /// Gives the client this uid in place of the one it had; `elsewhere`, so many clients of
    /// other nodes have it too.
    pub fn bind_uid(&self, id: ClientId, uid: &str, elsewhere: u64) -> Result<(), Refused> {
        let client = self.find(id)?;
        let kicked = {
            let mut held = present(&client)?;
            if held.uid.as_deref() == Some(uid) {
                return Ok(());
            }
            let uid: Arc<str> = uid.into();
            let kicked = self.uids.insert(&uid, &client, |members| {
                self.admit(&uid, members, elsewhere)
            })?;
            self.changed(Kind::Uid, &uid);
            held.bound_at_ms = now_ms();
            if let Some(former) = held.uid.replace(uid) {
                self.uids.remove(&former, &client);
                self.changed(Kind::Uid, &former);
            }
            kicked
        };
        for client in kicked.into_values() {
            self.take_over(&client);
        }
        Ok(())
    }

    /// The clients that have the uid, and since when.
    pub fn bindings(&self, uid: &str) -> Vec<Binding> {
        let members = self.uids.members(uid).into_iter();
        let bindings = members.filter_map(|client| {
            let held = client.held.lock();
            (held.uid.as_deref() == Some(uid)).then_some(Binding {
                at_ms: held.bound_at_ms,
                client: client.id(),
            })
        });
        bindings.collect()
    }

    /// A client of another node has the uid, too: where only one may, those here that have to
    /// go for it are closed. The newest keeps a uid by `kick-old`, the oldest by `reject-new`.
    pub fn yield_uid(&self, uid: &str, theirs: Binding) {
        let policy = self.policies.load().uid;
        for ours in self.bindings(uid) {
            let yields = match policy {
                UidPolicy::Many => false,
                UidPolicy::KickOld => ours < theirs,
                UidPolicy::RejectNew => theirs < ours,
            };
            if let Some(client) = yields.then(|| self.find(ours.client).ok()).flatten() {
                self.take_over(&client);
            }
        }
    }

    fn take_over(&self, client: &Client) {
        let (code, reason) = TAKEN_OVER;
        let close = Close {
            code,
            reason: reason.to_owned(),
            by: Closer::Plugin,
        };
        self.end(client, &Ending::new(close, None));
    }

    /// A name has another number of clients here.
    fn changed(&self, kind: Kind, name: &Arc<str>) {
        if let Some(changes) = self.shared.changes() {
            changes.add(&self.name, kind, name);
        }
    }

    fn index(&self, kind: Kind) -> &Index {
        match kind {
            Kind::Uid => &self.uids,
            Kind::Group => &self.groups,
        }
    }

    /// Takes the client's uid away; with `uid` given, only if it is that one.
    pub fn unbind_uid(&self, id: ClientId, uid: Option<&str>) -> Result<bool, Refused> {
        let client = self.find(id)?;
        let mut held = present(&client)?;
        match &held.uid {
            Some(bound) if uid.is_none_or(|uid| uid == &**bound) => {
                self.uids.remove(bound, &client);
                self.changed(Kind::Uid, bound);
                held.uid = None;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// The client's uid, if it has one.
    pub fn uid(&self, id: ClientId) -> Result<Option<String>, Refused> {
        let client = self.find(id)?;
        let held = present(&client)?;
        Ok(held.uid.as_deref().map(str::to_owned))
    }

    /// Puts the client into the group.
    pub fn join_group(&self, id: ClientId, group: &str) -> Result<(), Refused> {
        let client = self.find(id)?;
        let mut held = present(&client)?;
        if held.groups.contains(group) {
            return Ok(());
        }
        let limit = self.shared.limits().groups_per_client;
        if held.groups.len() >= limit {
            let what = "the client's groups";
            return Err(Refused::LimitExceeded {
                what,
                limit,
                name: "groups_per_client",
            });
        }
        let group: Arc<str> = group.into();
        self.groups.insert(&group, &client, |_| Ok(()))?;
        self.changed(Kind::Group, &group);
        held.groups.insert(group);
        Ok(())
    }

    /// Takes the client out of the group; not being in it is fine.
    pub fn leave_group(&self, id: ClientId, group: &str) -> Result<(), Refused> {
        let client = self.find(id)?;
        self.leave_group_of(&client, group).map(drop)
    }

    /// Takes every member out of the group, and counts them.
    pub async fn ungroup(&self, group: &str) -> u64 {
        let mut count = 0;
        let leave = |client: &Arc<Client>| {
            count += u64::from(self.leave_group_of(client, group) == Ok(true));
        };
        in_turns(&self.groups.members(group), leave).await;
        count
    }

    /// How many clients have the uid, or are in the group.
    pub fn count(&self, kind: Kind, name: &str) -> u64 {
        self.index(kind).count(name) as u64
    }

    /// The uids in the group, each once.
    pub async fn group_uids(&self, group: &str) -> BTreeSet<Arc<str>> {
        let mut uids = BTreeSet::new();
        let add = |client: &Arc<Client>| uids.extend(client.held.lock().uid.clone());
        in_turns(&self.groups.members(group), add).await;
        uids
    }

    /// Up to `limit` clients with the uid, or in the group, that come after one, in order; and
    /// whether there are more. A client of a node before this one comes before all of them.
    pub fn clients_after(
        &self,
        kind: Kind,
        name: &str,
        after: Option<ClientId>,
        limit: usize,
    ) -> (Vec<ClientId>, bool) {
        let own = self.shared.incarnation();
        let after = match after {
            Some(after) if after.incarnation() == own => Some(after.counter()),
            Some(after) if after.incarnation() > own => return (Vec::new(), false),
            _ => None,
        };
        let members = self.index(kind).members_after(name, after, limit + 1);
        let mut ids: Vec<_> = members.iter().map(|client| client.id()).collect();
        let more = ids.len() > limit;
        ids.truncate(limit);
        (ids, more)
    }

    /// Up to `limit` uids in the group that come after one, in order; and whether there are
    /// more.
    pub async fn group_uids_after(
        &self,
        group: &str,
        after: Option<&str>,
        limit: usize,
    ) -> (Vec<Arc<str>>, bool) {
        let uids = self.group_uids(group).await;
        let mut rest = uids.range::<str, _>((after.map_or(Unbounded, Excluded), Unbounded));
        let uids = rest.by_ref().take(limit).cloned().collect();
        (uids, rest.next().is_some())
    }

    /// How many uids, or groups, there are.
    pub fn name_count(&self, kind: Kind) -> u64 {
        self.index(kind).name_count()
    }

    /// Up to `limit` uids, or groups, that come after one, in order.
    pub fn names_after(&self, kind: Kind, after: Option<&str>, limit: usize) -> Vec<Arc<str>> {
        self.index(kind).names_after(after, limit)
    }

    /// Whether the client is here and not being closed.
    pub fn is_online(&self, id: ClientId) -> bool {
        self.find(id).is_ok()
    }

    /// How many clients there are.
    pub fn client_count(&self) -> u64 {
        self.clients
            .iter()
            .map(|shard| shard.read().len() as u64)
            .sum()
    }

    /// All clients as they are now.
    pub fn clients(&self) -> Vec<Arc<Client>> {
        let shards = self.clients.iter();
        shards
            .flat_map(|shard| shard.read().values().cloned().collect::<Vec<_>>())
            .collect()
    }

    /// Closes one client.
    pub fn close_client(&self, id: ClientId, ending: &Ending) -> Result<(), Refused> {
        let client = self.find(id)?;
        if self.end(&client, ending) {
            Ok(())
        } else {
            Err(Refused::NotFound(id))
        }
    }

    /// Closes every client of the uid, or in the group, and counts them.
    pub async fn close_all(&self, kind: Kind, name: &str, ending: &Ending) -> u64 {
        let mut count = 0;
        let close = |client: &Arc<Client>| count += u64::from(self.end(client, ending));
        in_turns(&self.index(kind).members(name), close).await;
        count
    }

    /// The client's info.
    pub fn info(&self, id: ClientId) -> Result<Info, Refused> {
        let client = self.find(id)?;
        let held = present(&client)?;
        Ok(held.info.clone())
    }

    /// Replaces the client's info.
    pub fn set_info(&self, id: ClientId, info: Info) -> Result<(), Refused> {
        let client = self.find(id)?;
        let mut held = present(&client)?;
        self.check_info(&info)?;
        held.info = info;
        Ok(())
    }

    /// Sets each key to its value, deletes those given as none, and answers the whole.
    pub fn update_info(
        &self,
        id: ClientId,
        changes: Vec<(String, Option<String>)>,
    ) -> Result<Info, Refused> {
        let client = self.find(id)?;
        let mut held = present(&client)?;
        let mut info = held.info.clone();
        for (key, value) in changes {
            match value {
                Some(value) => info.insert(key, value),
                None => info.remove(&key),
            };
        }
        self.check_info(&info)?;
        held.info = info.clone();
        Ok(info)
    }

    fn take_out(&self, client: &Client, held: &mut ClientState, close: &Close) -> bool {
        if held.departure.is_some() {
            return false;
        }
        let ClientState {
            uid, groups, info, ..
        } = std::mem::take(held);
        self.shard(client.id())
            .write()
            .remove(&client.id().counter());
        if let Some(changes) = self.shared.changes() {
            changes.add_clients(&self.name);
        }
        if let Some(uid) = &uid {
            self.uids.remove(uid, client);
            self.changed(Kind::Uid, uid);
        }
        for group in &groups {
            self.groups.remove(group, client);
            self.changed(Kind::Group, group);
        }
        held.departure = Some(Box::new(Departure {
            close: close.clone(),
            uid,
            groups: groups.into_iter().collect(),
            info,
        }));
        client.set_left();
        true
    }

    fn leave_group_of(&self, client: &Client, group: &str) -> Result<bool, Refused> {
        let mut held = present(client)?;
        let was_in = held.groups.remove(group);
        if was_in {
            self.groups.remove(group, client);
            self.changed(Kind::Group, &group.into());
        }
        Ok(was_in)
    }

    /// Whether one more client may have the uid; takes out those who must go for it.
    fn admit(&self, uid: &str, members: &mut Members, elsewhere: u64) -> Result<Members, Refused> {
        let limit = self.shared.limits().clients_per_uid;
        let clients = members.len() as u64 + elsewhere;
        match self.policies.load().uid {
            UidPolicy::Many if limit > 0 && clients >= limit as u64 => {
                let what = "the uid's clients";
                Err(Refused::LimitExceeded {
                    what,
                    limit,
                    name: "clients_per_uid",
                })
            }
            UidPolicy::Many => Ok(BTreeMap::new()),
            UidPolicy::KickOld => Ok(std::mem::take(members)),
            UidPolicy::RejectNew if clients == 0 => Ok(BTreeMap::new()),
            UidPolicy::RejectNew => Err(Refused::Taken(uid.to_owned())),
        }
    }

    fn check_info(&self, info: &Info) -> Result<(), Refused> {
        let limit = self.shared.limits().info_bytes;
        let bytes: usize = info
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        if bytes <= limit {
            return Ok(());
        }
        Err(Refused::LimitExceeded {
            what: "the client's info",
            limit,
            name: "info_bytes",
        })
    }

    fn push(
        &self,
        client: &Client,
        frame: Frame,
        key: Option<Arc<str>>,
        overflow: OverflowPolicy,
    ) -> Pushed {
        let pushed = client.outbox().push(frame, key, overflow);
        let counters = self.shared.counters();
        match pushed.outcome {
            Outcome::Overflowed => {
                counters.outbox_closed.add_one();
                client.wake();
            }
            Outcome::Dropped => counters.outbox_dropped.add_one(),
            Outcome::Queued | Outcome::Closing => {}
        }
        if pushed.displaced > 0 {
            counters.outbox_dropped.add(pushed.displaced as u64);
        }
        pushed
    }

    /// The client of that id, if it is here and has not left.
    pub fn find(&self, id: ClientId) -> Result<Arc<Client>, Refused> {
        let client = self.shard(id).read().get(&id.counter()).cloned();
        client
            .filter(|client| client.id() == id)
            .ok_or(Refused::NotFound(id))
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "which shard does not matter"
    )]
    fn shard(&self, id: ClientId) -> &RwLock<Members> {
        &self.clients[id.counter() as usize % SHARDS]
    }
}

/// A delivery on its way through an index.
struct Sending<'a> {
    namespace: &'a Namespace,
    delivery: &'a Delivery<'a>,
    excluded: Vec<ClientId>,
    overflow: OverflowPolicy,
    key: Option<Arc<str>>,
    dirtied: Dirtied<'a>,
    reach: Reach,
}

impl<'a> Sending<'a> {
    fn new(namespace: &'a Namespace, delivery: &'a Delivery<'a>) -> Sending<'a> {
        let overflow = namespace.policies.load().overflow;
        let conflate = overflow == OverflowPolicy::Conflate;
        let mut excluded = delivery.exclude.to_vec();
        excluded.sort_unstable();
        Sending {
            namespace,
            delivery,
            excluded,
            overflow,
            key: conflate.then(|| delivery.to.conflation_key()),
            dirtied: namespace.shared.dirty().gather(),
            reach: Reach::default(),
        }
    }

    fn through(&mut self, index: &Index, names: &[String]) {
        if let [name] = names {
            return index.for_each(name, |client| self.push(client));
        }
        let names: BTreeSet<&String> = names.iter().collect();
        let mut reached = HashSet::new();
        for name in names {
            index.for_each(name, |client| {
                if reached.insert(client.id()) {
                    self.push(client);
                }
            });
        }
    }

    fn push(&mut self, client: &Arc<Client>) {
        if !self.excluded.is_empty() && self.excluded.binary_search(&client.id()).is_ok() {
            return;
        }
        let frame = self.delivery.frame.clone();
        let key = self.key.clone();
        let pushed = self.namespace.push(client, frame, key, self.overflow);
        if pushed.dirtied {
            self.dirtied.add(client);
        }
        match pushed.outcome {
            Outcome::Queued => self.reach.clients += 1,
            Outcome::Dropped | Outcome::Overflowed => self.reach.dropped += 1,
            Outcome::Closing => {}
        }
    }
}

/// Does this with each of them. Every so often it steps aside, waiting for nobody: what is done
/// with a hundred thousand must not hold up a worker for as long as that takes.
async fn in_turns(clients: &[Arc<Client>], work: impl FnMut(&Arc<Client>)) {
    let mut work = work;
    for some in clients.chunks(CLIENTS_A_TURN) {
        some.iter().for_each(&mut work);
        if some.len() == CLIENTS_A_TURN {
            tokio::task::yield_now().await;
        }
    }
}

/// The client's state, if it has not left.
fn present(client: &Client) -> Result<parking_lot::MutexGuard<'_, ClientState>, Refused> {
    let held = client.held.lock();
    if held.departure.is_some() {
        Err(Refused::NotFound(client.id()))
    } else {
        Ok(held)
    }
}
