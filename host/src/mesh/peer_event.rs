//! Events that go to another node, and those that come from one.
//!
//! Whoever holds a client asks a node that runs its plugin, and waits for the answer: of one
//! client there is one event under way at a time, so they stay in order. What comes from peers
//! waits here for the room that runs plugins, which says how many there may be of a plugin.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::wire::{self, answer::Answer};
use crate::counters::Counters;

pub use super::wire::ask::Event;
pub use super::wire::call_failed::Code;
pub use super::wire::not_handled::Why as NotHandled;
pub use super::wire::said::Message as SaidMessage;
pub use super::wire::{
    Accepted, Call, CallFailed, Closed, Closer, Connect, Done, Pair, Said, TurnedAway, client,
    client_bytes,
};

/// An event of a peer's client, or a call that came to a peer.
pub struct PeerEvent {
    /// Whose event it is.
    pub plugin: String,
    /// What happened: `Connect`, `Said`, `Closed` or `Call`.
    pub event: Event,
    pub(super) counters: Arc<Counters>,
    /// Tells the client's node.
    pub(super) reply: Box<dyn FnOnce(Answer) + Send>,
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
    /// It says why it has not handled the event.
    NotHandled(NotHandled),
    /// It answered something else than an event has for an answer.
    UnexpectedAnswer,
}

/// An event for another node, whose answer is an `A`.
#[derive(Debug)]
pub struct EventRequest<A> {
    pub(super) event: Event,
    /// Reads the answer; none: the peer has answered something else.
    pub(super) read: fn(Answer) -> Option<A>,
}

/// What a node answers to a client that asks to come in.
#[derive(Debug)]
pub enum ConnectAnswer {
    /// The client comes in.
    Accepted(Accepted),
    /// The client may not come in.
    TurnedAway(TurnedAway),
}

impl EventRequest<ConnectAnswer> {
    /// A client asks to come in.
    pub fn connect(connect: Connect) -> Self {
        EventRequest {
            event: Event::Connect(connect),
            read: |answer| match answer {
                Answer::Accepted(accepted) => Some(ConnectAnswer::Accepted(accepted)),
                Answer::TurnedAway(away) => Some(ConnectAnswer::TurnedAway(away)),
                _ => None,
            },
        }
    }
}

impl EventRequest<()> {
    /// A client has sent a message.
    pub fn message(said: Said) -> Self {
        EventRequest::done(Event::Said(said))
    }

    /// A client has left.
    pub fn closed(closed: Closed) -> Self {
        EventRequest::done(Event::Closed(closed))
    }

    fn done(event: Event) -> Self {
        EventRequest {
            event,
            read: |answer| matches!(answer, Answer::Done(_)).then_some(()),
        }
    }
}

impl EventRequest<Result<Bytes, CallFailed>> {
    /// A backend calls the plugin.
    pub fn call(call: Call) -> Self {
        EventRequest {
            event: Event::Call(call),
            read: |answer| match answer {
                Answer::Called(answer) => Some(Ok(answer)),
                Answer::CallFailed(failed) => Some(Err(failed)),
                _ => None,
            },
        }
    }
}

/// Events that wait until somebody looks at them, which takes no time: how many may be under way
/// is said there. Beyond: overloaded.
const WAITING: usize = 1 << 16;

/// Where events of peers wait.
pub(super) struct Queue {
    pub(super) sender: mpsc::Sender<PeerEvent>,
    pub(super) receiver: parking_lot::Mutex<Option<mpsc::Receiver<PeerEvent>>>,
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

impl PeerEvent {
    /// Tells the client's node how it went.
    pub fn answer(self, answer: Answer) {
        (self.reply)(answer);
    }

    /// There are too many.
    pub fn refuse(self) {
        self.counters.peer_events_refused.add_one();
        self.answer(not_handled(NotHandled::Overloaded));
    }
}

/// The answer to an event that had no good end.
pub fn not_handled(why: NotHandled) -> Answer {
    Answer::NotHandled(wire::NotHandled { why: why.into() })
}
