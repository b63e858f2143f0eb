//! The model: who has to get a message, who may get it, and who must not.
//!
//! It hears of everything that the load does, before it is done, and of every answer, once it is
//! there. All that happens in one thread, so that it has one order, which `clock` numbers. What
//! it holds against each message is what docs/mesh.md promises:
//!
//! - A client has to get a message, exactly once and in its sender's order, if it was in the
//!   group (or had the uid, or was connected) when the message was sent, and still is when the
//!   message has arrived everywhere. If the two are at different nodes, the sender's node has to
//!   have been told of the membership, and the link between them must not have been lost.
//! - It may get it, if one of these was not so: the reason is kept, and counted if it did not.
//! - Nobody else gets it, nobody gets it twice or out of order, and what has been answered before
//!   a barrier does not come after it.
//!
//! That a membership is known everywhere, or that a message has arrived everywhere, is shown by
//! an [`epoch`](Model::begin_epoch): a message from each node to each other one. A link has one
//! order, so it comes after all that was told or sent before. Memory is bounded by the barriers:
//! each one settles all messages before it, which are then forgotten.

#[cfg(test)]
mod tests;
mod violation;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

pub(crate) use self::violation::Violation;

/// A connection, or the API of a node. Numbers are not used again.
pub(crate) type SessionId = u32;

/// A message. Of two, the one that was sent later has the higher number.
pub(crate) type MessageId = u64;

/// To whom a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Name {
    All,
    Group(u32),
    Uid(u32),
    Client(SessionId),
}

/// Why a message need not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// The client joined or left while the message was under way.
    Membership,
    /// The sender's node had not been told of the membership yet.
    Untold,
    /// The client left, was closed or was cut off.
    ClientLeft,
    /// The node of the sender or of the receiver was killed.
    NodeKilled,
    /// The link between the two nodes was cut for longer than `gone_after`.
    LinkCut,
    /// The sender's connection ended before the answer.
    Unanswered,
    /// The send was answered with an error, which was allowed then.
    Refused,
}

/// How a client ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// A plugin or the node closes it: what is queued for it comes first.
    Served,
    /// It goes by itself, or its connection is lost: for this reason nothing has to come.
    Lost(Reason),
}

/// What was counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    /// Messages that came, and how many of them had to.
    pub(crate) came: u64,
    pub(crate) had_to_come: u64,
    /// Messages that might have come and did not.
    pub(crate) allowed: BTreeMap<Reason, u64>,
    pub(crate) epochs: u64,
    pub(crate) barriers: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    clock: u64,
    next_session: SessionId,
    next_message: MessageId,
    sessions: BTreeMap<SessionId, Session>,
    names: HashMap<Name, Members>,
    /// Since the last barrier.
    messages: HashMap<MessageId, Message>,
    /// Those that may still be under way.
    active: BTreeSet<MessageId>,
    /// Active ones whose answer will never come.
    abandoned: BTreeSet<MessageId>,
    /// Memberships that not all nodes may know of yet.
    unsettled: Vec<(Name, SessionId, u64)>,
    /// Pairs of nodes, both ways, between which messages may be lost.
    cut: BTreeSet<(usize, usize)>,
    pub(crate) tally: Tally,
}

#[derive(Debug)]
struct Session {
    node: usize,
    ending: Option<Ending>,
    names: BTreeSet<Name>,
    /// What came or may come since the last barrier.
    owed: BTreeMap<MessageId, Owed>,
    /// The last message of each sender.
    last: HashMap<SessionId, MessageId>,
    /// Its own.
    unanswered: BTreeSet<MessageId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    Must,
    May(Reason),
    Came,
}

#[derive(Debug, Default)]
struct Members {
    members: BTreeMap<SessionId, Membership>,
    active: BTreeSet<MessageId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Membership {
    Joining,
    In { is_settled: bool },
    Leaving,
}

#[derive(Debug)]
struct Message {
    sender: SessionId,
    node: usize,
    names: Vec<Name>,
    answered: Option<u64>,
    receivers: Vec<SessionId>,
    at: Instant,
}

impl Model {
    /// Someone begins to connect to a node, and may get what goes to all from now on.
    pub(crate) fn connect(&mut self, node: usize) -> SessionId {
        let session = self.open_api(node);
        self.join(session, Name::All);
        session
    }

    /// It has been told its id.
    pub(crate) fn connected(&mut self, session: SessionId) {
        self.joined(session, Name::All);
    }

