//! A namespace: the clients, uids and groups of one plugin on this node.
//!
//! A namespace outlives the plugin's generations, and gets the policies of each new one. Every call
//! sees the changes of the calls before it.
//!
//! Long because uids, groups and clients change together, under the locks of one value; what can
//! stand alone is in `client`, `index`, `sending`, `changes` and `timers`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use parking_lot::RwLock;

use super::changes::Kind;
use super::client::{ADOPTED_KEYS, Arrival, Client, ClientState, Close, Closer, Departure, Ending};
use super::client_status::ClientStatus;
use super::clock::now_ms;
use super::events::EventKind;
use super::gate::MoveSide;
use super::held_state::{HeldState, Info};
use super::index::{Index, Members, visit_some, walk};
use super::names::SHARDS;
use super::refused::Refused;
use super::sending::{Sending, push, trace_sent};
use super::serving::Serving;
use super::shared::NodeState;
use super::timers::Timers;
use crate::close_code::CloseCode;
use crate::delivery::{Delivery, Reach, Target};
use crate::id::ClientId;
use crate::live_trace::{
    Step, TooManyTraces, TraceClosed, TraceFound, TraceRequest, TraceStep, TraceTarget,
};
use crate::message::Frame;
use crate::outbox::{OutboxBound, Outcome, Pushed};
use crate::policy::{CompressionPolicy, OverflowPolicy, Policies, UidPolicy};
use crate::rate_limiter::SharedRates;

/// The close reason for a client whose uid another client took over (policy `kick-old`).
const TAKEN_OVER: &str = "uid taken over";

/// How many clients one call changes before it yields to other tasks, after a millisecond at most.
const CLIENTS_A_TURN: usize = 512;

/// The clients, uids and groups of one plugin on this node.
#[derive(Debug)]
pub struct Namespace {
    name: Arc<str>,
    shared: Arc<NodeState>,
    clients: [RwLock<Members>; SHARDS],
    uids: Index,
    groups: Index,
    /// The clients to which other nodes have given their ids.
    adopted: RwLock<HashMap<ClientId, Arc<Client>>>,
    /// Whether a client to which this node has given its id is at another node.
    has_moved_clients: AtomicBool,
    policies: ArcSwap<Policies>,
    serving: ArcSwap<Serving>,
    timers: Arc<Timers>,
    uid_rates: SharedRates<Arc<str>>,
}

/// A client that has a uid, and the time when it got it. Between two nodes, the order of their
/// bindings decides which client keeps a uid that only one may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    /// The time of the binding, in milliseconds since 1970.
    pub at_ms: u64,
    /// The client that has the uid.
    pub client: ClientId,
}

impl Namespace {
    /// An empty namespace for the plugin with that name.
    pub(super) fn new(name: &Arc<str>, shared: &Arc<NodeState>) -> Arc<Namespace> {
        Arc::new(Namespace {
            name: name.clone(),
            shared: shared.clone(),
            clients: Default::default(),
            uids: Index::new(Kind::Uid, name, shared.events()),
            groups: Index::new(Kind::Group, name, shared.events()),
            adopted: RwLock::default(),
            has_moved_clients: AtomicBool::new(false),
            policies: ArcSwap::default(),
            serving: ArcSwap::default(),
            timers: Timers::new(name, shared),
            uid_rates: SharedRates::new(shared.limits().uid_rates()),
        })
    }

    /// The name of the plugin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Emits an event of the plugin, or of one of its clients.
    pub fn emit(&self, what: impl FnOnce() -> EventKind) {
        self.shared.events().emit(&self.name, what);
    }

    /// The state that all namespaces of the node share.
    pub fn shared(&self) -> &Arc<NodeState> {
        &self.shared
    }

    /// The policies of the running generation.
    pub fn policies(&self) -> Policies {
        **self.policies.load()
    }

    /// The plugin's timers on this node.
    pub fn timers(&self) -> &Arc<Timers> {
        &self.timers
    }

