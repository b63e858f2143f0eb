//! Moves of clients between nodes: both sides of what the nodes say to each other.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::move_request::{GivenClient, HeldClient, MoveRequest, MoveStep, ShownToken};
use super::state::Mesh;
use super::wire::answer::Answer;
use super::wire::{self, NotUnderstood};
use crate::id::{ClientId, Incarnation};
use crate::message::Frame;
use crate::registry::{HeldState, Refused, in_ms};

impl Mesh {
    /// Returns the receiver of peers' requests for clients that move. Only the first call returns
    /// the receiver.
    pub fn move_requests(&self) -> Option<mpsc::Receiver<MoveRequest>> {
        self.moves.take_receiver()
    }

    /// The other node that has a client, as far as this node knows.
    pub fn owner(&self, plugin: &str, client: ClientId) -> Option<Incarnation> {
        let space = self.interest.space(plugin);
        let moved_to = space.and_then(|space| space.moved_to(client));
        let owner = moved_to.unwrap_or(client.incarnation());
        (owner != self.own()).then_some(owner)
    }

    /// Whether a client has moved to another node by the move with this number, or by a later one, as
    /// far as this node was told.
    pub fn has_moved(&self, plugin: &str, client: ClientId, number: u64) -> bool {
        let space = self.interest.space(plugin);
        space.is_some_and(|space| space.last_move(client) >= Some(number))
    }

    /// Tells all nodes that a client has moved here from the node `from`, and returns the nodes that
    /// will say that they have switched. This node is one of them.
    pub fn announce_move(
        &self,
        plugin: &str,
        client: ClientId,
        from: Incarnation,
        number: u64,
    ) -> Vec<Incarnation> {
        // What the client has is told before.
        self.publish();
        let switch = wire::encode(wire::frame::Frame::Switch(wire::Switch {
            plugin: plugin.to_owned(),
            client: wire::client_bytes(client),
            from: from.to_u64(),
            number,
        }));
        let mut nodes = vec![self.own()];
        for peer in self.peers() {
            // Nobody waits for a node that may be dead.
            if !peer.phase().is_silent() {
                self.push_reliable(&peer, switch.clone());
                nodes.push(peer.incarnation());
            }
        }
        let _routes = self.routes.write();
        self.note_switched(self.own(), plugin, client, number);
        if let Some(old) = self.peer(from) {
            self.push_reliable(&old, switched_frame(plugin, client, number));
        }
        nodes
    }

    /// Tells the old node of a client that this node has it.
    pub fn say_taken(&self, plugin: &str, client: ClientId, from: Incarnation) {
        if let Some(old) = self.peer(from) {
            let taken = wire::ClientTaken {
                plugin: plugin.to_owned(),
                client: wire::client_bytes(client),
            };
            self.push_reliable(&old, wire::encode(wire::frame::Frame::ClientTaken(taken)));
        }
    }

    /// Passes on that a peer has taken over a client of this node.
    pub(super) fn client_was_taken(&self, taken: wire::ClientTaken) -> Result<(), NotUnderstood> {
        let client = wire::client(&taken.client).ok_or(NotUnderstood)?;
        self.request_move(&taken.plugin, client, MoveStep::Taken);
        Ok(())
    }

    /// Answers a peer at which a client of this node has come back.
    pub(super) async fn take_client(
        &self,
        plugin: &str,
        take: wire::TakeClient,
    ) -> Result<Result<Answer, Refused>, NotUnderstood> {
        let client = wire::client(&take.client).ok_or(NotUnderstood)?;
        let shown = ShownToken {
            secret: take.secret.to_vec(),
            received: take.received,
            shown_uid: take.is_checked.then_some(take.shown_uid),
        };
        let (sender, answer) = oneshot::channel();
        self.request_move(plugin, client, MoveStep::Take(shown, sender));
        // Its session may be in the middle of an event. Who asks waits no longer than this.
        let held = timeout(self.limits().ask_timeout, answer).await;
        let held = held.ok().and_then(Result::ok);
        let held = held.map(|held| Answer::HeldClient(held.into()));
        Ok(held.ok_or(Refused::NotFound(client)))
    }

    /// Answers a peer that wants all that a client of this node has not received.
    pub(super) async fn give_client(
        &self,
        plugin: &str,
        give: wire::GiveClient,
    ) -> Result<Result<Answer, Refused>, NotUnderstood> {
        let client = wire::client(&give.client).ok_or(NotUnderstood)?;
        let nodes = give.nodes.into_iter().map(Incarnation::from_u64);
        let nodes: Option<Vec<Incarnation>> = nodes.collect();
        let (sender, answer) = oneshot::channel();
        let step = MoveStep::Give(nodes.ok_or(NotUnderstood)?, sender);
        self.request_move(plugin, client, step);
        let given = answer.await.map(|given| Answer::GivenClient(given.into()));
        Ok(given.map_err(|_| Refused::NotFound(client)))
    }

    /// Where there is no room, the request is dropped, and so refused.
    fn request_move(&self, plugin: &str, client: ClientId, step: MoveStep) {
        let _ = self.moves.sender.try_send(MoveRequest {
            plugin: plugin.to_owned(),
            client,
            step,
        });
    }
}

/// What tells both nodes of a client that this node sends to the new one from now on.
pub(super) fn switched_frame(plugin: &str, client: ClientId, number: u64) -> bytes::Bytes {
    wire::encode(wire::frame::Frame::Switched(wire::Switched {
        plugin: plugin.to_owned(),
        client: wire::client_bytes(client),
        number,
    }))
}

impl From<HeldClient> for wire::HeldClient {
    fn from(held: HeldClient) -> wire::HeldClient {
        let state = held.state;
        wire::HeldClient {
            uid: state.uid.map(|uid| uid.to_string()),
            bound_at_ms: state.bound_at_ms,
            groups: state.groups.iter().map(ToString::to_string).collect(),
            info: state.info.into_iter().collect(),
            shown_uid: held.shown_uid,
            expires_in_ms: held.expires_in.map(in_ms),
            number: held.number,
            subprotocol: held.subprotocol,
        }
    }
}

impl From<wire::HeldClient> for HeldClient {
    fn from(held: wire::HeldClient) -> HeldClient {
        HeldClient {
            state: HeldState {
                uid: held.uid.map(Into::into),
                bound_at_ms: held.bound_at_ms,
                groups: held.groups.into_iter().map(Into::into).collect(),
                info: held.info.into_iter().collect(),
            },
            shown_uid: held.shown_uid,
            expires_in: held.expires_in_ms.map(Duration::from_millis),
            subprotocol: held.subprotocol,
            number: held.number,
        }
    }
}

impl From<GivenClient> for wire::GivenClient {
    fn from(given: GivenClient) -> wire::GivenClient {
        let held = HeldClient {
            state: given.state,
            ..HeldClient::default()
        };
        let frames = given.frames.iter();
        wire::GivenClient {
            held: Some(held.into()),
            handled: given.handled,
            frames: frames.map(Frame::to_bytes).collect(),
        }
    }
}

/// Reads what a node has given; none: it makes no sense.
pub(super) fn given_client(given: wire::GivenClient) -> Option<GivenClient> {
    let frames = given.frames.into_iter();
    Some(GivenClient {
        state: HeldClient::from(given.held?).state,
        handled: given.handled,
        frames: frames.map(Frame::from_wire).collect::<Option<_>>()?,
    })
}