    /// A sender that gets nothing.
    pub(crate) fn open_api(&mut self, node: usize) -> SessionId {
        let id = self.next_session;
        self.next_session += 1;
        let session = Session {
            node,
            ending: None,
            names: BTreeSet::new(),
            owed: BTreeMap::new(),
            last: HashMap::new(),
            unanswered: BTreeSet::new(),
        };
        self.sessions.insert(id, session);
        id
    }

    /// A join is sent: it may take effect at any time from now on.
    pub(crate) fn join(&mut self, session: SessionId, name: Name) {
        let members = self.names.entry(name).or_default();
        members.members.insert(session, Membership::Joining);
        let Some(receiver) = self.sessions.get_mut(&session) else {
            return;
        };
        receiver.names.insert(name);
        for id in &members.active {
            receiver
                .owed
                .entry(*id)
                .or_insert(Owed::May(Reason::Membership));
            if let Some(message) = self.messages.get_mut(id) {
                message.receivers.push(session);
            }
        }
    }

    /// The join was answered: it has taken effect at the client's node.
    pub(crate) fn joined(&mut self, session: SessionId, name: Name) {
        self.clock += 1;
        if let Some(members) = self.names.get_mut(&name)
            && let Some(membership) = members.members.get_mut(&session)
        {
            *membership = Membership::In { is_settled: false };
            self.unsettled.push((name, session, self.clock));
        }
    }

    /// A leave is sent.
    pub(crate) fn leave(&mut self, session: SessionId, name: Name) {
        let Some(members) = self.names.get_mut(&name) else {
            return;
        };
        members.members.insert(session, Membership::Leaving);
        let active: Vec<_> = members.active.iter().copied().collect();
        for id in active {
            self.forgive(session, id, Reason::Membership);
        }
    }

    /// The leave was answered: nothing that is sent from now on comes.
    pub(crate) fn left(&mut self, session: SessionId, name: Name) {
        if let Some(members) = self.names.get_mut(&name) {
            members.members.remove(&session);
        }
        if let Some(session) = self.sessions.get_mut(&session) {
            session.names.remove(&name);
        }
    }

    /// A message is sent.
    pub(crate) fn send(&mut self, sender: SessionId, names: &[Name]) -> MessageId {
        let id = self.next_message;
        self.next_message += 1;
        let node = self.sessions.get(&sender).map_or(0, |sender| sender.node);
        let mut receivers: BTreeMap<SessionId, Owed> = BTreeMap::new();
        for name in names {
            if let Name::Client(receiver) = name {
                let member = Membership::In { is_settled: true };
                if let Some(owed) = self.owed(node, *receiver, member) {
                    receivers.insert(*receiver, owed);
                }
            }
            let members = self.names.entry(*name).or_default();
            members.active.insert(id);
            for (receiver, membership) in &self.names[name].members {
                let Some(owed) = self.owed(node, *receiver, *membership) else {
                    continue;
                };
                let before = receivers.entry(*receiver).or_insert(owed);
                if owed == Owed::Must {
                    *before = owed;
                }
            }
        }
        for (receiver, owed) in &receivers {
            self.tally.had_to_come += u64::from(*owed == Owed::Must);
            if let Some(receiver) = self.sessions.get_mut(receiver) {
                receiver.owed.insert(id, *owed);
            }
        }
        if let Some(sender) = self.sessions.get_mut(&sender) {
            sender.unanswered.insert(id);
        }
        self.tally.sent += 1;
        self.active.insert(id);
        let message = Message {
            sender,
            node,
            names: names.to_vec(),
            answered: None,
            receivers: receivers.into_keys().collect(),
            at: Instant::now(),
        };
        self.messages.insert(id, message);
        id
    }

    fn owed(&self, node: usize, receiver: SessionId, membership: Membership) -> Option<Owed> {
        let receiver = self.sessions.get(&receiver)?;
        let is_local = receiver.node == node;
        Some(match (receiver.ending, membership) {
            (Some(_), _) => Owed::May(Reason::ClientLeft),
            (_, Membership::Joining | Membership::Leaving) => Owed::May(Reason::Membership),
            (_, Membership::In { .. }) if is_local => Owed::Must,
            _ if self.cut.contains(&(node, receiver.node)) => Owed::May(Reason::LinkCut),
            (_, Membership::In { is_settled: false }) => Owed::May(Reason::Untold),
            (_, Membership::In { is_settled: true }) => Owed::Must,
        })
    }