    /// Sets the policies, when a generation takes over.
    pub fn set_policies(&self, policies: Policies) {
        self.policies.store(Arc::new(policies));
    }

    /// How this node serves the plugin.
    pub fn serving(&self) -> Arc<Serving> {
        self.serving.load_full()
    }

    /// Sets how this node serves the plugin from now on.
    pub fn serve(&self, serving: Serving) {
        if *self.serving.load_full() != serving {
            self.serving.store(Arc::new(serving));
            if let Some(changes) = self.shared.changes() {
                changes.add_serving(&self.name);
            }
        }
    }

    /// Adds a client that asks to connect. From now on the client can be bound to a uid, join
    /// groups and get messages.
    pub fn arrive(&self, arrival: Arrival) -> Arc<Client> {
        let id = self.shared.next_id();
        self.insert((id, id.counter(), 0), arrival)
    }

    /// Adds a client that another node gives to this one, with its id. It takes no messages until
    /// their senders have switched to this node.
    pub fn adopt(
        &self,
        id: ClientId,
        moves: u64,
        arrival: Arrival,
        state: &HeldState,
    ) -> Arc<Client> {
        let key = ADOPTED_KEYS | self.shared.next_id().counter();
        let client = self.insert((id, key, moves), arrival);
        self.adopted.write().insert(id, client.clone());
        let mut held = client.held.lock();
        if let Some(uid) = &state.uid {
            self.bind_adopted(&client, &mut held, uid.clone(), state.bound_at_ms);
        }
        for group in &state.groups {
            self.join_adopted(&client, &mut held, group.clone());
        }
        held.info.clone_from(&state.info);
        drop(held);
        client
    }

    /// Applies what has changed of a client at its old node since this node has adopted it.
    pub fn update_adopted(&self, client: &Arc<Client>, before: &HeldState, after: HeldState) {
        let Ok(mut held) = present(client) else {
            return;
        };
        if before.uid != after.uid {
            self.unbind_held(client, &mut held);
            if let Some(uid) = after.uid {
                self.bind_adopted(client, &mut held, uid, after.bound_at_ms);
            }
        }
        for group in before.groups.difference(&after.groups) {
            if held.groups.remove(group) {
                self.groups.remove(group, client);
                self.changed(Kind::Group, group);
            }
        }
        for group in after.groups.difference(&before.groups) {
            self.join_adopted(client, &mut held, group.clone());
        }
        if before.info != after.info {
            held.info = after.info;
        }
    }

    /// Tells the other nodes that this node has a client to which another one has given its id.
    pub fn announce_adopted(&self, client: &Client) {
        if let Some(changes) = self.shared.changes() {
            changes.add_adopted(&self.name, client.id(), client.moves());
        }
    }

    /// The clients to which other nodes have given their ids, each with the number of the move that
    /// has brought it here.
    pub fn adopted(&self) -> Vec<(ClientId, u64)> {
        let adopted = self.adopted.read();
        adopted
            .iter()
            .map(|(id, client)| (*id, client.moves()))
            .collect()
    }

    /// Whether this node has the client, and another node has given it its id.
    pub fn has_adopted(&self, id: ClientId) -> bool {
        self.adopted.read().contains_key(&id)
    }

    /// Whether the client is on this node, and takes what this node itself sends. A client that moves
    /// takes it at one of its two nodes.
    pub fn takes_own(&self, id: ClientId) -> bool {
        let own = self.shared.incarnation();
        let client = self.find(id);
        client.is_ok_and(|client| !client.is_moving() || client.takes_from(own))
    }

    /// Notes that a client to which this node has given its id moves to another node.
    pub fn client_moves(&self) {
        self.has_moved_clients.store(true, Ordering::Relaxed);
    }

    /// Whether a client to which this node has given its id is at another node.
    pub fn has_moved_clients(&self) -> bool {
        self.has_moved_clients.load(Ordering::Relaxed)
    }

