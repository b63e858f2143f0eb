//! Receiving: the frames of a peer are delivered, noted or answered.
//!
//! Frames are handled in their order, and never forwarded. A frame that cannot be understood is
//! counted and ignored, since a peer of another version may send more than this one knows.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::FutureExt as _;
use prost::Message as _;

use super::holdings::{HoldingSize, cost_of};
use super::interest::{MovedTo, Noted, Space};
use super::moves::switched_frame;
use super::peer::Peer;
use super::peer_event::Failed;
use super::phase::Phase;
use super::state::Mesh;
use super::wire::{self, NotUnderstood, answer, refused};
use crate::delivery::{Delivery, Target};
use crate::id::{ClientId, Incarnation};
use crate::limits::NAME_BYTES_MAX;
use crate::message::Frame;
use crate::policy::UidPolicy;
use crate::registry::{Binding, Kind, Namespace, Refused};
use crate::tracer::{RemoteContext, Span, SpanKind, within};

impl Mesh {
    /// Handles one frame of a peer.
    pub(super) fn receive(self: &Arc<Self>, peer: &Arc<Peer>, frame: Bytes) {
        use wire::frame::Frame::{
            Answer, Ask, Claim, ClientTaken, Deliver, Deployments, Interest, Leaving, Switch,
            Switched, Timers,
        };
        if frame.is_empty() {
            // It was taken back before it went out.
            return;
        }
        let understood = match wire::Frame::decode(frame)
            .ok()
            .and_then(|frame| frame.frame)
        {
            Some(Deliver(deliver)) => self.deliver(peer, deliver),
            Some(Interest(interest)) => self.note(peer, interest),
            Some(Ask(wire::Ask {
                id,
                plugin,
                event: Some(event),
                trace,
                ..
            })) => {
                self.take_event(peer, id, plugin, event, trace);
                Ok(())
            }
            Some(Ask(wire::Ask {
                id,
                deployment: Some(step),
                ..
            })) => self.take_step(peer, id, step),
            Some(Ask(ask)) => {
                self.answer_to(peer, ask);
                Ok(())
            }
            Some(Answer(answer)) => {
                // An answer without content is one of another version; nobody waits for it.
                let content = answer.answer.ok_or(Failed::UnexpectedAnswer);
                peer.questions.answer(answer.id, content);
                Ok(())
            }
            Some(Claim(claim)) => self.claimed(&claim),
            Some(Timers(timers)) => self.note_timers(&timers),
            Some(Deployments(deployments)) => self.hear_deployments(deployments),
            Some(Switch(switch)) => self.switch(peer, &switch),
            Some(Switched(switched)) => wire::client(&switched.client)
                .map(|client| {
                    let (node, number) = (peer.incarnation(), switched.number);
                    self.note_switched(node, &switched.plugin, client, number);
                })
                .ok_or(NotUnderstood),
            Some(ClientTaken(taken)) => self.client_was_taken(taken),
            Some(Leaving(_)) => {
                peer.change(Phase::leave);
                self.serving_changed.send_replace(());
                Ok(())
            }
            None => Err(NotUnderstood),
        };
        if understood.is_err() {
            self.registry.counters().mesh_not_understood.add_one();
        }
    }

    fn answer_to(self: &Arc<Self>, peer: &Arc<Peer>, ask: wire::Ask) {
        let (mesh, peer, id) = (self.clone(), peer.clone(), ask.id);
        let mut answering = Box::pin(async move {
            let span =
                mesh.remote_span("answer", SpanKind::Server, ask.trace.as_ref(), &ask.plugin);
            let answer = within(span.as_ref(), mesh.answer(ask)).await;
            mesh.answer_with(&peer, id, answer, too_large());
        });
        // Mostly it is there at once. One that concerns very many clients goes on by itself:
        // what the peer says next does not wait for it, and it outlives the connection.
        if answering.as_mut().now_or_never().is_none() {
            tokio::spawn(answering);
        }
    }

    /// Begins the span of what a peer has sent, if the peer has a span for it.
    fn remote_span(
        &self,
        name: &'static str,
        kind: SpanKind,
        from: Option<&wire::TraceContext>,
        plugin: &str,
    ) -> Option<Span> {
        let from = RemoteContext::from(from?.clone());
        let span = self.registry.tracer().remote(name, kind, Some(&from))?;
        span.set("jackfield.plugin", plugin.to_owned());
        Some(span)
    }

