//! Receiving: the frames of a peer are delivered, noted or answered.
//!
//! Frames are handled in their order, and never forwarded. A frame that cannot be understood is
//! counted and ignored, since a peer of another version may send more than this one knows.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::FutureExt as _;
use prost::Message as _;

use super::peer::Peer;
use super::peer_event::Failed;
use super::phase::Phase;
use super::state::Mesh;
use super::wire::{self, NotUnderstood};
use crate::delivery::{Delivery, Target};
use crate::id::ClientId;
use crate::limits::NAME_BYTES_MAX;
use crate::message::Frame;
use crate::policy::UidPolicy;
use crate::registry::{Binding, Kind, Namespace, Refused};

impl Mesh {
    /// Handles one frame of a peer.
    pub(super) fn receive(self: &Arc<Self>, peer: &Arc<Peer>, frame: Bytes) {
        use wire::frame::Frame::{Answer, Ask, Claim, Deliver, Interest, Leaving, Timers};
        if frame.is_empty() {
            // It was taken back before it went out.
            return;
        }
        let understood = match wire::Frame::decode(frame)
            .ok()
            .and_then(|frame| frame.frame)
        {
            Some(Deliver(deliver)) => self.deliver(deliver),
            Some(Interest(interest)) => self.note(peer, interest),
            Some(Ask(wire::Ask {
                id,
                plugin,
                event: Some(event),
                ..
            })) => {
                self.take_event(peer, id, plugin, event);
                Ok(())
            }
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
        let (mesh, peer) = (self.clone(), peer.clone());
        let mut answering = Box::pin(async move {
            let answer = mesh.answer(ask).await;
            // Where there is no room, who asked waits in vain, and not for long: no reason to
            // drop all messages that found some.
            mesh.push(&peer, wire::encode(wire::frame::Frame::Answer(answer)));
        });
        // Mostly it is there at once. One that concerns very many clients goes on by itself:
        // what the peer says next does not wait for it, and it outlives the connection.
        if answering.as_mut().now_or_never().is_none() {
            tokio::spawn(answering);
        }
    }

    fn deliver(&self, deliver: wire::Deliver) -> Result<(), NotUnderstood> {
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
        namespace.deliver(&Delivery { to, exclude, frame });
        Ok(())
    }

    fn note(&self, peer: &Peer, mut interest: wire::Interest) -> Result<(), NotUnderstood> {
        let understood = leave_out_long_names(&mut interest);
        if interest.first {
            let number = self.snapshots.fetch_add(1, Ordering::Relaxed) + 1;
            peer.begin_snapshot(number);
        }
        let snapshot = peer.snapshot();
        for holding in &interest.holdings {
            let space = self.interest.space_of(&holding.plugin);
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
            for held in &holding.groups {
                space.note(Kind::Group, &held.name, snapshot, held.clients);
            }
            for held in &holding.uids {
                let is_new = space.note(Kind::Uid, &held.name, snapshot, held.clients);
                // In a full snapshot any of them: it may be known from one that came before.
                if is_new || !peer.phase().is_known() {
                    self.claim_against(peer, &holding.plugin, &held.name);
                }
            }
        }
        if interest.last {
            self.interest.forget_before(snapshot);
            if !peer.change(Phase::complete_snapshot).has_come() {
                let (peer, address) = (peer.incarnation(), peer.address());
                tracing::info!(%peer, address, "a node has come");
            }
        }
        understood
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