    /// Removes a client that another node has taken over. It has no `on-close` here.
    pub fn give_away(&self, client: &Client) {
        self.leave(client, &Close::without_frame(Closer::Network));
        self.shared.live_traces().forget(client.id());
    }

    fn bind_adopted(
        &self,
        client: &Arc<Client>,
        held: &mut ClientState,
        uid: Arc<str>,
        bound_at_ms: u64,
    ) {
        // It had the uid already: no policy asks anew whether it may.
        let _: Result<(), Infallible> = self.uids.insert(&uid, client, |_| Ok(()));
        self.changed(Kind::Uid, &uid);
        held.bound_at_ms = bound_at_ms;
        held.uid_rates = self.uid_rates.of(uid.clone(), Instant::now());
        held.uid = Some(uid);
    }

    fn join_adopted(&self, client: &Arc<Client>, held: &mut ClientState, group: Arc<str>) {
        let _: Result<(), Infallible> = self.groups.insert(&group, client, |_| Ok(()));
        self.changed(Kind::Group, &group);
        held.groups.insert(group);
    }

    fn unbind_held(&self, client: &Client, held: &mut ClientState) {
        held.uid_rates = None;
        if let Some(bound) = held.uid.take() {
            self.uids.remove(&bound, client);
            self.changed(Kind::Uid, &bound);
        }
    }

    /// Puts a client into the registry. One that other nodes have had comes with the number of its
    /// moves.
    fn insert(&self, (id, key, moves): (ClientId, u64, u64), arrival: Arrival) -> Arc<Client> {
        let limits = self.shared.limits();
        let resume = self.policies().resume.filter(|_| arrival.is_tagged);
        let bound = match resume {
            Some(resume) => OutboxBound {
                messages: resume.messages.min(limits.outbox_messages),
                bytes: resume.bytes.min(limits.outbox_bytes),
            },
            None => OutboxBound {
                messages: limits.outbox_messages,
                bytes: limits.outbox_bytes,
            },
        };
        let budget = self.shared.outbox_budget().clone();
        let client = Arc::new(Client::new((id, key, moves), bound, budget, arrival));
        if moves > 0 {
            // Before anybody finds it.
            client.begin_move(MoveSide::Arriving);
        }
        if resume.is_some() {
            client.outbox().retain(0);
        }
        self.shard(key).write().insert(key, client.clone());
        if let Some(changes) = self.shared.changes() {
            changes.add_clients(&self.name);
        }
        client
    }

    /// Removes a client that has left, with the reason `close`; true the first time. The client's
    /// last state is kept for its `on-close`.
    pub fn leave(&self, client: &Client, close: &Close) -> bool {
        self.take_out(client, &mut client.held.lock(), close)
    }

    /// Ends the connection of a client that may come back on another one, with this close frame.
    pub fn interrupt(&self, client: &Client, close: Close) {
        client.held.lock().interruption = Some(Box::new(close));
        client.wake();
    }

    /// Makes the client leave, and queues its ending; false if it had left already.
    pub fn end(&self, client: &Client, ending: &Ending) -> bool {
        // Both under one lock: whoever sees that it has left finds its last frames queued.
        let mut held = client.held.lock();
        if let (Some(last), None) = (ending.last_message(), &held.departure) {
            let queued = Pushed {
                outcome: Outcome::Queued,
                displaced: 0,
                dirtied: false,
            };
            trace_sent(&self.shared, client, last, &queued);
        }
        let leaves = self.take_out(client, &mut held, &ending.close);
        if leaves {
            client.end(ending);
        }
        leaves
    }

    /// Queues a delivery once for each of its clients on this node.
    pub fn deliver(&self, delivery: &Delivery<'_>) -> Reach {
        let policies = self.policies();
        let is_for = |policy: &CompressionPolicy| policy.is_for(&delivery.frame);
        let compression = policies.compression.filter(is_for);
        let mut sending = Sending::new(&self.shared, policies, delivery);
        if let Some(compression) = compression {
            let mut encodings = BTreeSet::new();
            self.visit(delivery.to, |client| {
                let compressed = Some(client.encoding());
                encodings.extend(compressed.filter(|encoding| encoding.window_bits.is_some()));
            });
            // Between the two visits, since it takes long.
            sending.compress(compression, encodings);
        }
        self.visit(delivery.to, |client| sending.push(client));
        sending.finish()
    }

