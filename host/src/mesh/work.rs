//! Events that go to another node, and those that come from one.
//!
//! Whoever holds a client asks a node that runs its plugin, and waits for the answer: of one
//! client there is one event under way at a time, so they stay in order. What comes from peers
//! waits here for the room that runs plugins, which says how many there may be of a plugin.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::wire::{self, answer::Answer, ask::Ask};
use super::{Mesh, Peer};
use crate::id::Incarnation;

pub use super::wire::call_failed::Code;
pub use super::wire::not_handled::Why as NotHandled;
pub use super::wire::said::Message as SaidMessage;
pub use super::wire::{
    Accepted, Call, CallFailed, Closed, Closer, Connect, Done, Pair, Said, TurnedAway,
};

/// An event of a peer's client, or a call that came to a peer.
pub struct Work {
    /// Whose event it is.
    pub plugin: String,
    /// What happened: `Connect`, `Said`, `Closed` or `Call`.
    pub event: Ask,
    id: u64,
    mesh: Arc<Mesh>,
    peer: Arc<Peer>,
}

/// Why a node has not handled an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// It could not be told: nothing has happened.
    Untold,
    /// No link takes so much at once: nothing has happened.
    TooLarge,
    /// It went while it was at it: perhaps it has.
    Gone,
    /// It did not answer in time: perhaps it still does.
    Late,
}

/// Events that wait until somebody looks at them, which takes no time: how many may be under way
/// is said there. Beyond: overloaded.
const WAITING: usize = 1 << 16;

/// Where events of peers wait.
pub(super) struct Queue {
    sender: mpsc::Sender<Work>,
    receiver: parking_lot::Mutex<Option<mpsc::Receiver<Work>>>,
}

impl Queue {
    pub(super) fn new() -> Queue {
        let (sender, receiver) = mpsc::channel(WAITING);
        Queue {
            sender,
            receiver: parking_lot::Mutex::new(Some(receiver)),
        }
    }
}

impl Work {
    /// Tells the client's node how it went.
    pub fn answer(self, answer: Answer) {
        self.mesh.answer_with(&self.peer, self.id, answer);
    }

    /// There are too many.
    pub fn refuse(self) {
        self.mesh.registry.counters().peer_events_refused.add_one();
        self.answer(not_handled(NotHandled::Overloaded));
    }
}

impl Mesh {
    /// Where the events of peers come out: for the one who handles them.
    pub fn work(&self) -> Option<mpsc::Receiver<Work>> {
        self.work.receiver.lock().take()
    }

    /// Lets another node handle an event, and waits for that, `patience` at most.
    pub async fn entrust(
        &self,
        worker: Incarnation,
        plugin: &str,
        event: Ask,
        patience: Duration,
    ) -> Result<Answer, Failed> {
        let peer = self.peer(worker).ok_or(Failed::Untold)?;
        let mut asked = self.question(&peer, plugin, event)?;
        match tokio::time::timeout(patience, asked.answer()).await {
            Ok(answered) => answered,
            Err(_) => Err(Failed::Late),
        }
    }

    /// Takes in an event of a peer's client.
    pub(super) fn take_work(self: &Arc<Self>, peer: &Arc<Peer>, ask: wire::Ask) {
        let wire::Ask { id, plugin, ask } = ask;
        let Some(event) = ask else { return };
        self.registry.counters().peer_events.add_one();
        let work = Work {
            plugin,
            event,
            id,
            mesh: self.clone(),
            peer: peer.clone(),
        };
        match self.work.sender.try_send(work) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(work)) => work.refuse(),
            // Only the node's end closes it.
            Err(mpsc::error::TrySendError::Closed(work)) => {
                work.answer(not_handled(NotHandled::Absent));
            }
        }
    }

    fn answer_with(&self, peer: &Peer, id: u64, answer: Answer) {
        let answer = wire::Answer {
            id,
            answer: Some(answer),
        };
        let mut frame = wire::encode(wire::frame::Frame::Answer(answer));
        if frame.len() > peer.largest_frame() {
            tracing::error!(
                bytes = frame.len(),
                "an answer to another node is too large for a link"
            );
            frame = wire::encode(wire::frame::Frame::Answer(wire::Answer {
                id,
                answer: Some(not_handled(NotHandled::Trapped)),
            }));
        }
        // Where there is no room, who asked waits in vain, and not for ever.
        self.tell(peer, frame);
    }
}

/// The answer to an event that had no good end.
pub fn not_handled(why: NotHandled) -> Answer {
    Answer::NotHandled(wire::NotHandled { why: why.into() })
}

/// Whether a question is an event for a plugin.
pub(super) fn is_event(ask: &Ask) -> bool {
    matches!(
        ask,
        Ask::Connect(_) | Ask::Said(_) | Ask::Closed(_) | Ask::Call(_)
    )
}