    fn deliver(&self, peer: &Peer, deliver: wire::Deliver) -> Result<(), NotUnderstood> {
        use wire::deliver::To;
        let frame = Frame::from_wire(deliver.frame).ok_or(NotUnderstood)?;
        let exclude: Option<Vec<ClientId>> = deliver
            .exclude
            .iter()
            .map(|bytes| wire::client(bytes))
            .collect();
        let exclude = &exclude.ok_or(NotUnderstood)?;
        // A plugin that is not here has no clients here.
        let Some(namespace) = self.registry.namespace(&deliver.plugin) else {
            return Ok(());
        };
        let counters = self.registry.counters();
        counters.mesh_delivered.add_one();
        let trace = deliver.trace.as_ref();
        let _span = self.remote_span("deliver", SpanKind::Consumer, trace, &deliver.plugin);
        let traces = self.registry.live_traces();
        let _sender = traces.sends_as(|| match &*deliver.by {
            "" => format!("node {}", peer.incarnation()),
            by => by.to_owned(),
        });
        let to = match &deliver.to {
            Some(To::Client(bytes)) => {
                let client = wire::client(bytes).ok_or(NotUnderstood)?;
                let sent = namespace
                    .find(client)
                    .and_then(|client| namespace.send_to(&client, frame));
                if matches!(sent, Err(Refused::NotFound(_))) {
                    // It has left while the message was on its way.
                    counters.mesh_client_missing.add_one();
                }
                return Ok(());
            }
            Some(To::All(_)) => Target::All,
            Some(To::Uids(uids)) => Target::Uids(&uids.names),
            Some(To::Groups(groups)) => Target::Groups(&groups.names),
            None => return Err(NotUnderstood),
        };
        namespace.deliver(&Delivery {
            to,
            exclude,
            frame,
            from: Some(peer.incarnation()),
        });
        Ok(())
    }

    fn note(&self, peer: &Peer, mut interest: wire::Interest) -> Result<(), NotUnderstood> {
        let mut understood = leave_out_long_names(&mut interest);
        if interest.first {
            let number = self.snapshots.fetch_add(1, Ordering::Relaxed) + 1;
            peer.begin_snapshot(number);
        }
        for holding in &interest.holdings {
            if self.note_holding(peer, holding).is_err() {
                understood = Err(NotUnderstood);
                if peer.holdings.leave_out() {
                    let (peer, address) = (peer.incarnation(), peer.address());
                    tracing::error!(
                        %peer,
                        address,
                        "a node holds more plugins, uids or groups than this node keeps of one \
                         node: the rest is left out, and lists name the node as missing \
                         (limits.interest_bytes)"
                    );
                }
            }
        }
        if interest.last {
            let freed = self.interest.forget_before(peer.snapshot());
            peer.holdings.remove(freed);
            if !peer.change(Phase::complete_snapshot).has_come() {
                let (peer, address) = (peer.incarnation(), peer.address());
                tracing::info!(%peer, address, "a node has come");
            }
        }
        understood
    }

    /// Notes what a peer holds of one plugin, as far as there is room.
    fn note_holding(&self, peer: &Peer, holding: &wire::Holding) -> Result<(), NoRoom> {
        let most = self.limits().interest_bytes;
        let (snapshot, says_something) = (peer.snapshot(), says_something(holding));
        let Some(space) = self.interest.space(&holding.plugin).or_else(|| {
            // A plugin that is named for the first time, and for nothing, is not kept.
            let has_room = says_something && peer.holdings.has_room(HoldingSize::PLUGIN, most);
            has_room.then(|| self.interest.space_of(&holding.plugin))
        }) else {
            return if says_something { Err(NoRoom) } else { Ok(()) };
        };
        let before = space.held_by(snapshot.node);
        let told = holding.serving.as_ref();
        let texts = told.map(|told| cost_of(texts(told)));
        let more = HoldingSize {
            plugins: usize::from(says_something).saturating_sub(before.plugins),
            bytes: texts.map_or(0, |bytes| bytes.saturating_sub(before.bytes)),
        };
        if !peer.holdings.has_room(more, most) {
            return Err(NoRoom);
        }
        if let Some(clients) = holding.clients {
            space.note_clients(snapshot, clients);
        }
        if let Some(serving) = &holding.serving {
            self.note_serving(peer, &holding.plugin, serving);
        }
        if let Some(fires) = holding.fires
            && space.note_fires(snapshot, fires)
        {
            self.push_timers(peer, &holding.plugin);
        }
        peer.holdings.add(space.held_by(snapshot.node));
        peer.holdings.remove(before);
        // A node tells its clients of a plugin before their names, except while its snapshot begins.
        // Names without clients must not bring plugins that do not count.
        let counts = space.has_clients_of(snapshot.node)
            || self.registry.namespace(&holding.plugin).is_some();
        let mut noted = Ok(());
        for held in &holding.groups {
            let is_noted = self.note_name(peer, &space, Kind::Group, held, counts);
            noted = noted.and(is_noted.map(drop));
        }
        for held in &holding.uids {
            let is_noted = self.note_name(peer, &space, Kind::Uid, held, counts);
            // In a full snapshot any of them: it may be known from one that came before.
            if is_noted == Ok(Noted::New) || is_noted.is_ok() && !peer.phase().is_known() {
                self.claim_against(peer, &holding.plugin, &held.name);
            }
            noted = noted.and(is_noted.map(drop));
        }
        for moved in &holding.moved {
            let is_noted = self.note_moved(peer, &space, moved);
            noted = noted.and(is_noted);
        }
        noted
    }