    /// Visits the clients of a target, a client that several names lead to more than once.
    fn visit(&self, target: Target<'_>, mut visit: impl FnMut(&Arc<Client>)) {
        let (index, names) = match target {
            Target::All => {
                for shard in &self.clients {
                    walk(|after| visit_some(&shard.read(), after, &mut visit));
                }
                return;
            }
            Target::Uids(names) => (&self.uids, names),
            Target::Groups(names) => (&self.groups, names),
        };
        for name in names {
            index.for_each(name, &mut visit);
        }
    }

    /// Queues a frame for one client.
    ///
    /// # Errors
    ///
    /// The client's outbox is full, or the client is being closed.
    pub fn send_to(&self, client: &Arc<Client>, frame: Frame) -> Result<(), Refused> {
        let id = client.id();
        let policies = self.policies.load();
        let overflow = policies.overflow;
        let compression = policies.compression.zip(client.window_bits());
        let shown = client.is_traced().then(|| frame.clone());
        let frame = client.encoding().tag(&frame);
        let deflated = compression.and_then(|(policy, bits)| policy.deflate(&frame, bits));
        let key = (overflow == OverflowPolicy::Conflate).then(|| "client".into());
        let frame = deflated.unwrap_or(frame);
        let pushed = push(&self.shared, client, frame, key, overflow);
        if let Some(shown) = shown {
            trace_sent(&self.shared, client, &shown, &pushed);
        }
        if pushed.dirtied {
            self.shared.dirty().add(client.clone());
        }
        match pushed.outcome {
            Outcome::Queued => Ok(()),
            Outcome::Dropped | Outcome::Overflowed => Err(Refused::Overloaded(id)),
            Outcome::Closing => Err(Refused::NotFound(id)),
        }
    }