    /// The send was answered: its node has done its part.
    pub(crate) fn answered(&mut self, id: MessageId) {
        self.clock += 1;
        if let Some(message) = self.messages.get_mut(&id) {
            message.answered = Some(self.clock);
            if let Some(sender) = self.sessions.get_mut(&message.sender) {
                sender.unanswered.remove(&id);
            }
        }
    }

    /// The send was answered with an error that was to be expected.
    pub(crate) fn refused(&mut self, id: MessageId) {
        self.forgive_all(id, Reason::Refused, |_| true);
        self.answered(id);
    }

    /// A client has read a message: how long it took.
    pub(crate) fn came(
        &mut self,
        receiver: SessionId,
        id: MessageId,
    ) -> Result<Duration, Violation> {
        let Some(message) = self.messages.get(&id) else {
            return Err(match id < self.next_message {
                true => Violation::Late(receiver, id),
                false => Violation::NeverSent(receiver, id),
            });
        };
        let session = self.sessions.get_mut(&receiver);
        let session = session.ok_or(Violation::Stray(receiver, id))?;
        match session.owed.get_mut(&id) {
            None => return Err(Violation::Stray(receiver, id)),
            Some(Owed::Came) => return Err(Violation::Doubled(receiver, id)),
            Some(owed) => *owed = Owed::Came,
        }
        let last = session.last.insert(message.sender, id);
        if let Some(last) = last.filter(|last| *last > id) {
            return Err(Violation::Reordered {
                receiver,
                id,
                after: last,
            });
        }
        self.tally.came += 1;
        Ok(message.at.elapsed())
    }

    /// A client begins to end, whoever wants it.
    pub(crate) fn end(&mut self, session: SessionId, ending: Ending) {
        let Some(client) = self.sessions.get_mut(&session) else {
            return;
        };
        client.ending = Some(ending);
        let owed: Vec<_> = client.owed.keys().copied().collect();
        for id in owed {
            match ending {
                Ending::Lost(reason) => self.forgive(session, id, reason),
                // It may have been too late for those that are under way.
                Ending::Served if self.active.contains(&id) => {
                    self.forgive(session, id, Reason::ClientLeft);
                }
                Ending::Served => {}
            }
        }
    }

    /// Its connection has ended.
    pub(crate) fn ended(&mut self, session: SessionId) -> Result<(), Violation> {
        let Some(mut client) = self.sessions.remove(&session) else {
            return Ok(());
        };
        for name in &client.names {
            if let Some(members) = self.names.get_mut(name) {
                members.members.remove(&session);
            }
        }
        for id in std::mem::take(&mut client.unanswered) {
            self.forgive_all(id, Reason::Unanswered, |_| true);
            self.abandoned.insert(id);
        }
        self.settle_debts(session, &client.owed)
    }

    /// A node is killed, with all of its clients; what it had sent may be lost.
    pub(crate) fn kill(&mut self, node: usize) {
        let sessions = self.sessions.iter();
        let there = sessions.filter(|(_, session)| session.node == node);
        for session in there.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.end(session, Ending::Lost(Reason::NodeKilled));
        }
        for id in self.active.clone() {
            if self.messages.get(&id).is_some_and(|m| m.node == node) {
                self.forgive_all(id, Reason::NodeKilled, |receiver| receiver != node);
            }
        }
    }

    /// From now on, messages between the two nodes may be lost, until
    /// [all is well](Model::reconnect).
    pub(crate) fn cut(&mut self, one: usize, other: usize) {
        self.cut.extend([(one, other), (other, one)]);
        for id in self.active.clone() {
            for (from, to) in [(one, other), (other, one)] {
                if self.messages.get(&id).is_some_and(|m| m.node == from) {
                    self.forgive_all(id, Reason::LinkCut, |receiver| receiver == to);
                }
            }
        }
    }

    /// All nodes know all others again.
    pub(crate) fn reconnect(&mut self) {
        self.cut.clear();
    }