    /// Notes that a client has moved to a peer, or is no longer there, if there is room.
    fn note_moved(
        &self,
        peer: &Peer,
        space: &Space,
        moved: &wire::MovedClient,
    ) -> Result<(), NoRoom> {
        let Some(client) = wire::client(&moved.client) else {
            return Ok(());
        };
        let cost = HoldingSize::MOVED_CLIENT;
        let most = self.limits().interest_bytes;
        if moved.is_here && !peer.holdings.has_room(cost, most) {
            return Err(NoRoom);
        }
        let at = MovedTo {
            snapshot: peer.snapshot(),
            number: moved.number,
        };
        match space.note_moved(client, at, moved.is_here) {
            Noted::New => peer.holdings.add(cost),
            Noted::Gone => peer.holdings.remove(cost),
            Noted::AsBefore => {}
        }
        Ok(())
    }

    /// Sends to the new node of a client from now on, and tells both nodes so. Whatever this node
    /// sends meanwhile waits, so that it goes either to the old node before that frame or to the new
    /// one after it.
    fn switch(&self, peer: &Peer, switch: &wire::Switch) -> Result<(), NotUnderstood> {
        let client = wire::client(&switch.client).ok_or(NotUnderstood)?;
        let from = Incarnation::from_u64(switch.from).ok_or(NotUnderstood)?;
        let number = switch.number;
        let switched = switched_frame(&switch.plugin, client, number);
        let _routes = self.routes.write();
        // What the node tells of its clients says the same a moment later, and counts against its bound.
        let at = MovedTo {
            snapshot: peer.snapshot(),
            number,
        };
        let space = self.interest.space_of(&switch.plugin);
        if space.note_moved(client, at, true) == Noted::New {
            peer.holdings.add(HoldingSize::MOVED_CLIENT);
        }
        self.push_reliable(peer, switched.clone());
        if from == self.own() {
            if let Some(namespace) = self.registry.namespace(&switch.plugin) {
                namespace.client_moves();
            }
            self.note_switched(self.own(), &switch.plugin, client, number);
        } else if let Some(old) = self.peer(from) {
            self.push_reliable(&old, switched);
        }
        Ok(())
    }

    /// Notes that a node sends to the new node of a client from now on.
    pub(super) fn note_switched(
        &self,
        node: Incarnation,
        plugin: &str,
        client: ClientId,
        number: u64,
    ) {
        let namespace = self.registry.namespace(plugin);
        if let Some(client) = namespace.and_then(|namespace| namespace.find(client).ok()) {
            client.switch(node, number);
        }
    }

    /// Notes how many clients of a uid or group a peer holds, if there is room. A new name of a
    /// plugin that does not count is passed over.
    fn note_name(
        &self,
        peer: &Peer,
        space: &Space,
        kind: Kind,
        held: &wire::HeldName,
        counts: bool,
    ) -> Result<Noted, NoRoom> {
        let (snapshot, cost) = (peer.snapshot(), HoldingSize::name(&held.name));
        if held.clients > 0 && !counts {
            return Ok(Noted::AsBefore);
        }
        let has_room = || {
            peer.holdings.has_room(cost, self.limits().interest_bytes)
                || space.holds(kind, &held.name, snapshot.node)
        };
        if held.clients > 0 && !has_room() {
            return Err(NoRoom);
        }
        let noted = space.note(kind, &held.name, snapshot, held.clients);
        match noted {
            Noted::New => peer.holdings.add(cost),
            Noted::Gone => peer.holdings.remove(cost),
            Noted::AsBefore => {}
        }
        Ok(noted)
    }

    /// Tells all peers that hold a uid that this node has bound it, if only one client may have it.
    pub fn claim(&self, plugin: &str, uid: &str) {
        let Some(space) = self.interest.space(plugin) else {
            return;
        };
        for holder in space.holders(Kind::Uid, uid) {
            if let Some(peer) = self.peer(holder.node) {
                self.claim_against(&peer, plugin, uid);
            }
        }
    }