    /// Binds the client to a uid, in place of its former uid. `elsewhere` is the number of clients
    /// on other nodes that have the uid.
    ///
    /// # Errors
    ///
    /// The client is not here, or the uid can take no further client.
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
            held.uid_rates = self.uid_rates.of(uid.clone(), Instant::now());
            let former = held.uid.replace(uid.clone());
            self.trace_bound(&client, &held, &uid);
            if let Some(former) = former {
                self.uids.remove(&former, &client);
                self.changed(Kind::Uid, &former);
                self.trace_unbound(&client, &former);
            }
            kicked
        };
        for client in kicked.into_values() {
            self.take_over(&client);
        }
        Ok(())
    }

    /// The clients that have the uid, each with the time of its binding.
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

    /// Takes note that a client of another node has the uid, too. If only one may have it, the
    /// clients here that must yield are closed: by `kick-old` the newest keeps the uid, by
    /// `reject-new` the oldest.
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

    /// Reads the steps of a live trace that wait on this node, or waits for some, `patience` at most.
    /// The first read opens the trace.
    ///
    /// # Errors
    ///
    /// There are too many traces on this node.
    pub async fn read_trace(
        &self,
        request: &TraceRequest,
        patience: Duration,
    ) -> Result<Vec<TraceStep>, TooManyTraces> {
        let traces = self.shared.live_traces();
        if traces.open(&self.name, request)? {
            let clients = match &request.target {
                TraceTarget::Client(id) => self.find(*id).into_iter().collect(),
                TraceTarget::Uid(uid) => self.uids.members(uid),
                TraceTarget::Share(_) => Vec::new(),
            };
            for client in clients {
                // What it has and what becomes of it from then on: nothing is between the two.
                let held = client.held.lock();
                let found = || found(&held);
                traces.add(request.trace, client.id(), client.traced_flag(), found);
            }
            let (shared, trace) = (self.shared.clone(), request.trace);
            tokio::spawn(async move { shared.live_traces().ended(trace).await });
        }
        Ok(traces.read(request.trace, patience).await)
    }

    /// Shows that a client has got a uid, also to whoever watches the uid.
    fn trace_bound(&self, client: &Client, held: &ClientState, uid: &str) {
        let traces = self.shared.live_traces();
        let flag = client.traced_flag();
        traces.add_bound(&self.name, uid, client.id(), flag, || found(held));
        self.shared.trace(client, |_| Step::Uid(uid.to_owned()));
    }

    /// Lets whoever watches a uid go on without a client that has lost it.
    fn trace_unbound(&self, client: &Client, uid: &str) {
        let traces = self.shared.live_traces();
        traces.remove_bound(&self.name, uid, client.id());
    }

    fn take_over(&self, client: &Client) {
        let close = Close {
            code: CloseCode::UidTakenOver,
            reason: TAKEN_OVER.to_owned(),
            by: Closer::Plugin,
        };
        self.end(client, &Ending::new(close, None));
    }

    /// Records that the number of clients of a name here has changed.
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

    /// Removes the client's uid and returns whether there was one. If `uid` is given, only this uid
    /// is removed.
    ///
    /// # Errors
    ///
    /// The client is not here.
    pub fn unbind_uid(&self, id: ClientId, uid: Option<&str>) -> Result<bool, Refused> {
        let client = self.find(id)?;
        let mut held = present(&client)?;
        match &held.uid {
            Some(bound) if uid.is_none_or(|uid| uid == &**bound) => {
                self.uids.remove(bound, &client);
                self.changed(Kind::Uid, bound);
                self.shared.trace(&client, |_| Step::Uid(String::new()));
                self.trace_unbound(&client, bound);
                held.uid = None;
                held.uid_rates = None;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// The client's uid, if it has one.
    ///
    /// # Errors
    ///
    /// The client is not here.
    pub fn uid(&self, id: ClientId) -> Result<Option<String>, Refused> {
        let client = self.find(id)?;
        let held = present(&client)?;
        Ok(held.uid.as_deref().map(str::to_owned))
    }

    /// Puts the client into the group.
    ///
    /// # Errors
    ///
    /// The client is not here, or it is in too many groups.
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
        self.shared
            .trace(&client, |_| Step::Joined(group.to_string()));
        held.groups.insert(group);
        Ok(())
    }

    /// Takes the client out of the group. A client that is not in the group is no error.
    ///
    /// # Errors
    ///
    /// The client is not here.
    pub fn leave_group(&self, id: ClientId, group: &str) -> Result<(), Refused> {
        let client = self.find(id)?;
        self.leave_group_of(&client, group).map(drop)
    }

    /// Takes every member out of the group, and returns how many there were.
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

    /// The uids in the group, each listed once.
    pub async fn group_uids(&self, group: &str) -> BTreeSet<Arc<str>> {
        let mut uids = BTreeSet::new();
        let add = |client: &Arc<Client>| uids.extend(client.held.lock().uid.clone());
        in_turns(&self.groups.members(group), add).await;
        uids
    }

    /// Up to `limit` clients with the uid or in the group that come after the client `after`, in
    /// order; and whether there are more. Clients are ordered by their node's incarnation first,
    /// and `after` may be a client of another node.
    pub fn clients_after(
        &self,
        kind: Kind,
        name: &str,
        after: Option<ClientId>,
        limit: usize,
    ) -> (Vec<ClientId>, bool) {
        let mut ids = self.index(kind).adopted(name);
        ids.retain(|id| Some(*id) > after);
        if let Some(after) = self.counter_after(after) {
            let members = self.index(kind).members_after(name, after, limit + 1);
            ids.extend(members.iter().map(|client| client.id()));
        }
        ids.sort_unstable();
        let more = ids.len() > limit;
        ids.truncate(limit);
        (ids, more)
    }

    /// Up to `limit` uids in the group that come after the uid `after`, in order; and whether there
    /// are more.
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

    /// How many uids or groups the namespace has.
    pub fn name_count(&self, kind: Kind) -> u64 {
        self.index(kind).name_count()
    }

    /// Up to `limit` uids or groups that come after the name `after`, in order.
    pub fn names_after(&self, kind: Kind, after: Option<&str>, limit: usize) -> Vec<Arc<str>> {
        self.index(kind).names_after(after, limit)
    }

    /// Whether the client is on this node and not being closed.
    pub fn is_online(&self, id: ClientId) -> bool {
        self.find(id).is_ok()
    }

    /// How many clients the namespace has.
    pub fn client_count(&self) -> u64 {
        self.clients
            .iter()
            .map(|shard| shard.read().len() as u64)
            .sum()
    }

    /// All clients that the namespace has now.
    pub fn clients(&self) -> Vec<Arc<Client>> {
        let shards = self.clients.iter();
        shards
            .flat_map(|shard| shard.read().values().cloned().collect::<Vec<_>>())
            .collect()
    }

    /// The state of one client.
    ///
    /// # Errors
    ///
    /// The client is not here.
    pub fn client_status(&self, id: ClientId) -> Result<ClientStatus, Refused> {
        let client = self.find(id)?;
        let held = present(&client)?;
        Ok(client.status(&held))
    }

    /// Up to `limit` clients that come after the client `after`, in order; and whether there are more.
    /// With `from`, only clients whose address is in that network.
    pub async fn all_clients_after(
        &self,
        after: Option<ClientId>,
        from: Option<IpNet>,
        limit: usize,
    ) -> (Vec<ClientId>, bool) {
        let is_from = |client: &Client| {
            let ip = client.address().map(|address| address.ip().to_canonical());
            from.is_none_or(|from| ip.is_some_and(|ip| from.contains(&ip)))
        };
        let mut ids: Vec<ClientId> = {
            let adopted = self.adopted.read();
            let adopted = adopted.values().filter(|client| is_from(client));
            let ids = adopted.map(|client| client.id());
            ids.filter(|id| Some(*id) > after).collect()
        };
        let first = self.counter_after(after);
        for shard in &self.clients {
            let (mut next, before) = (first, ids.len());
            while let Some(after) = next.filter(|_| ids.len() - before <= limit) {
                let visit = &mut |client: &Arc<Client>| {
                    let counts = !client.is_adopted() && is_from(client);
                    if counts && ids.len() - before <= limit {
                        ids.push(client.id());
                    }
                };
                next = visit_some(&shard.read(), after, visit).map(Some);
                // Few clients may be from there, and very many not.
                if next.is_some() {
                    tokio::task::yield_now().await;
                }
            }
        }
        ids.sort_unstable();
        let more = ids.len() > limit;
        ids.truncate(limit);
        (ids, more)
    }

    /// The counter after which this node's clients come that are ordered after a client. The client
    /// may be of another node; none: all clients of this node come before it.
    fn counter_after(&self, after: Option<ClientId>) -> Option<Option<u64>> {
        let own = self.shared.incarnation();
        match after {
            Some(after) if after.incarnation() == own => Some(Some(after.counter())),
            Some(after) if after.incarnation() > own => None,
            _ => Some(None),
        }
    }

    /// Closes the connection of one client.
    ///
    /// # Errors
    ///
    /// The client is not here.
    pub fn close_client(&self, id: ClientId, ending: &Ending) -> Result<(), Refused> {
        let client = self.find(id)?;
        if self.end(&client, ending) {
            Ok(())
        } else {
            Err(Refused::NotFound(id))
        }
    }

    /// Closes every client with this uid, or in this group, and returns how many there were.
    pub async fn close_all(&self, kind: Kind, name: &str, ending: &Ending) -> u64 {
        let mut count = 0;
        let close = |client: &Arc<Client>| count += u64::from(self.end(client, ending));
        in_turns(&self.index(kind).members(name), close).await;
        count
    }

    /// The info of the client.
    ///
    /// # Errors
    ///
    /// The client is not here.
    pub fn info(&self, id: ClientId) -> Result<Info, Refused> {
        let client = self.find(id)?;
        let held = present(&client)?;
        Ok(held.info.clone())
    }

    /// Replaces the client's info.
    ///
    /// # Errors
    ///
    /// The client is not here, or the info is too long.
    pub fn set_info(&self, id: ClientId, info: Info) -> Result<(), Refused> {
        let client = self.find(id)?;
        let mut held = present(&client)?;
        self.check_info(&info)?;
        held.info = info;
        Ok(())
    }

    /// Sets each key to its value, deletes the keys whose value is `None`, and returns the whole
    /// info.
    ///
    /// # Errors
    ///
    /// The client is not here, or the info would be too long.
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
        self.shard(client.key()).write().remove(&client.key());
        if client.is_adopted() {
            let mut adopted = self.adopted.write();
            if adopted
                .get(&client.id())
                .is_some_and(|held| held.key() == client.key())
            {
                adopted.remove(&client.id());
            }
            drop(adopted);
            if let Some(changes) = self.shared.changes() {
                changes.add_adopted(&self.name, client.id(), client.moves());
            }
        }
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
        self.shared.trace(client, |_| {
            Step::Closed(TraceClosed {
                code: u16::from(close.code).into(),
                reason: close.reason.clone(),
                by: close.by.as_str().to_owned(),
            })
        });
        true
    }

    fn leave_group_of(&self, client: &Client, group: &str) -> Result<bool, Refused> {
        let mut held = present(client)?;
        let was_in = held.groups.remove(group);
        if was_in {
            self.groups.remove(group, client);
            self.changed(Kind::Group, &group.into());
            self.shared.trace(client, |_| Step::Left(group.to_owned()));
        }
        Ok(was_in)
    }

    /// Whether one more client may have the uid. By `kick-old` this takes out the former clients.
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

    /// The client with that id.
    ///
    /// # Errors
    ///
    /// The client is not on this node, or has left.
    pub fn find(&self, id: ClientId) -> Result<Arc<Client>, Refused> {
        let key = id.counter();
        let of_this_node = match id.incarnation() == self.shared.incarnation() {
            true => self.shard(key).read().get(&key).cloned(),
            false => None,
        };
        // A client that has come back to the node that gave it its id was adopted, too.
        of_this_node
            .filter(|client| client.id() == id)
            .or_else(|| self.adopted.read().get(&id).cloned())
            .ok_or(Refused::NotFound(id))
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "which shard does not matter"
    )]
    fn shard(&self, key: u64) -> &RwLock<Members> {
        &self.clients[key as usize % SHARDS]
    }
}

/// Calls `work` with each of the clients. After every `CLIENTS_A_TURN` of them it yields, so that
/// work on a hundred thousand clients does not block a worker thread for all that time.
async fn in_turns(clients: &[Arc<Client>], work: impl FnMut(&Arc<Client>)) {
    let mut work = work;
    for some in clients.chunks(CLIENTS_A_TURN) {
        some.iter().for_each(&mut work);
        if some.len() == CLIENTS_A_TURN {
            tokio::task::yield_now().await;
        }
    }
}

/// What a client has, for a recording.
fn found(held: &ClientState) -> TraceFound {
    TraceFound {
        uid: held.uid.as_deref().map(str::to_owned),
        groups: held.groups.iter().map(ToString::to_string).collect(),
        info: held.info.clone().into_iter().collect(),
    }
}

/// Locks the client's state, if the client has not left.
fn present(client: &Client) -> Result<parking_lot::MutexGuard<'_, ClientState>, Refused> {
    let held = client.held.lock();
    if held.departure.is_some() {
        Err(Refused::NotFound(client.id()))
    } else {
        Ok(held)
    }
}
