//! The requests of a peer for a client that has come back there and is to move. The sessions of clients
//! answer them (docs/mesh.md).

use std::time::Duration;

use tokio::sync::oneshot;

use crate::id::{ClientId, Incarnation};
use crate::message::Frame;
use crate::registry::HeldState;

/// The most requests that wait. The receiver takes them without delay.
pub(super) const WAITING: usize = 4096;

/// A request of a peer for a client of a plugin.
#[derive(Debug)]
pub struct MoveRequest {
    /// The name of the plugin.
    pub plugin: String,
    /// The client that is to move.
    pub client: ClientId,
    /// What the peer wants.
    pub step: MoveStep,
}

/// A step of the move of a client, as its old node sees it. A step that is dropped is refused.
#[derive(Debug)]
pub enum MoveStep {
    /// The client has come back at the peer.
    Take(ShownToken, oneshot::Sender<HeldClient>),
    /// These nodes have switched to the peer, which wants all that the client has not received.
    Give(Vec<Incarnation>, oneshot::Sender<GivenClient>),
    /// The peer has the client.
    Taken,
}

/// What a client has shown that comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownToken {
    /// The secret of the client.
    pub secret: Vec<u8>,
    /// How many messages it has received.
    pub received: u64,
    /// The uid in its handshake, if the handshake was checked.
    pub shown_uid: Option<Option<String>>,
}

/// What a client has at its old node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldClient {
    /// Its uid, groups and info.
    pub state: HeldState,
    /// The uid that its first handshake has shown.
    pub shown_uid: Option<String>,
    /// When its token expires, if it does.
    pub expires_in: Option<Duration>,
    /// The subprotocol that its plugin has chosen.
    pub subprotocol: Option<String>,
    /// The number of this move. Each move of a client has a greater one.
    pub number: u64,
}

/// What a client has in the end, and what it has not received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GivenClient {
    /// Its uid, groups and info.
    pub state: HeldState,
    /// How many of its messages were handled.
    pub handled: u64,
    /// The messages that it has not received.
    pub frames: Vec<Frame>,
}