    /// Repeats the claims on these uids to a peer, since earlier claims may have been lost with the
    /// frames of its link.
    pub(super) fn claim_again(&self, peer: &Peer, namespace: &Namespace, uids: &[Arc<str>]) {
        let Some(space) = self.interest.space(namespace.name()) else {
            return;
        };
        if namespace.policies().uid == UidPolicy::Many {
            return;
        }
        for uid in uids {
            let holders = space.holders(Kind::Uid, uid);
            if holders.iter().any(|h| h.node == peer.incarnation()) {
                self.claim_against(peer, namespace.name(), uid);
            }
        }
    }

    /// Tells a peer when this node's client was bound to a uid that the peer holds, too, if only
    /// one client may have it. The peer tells the same to this node, and one of the two nodes
    /// yields.
    fn claim_against(&self, peer: &Peer, plugin: &str, uid: &str) {
        let Some(namespace) = self.registry.namespace(plugin) else {
            return;
        };
        if namespace.policies().uid == UidPolicy::Many {
            return;
        }
        for binding in namespace.bindings(uid) {
            let claim = wire::Claim {
                plugin: plugin.to_owned(),
                uid: uid.to_owned(),
                bound_at_ms: binding.at_ms,
                client: wire::client_bytes(binding.client),
            };
            self.push_reliable(peer, wire::encode(wire::frame::Frame::Claim(claim)));
        }
    }

    fn claimed(&self, claim: &wire::Claim) -> Result<(), NotUnderstood> {
        let binding = Binding {
            at_ms: claim.bound_at_ms,
            client: wire::client(&claim.client).ok_or(NotUnderstood)?,
        };
        if let Some(namespace) = self.registry.namespace(&claim.plugin) {
            namespace.yield_uid(&claim.uid, binding);
        }
        Ok(())
    }
}

/// The answer in the place of one that is too large for the link.
fn too_large() -> answer::Answer {
    answer::Answer::Refused(wire::Refused {
        reason: refused::Reason::LimitExceeded.into(),
        message: "the answer is too large for the link to this node".to_owned(),
    })
}

/// The error for what a peer tells beyond what this node keeps of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NoRoom;

/// Whether a peer says that it has anything of a plugin. A gateway also names the plugins of which
/// it has nothing.
fn says_something(holding: &wire::Holding) -> bool {
    let serving = holding.serving.as_ref().map(wire::Serving::state);
    let mut names = holding.uids.iter().chain(&holding.groups);
    holding.clients.is_some_and(|clients| clients > 0)
        || holding.fires.is_some_and(|fires| fires > 0)
        || serving.is_some_and(|state| state != wire::serving::State::None)
        || names.any(|held| held.clients > 0)
}

/// The texts of any length in what a peer says of a plugin.
fn texts(serving: &wire::Serving) -> impl Iterator<Item = &str> {
    let rollout = serving.canary.iter().flat_map(|canary| &canary.rollout);
    let uids = rollout.flat_map(|rollout| &rollout.uids);
    let texts = serving.routes.iter().chain(uids);
    texts.chain(&serving.failure).map(String::as_str)
}

/// Leaves out names that no node of any configuration may have. A peer is trusted, but a mistake of
/// its program must not take the memory of all others.
fn leave_out_long_names(interest: &mut wire::Interest) -> Result<(), NotUnderstood> {
    let mut are_all_good = true;
    let mut is_good = |name: &str| {
        let is_good = name.len() <= NAME_BYTES_MAX;
        are_all_good &= is_good;
        is_good
    };
    interest.holdings.retain_mut(|holding| {
        holding.uids.retain(|held| is_good(&held.name));
        holding.groups.retain(|held| is_good(&held.name));
        if let Some(serving) = &mut holding.serving {
            serving.routes.retain(|route| is_good(route));
            serving.failure.take_if(|failure| !is_good(failure));
        }
        is_good(&holding.plugin)
    });
    match are_all_good {
        true => Ok(()),
        false => Err(NotUnderstood),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_node_may_have_is_left_out() {
        let held = |bytes: usize| wire::HeldName {
            name: "n".repeat(bytes),
            clients: 1,
        };
        let holding = |plugin: &str| wire::Holding {
            plugin: plugin.to_owned(),
            uids: vec![held(NAME_BYTES_MAX), held(NAME_BYTES_MAX + 1)],
            groups: vec![held(NAME_BYTES_MAX + 1), held(3)],
            ..wire::Holding::default()
        };
        let long = "p".repeat(NAME_BYTES_MAX + 1);
        let mut interest = wire::Interest {
            first: false,
            last: false,
            holdings: vec![holding("chat"), holding(&long)],
        };
        assert!(leave_out_long_names(&mut interest).is_err());
        let [chat] = &interest.holdings[..] else {
            panic!("one plugin is left");
        };
        assert_eq!((chat.uids.len(), chat.groups.len()), (1, 1));
        assert_eq!(chat.groups[0].name, "nnn");
        assert!(leave_out_long_names(&mut interest).is_ok());
    }
}