    /// Each node sends a message to each other one; the time is for [`end_epoch`](Model::end_epoch).
    pub(crate) fn begin_epoch(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// These messages have come: what was answered before is known and has arrived everywhere.
    pub(crate) fn end_epoch(&mut self, begun: u64) {
        let names = &mut self.names;
        self.unsettled.retain(|(name, session, since)| {
            let members = names.get_mut(name).map(|members| &mut members.members);
            match members.and_then(|members| members.get_mut(session)) {
                Some(Membership::In { is_settled }) if *since < begun => {
                    *is_settled = true;
                    false
                }
                Some(Membership::In { .. }) => true,
                _ => false,
            }
        });
        let messages = &mut self.messages;
        self.active.retain(|id| {
            let Some(message) = messages.get_mut(id) else {
                return false;
            };
            if message.answered.is_none_or(|answered| answered >= begun) {
                return true;
            }
            for name in &message.names {
                if let Some(members) = names.get_mut(name) {
                    members.active.remove(id);
                }
            }
            message.receivers = Vec::new();
            false
        });
        self.tally.epochs += 1;
    }

    /// No node works for a client that has left any more: what was not answered has been done, or
    /// will never be.
    pub(crate) fn finish_abandoned(&mut self) {
        for id in std::mem::take(&mut self.abandoned) {
            self.answered(id);
        }
    }

    /// Everything was answered, an epoch has ended since, and after it each client was answered
    /// once more: what has not come is lost.
    pub(crate) fn pass_barrier(&mut self) -> Result<(), Violation> {
        if let Some(id) = self.active.first() {
            return Err(Violation::Unfinished(*id));
        }
        for session in self.sessions.keys().copied().collect::<Vec<_>>() {
            let Some(client) = self.sessions.get_mut(&session) else {
                continue;
            };
            client.last.clear();
            let owed = std::mem::take(&mut client.owed);
            self.settle_debts(session, &owed)?;
        }
        self.messages.clear();
        self.names.retain(|_, members| !members.members.is_empty());
        self.tally.barriers += 1;
        Ok(())
    }

    /// The members of a group or the holders of a uid, at a barrier.
    pub(crate) fn members(&self, name: Name) -> impl Iterator<Item = SessionId> {
        let members = self.names.get(&name).into_iter();
        members.flat_map(|members| members.members.keys().copied())
    }

    /// Someone to whom a message must not come.
    pub(crate) fn session_not_owed(&self, id: MessageId) -> Option<SessionId> {
        let mut sessions = self.sessions.iter();
        let found = sessions.find(|(_, session)| !session.owed.contains_key(&id));
        found.map(|(session, _)| *session)
    }

    /// Whether a later message of the same sender has to come to a client.
    pub(crate) fn has_later(&self, session: SessionId, id: MessageId) -> bool {
        let Some(session) = self.sessions.get(&session) else {
            return false;
        };
        let mut later = session.owed.range(id + 1..);
        later.any(|(later, owed)| *owed == Owed::Must && self.sender(*later) == self.sender(id))
    }

    /// Whether a message has to come to anybody, and has not come to them yet.
    pub(crate) fn has_to_come(&self, id: MessageId) -> bool {
        let owes = |session: &Session| session.owed.get(&id) == Some(&Owed::Must);
        self.sessions.values().any(owes)
    }

    /// Who sent a message.
    pub(crate) fn sender(&self, id: MessageId) -> Option<SessionId> {
        self.messages.get(&id).map(|message| message.sender)
    }

    /// What is known of a message, for a person.
    pub(crate) fn describe(&self, id: MessageId) -> String {
        match self.messages.get(&id) {
            Some(message) => format!(
                "message {id} of session {} at node {} to {:?}, sent {:.3?} ago, answered: {}, \
                 still under way: {}",
                message.sender,
                message.node,
                message.names,
                message.at.elapsed(),
                message.answered.is_some(),
                self.active.contains(&id)
            ),
            None => format!("message {id}, from before the last barrier"),
        }
    }

    fn settle_debts(
        &mut self,
        session: SessionId,
        owed: &BTreeMap<MessageId, Owed>,
    ) -> Result<(), Violation> {
        for (id, owed) in owed {
            match owed {
                Owed::Must => return Err(Violation::Lost(session, *id)),
                Owed::May(reason) => *self.tally.allowed.entry(*reason).or_default() += 1,
                Owed::Came => {}
            }
        }
        Ok(())
    }

    fn forgive(&mut self, session: SessionId, id: MessageId, reason: Reason) {
        if let Some(client) = self.sessions.get_mut(&session)
            && let Some(owed @ Owed::Must) = client.owed.get_mut(&id)
        {
            *owed = Owed::May(reason);
        }
    }

    /// The same for all receivers at nodes of which this holds.
    fn forgive_all(&mut self, id: MessageId, reason: Reason, at: impl Fn(usize) -> bool) {
        let Some(message) = self.messages.get(&id) else {
            return;
        };
        for receiver in message.receivers.clone() {
            if self.sessions.get(&receiver).is_some_and(|r| at(r.node)) {
                self.forgive(receiver, id, reason);
            }
        }
    }
}
