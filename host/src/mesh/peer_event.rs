//! Events that go to other nodes, and events that come from them.
//!
//! The node that holds a client asks a node that runs the client's plugin, and waits for the
//! answer. Each client has at most one event under way, so its events stay in order. Events from
//! peers wait here until the plugin side of the node takes them. That side limits how many events
//! of a plugin are under way.

use std::sync::Arc;

use bytes::Bytes;

use super::wire::{self, answer::Answer};
use crate::counters::Counters;
use crate::tracer::RemoteContext;

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
    /// The name of the plugin that the event is for.
    pub plugin: String,
    /// The event itself: `Connect`, `Said`, `Closed` or `Call`.
    pub event: Event,
    /// The span in which the peer has sent the event, if there is one.
    pub trace: Option<RemoteContext>,
    pub(super) counters: Arc<Counters>,
    /// Sends the answer to the peer that sent the event.
    pub(super) reply: Box<dyn FnOnce(Answer) + Send>,
}

/// The reason why a node has not handled an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The event could not be sent to the node, so nothing has happened.
    Untold,
    /// The event is larger than the node's link takes at once, so nothing has happened.
    TooLarge,
    /// The node went away after it got the event, which may have been handled.
    Gone,
    /// The node did not answer in time, and may still handle the event.
    Late,
    /// The node says why it has not handled the event.
    NotHandled(NotHandled),
    /// The node answered with something that is no answer to this event.
    UnexpectedAnswer,
}

/// A request for another node to handle an event, whose answer is an `A`.
#[derive(Debug)]
pub struct EventRequest<A> {
    pub(super) event: Event,
    /// Reads the answer; returns nothing if the peer has answered something else.
    pub(super) read: fn(Answer) -> Option<A>,
}

/// The answer of a node to a client that asks to come in.
#[derive(Debug)]
pub enum ConnectAnswer {
    /// The client comes in.
    Accepted(Accepted),
    /// The client may not come in.
    TurnedAway(TurnedAway),
}

impl EventRequest<ConnectAnswer> {
    /// Creates the request for a client that asks to come in.
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

impl EventRequest<Done> {
    /// Creates the request for a message that a client has sent.
    pub fn message(said: Said) -> Self {
        EventRequest::done(Event::Said(said))
    }

    /// Creates the request for a client that has left.
    pub fn closed(closed: Closed) -> Self {
        EventRequest::done(Event::Closed(closed))
    }

    fn done(event: Event) -> Self {
        EventRequest {
            event,
            read: |answer| match answer {
                Answer::Done(done) => Some(done),
                _ => None,
            },
        }
    }
}

impl EventRequest<Result<Bytes, CallFailed>> {
    /// Creates the request for a backend's call to the plugin.
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

/// The largest number of peers' events that wait in the queue. The receiver takes events without
/// delay, and limits how many are under way. If the queue is full, further events are refused as
/// overloaded.
pub(super) const WAITING: usize = 1 << 16;

impl PeerEvent {
    /// Sends the answer to the peer that sent the event.
    pub fn answer(self, answer: Answer) {
        (self.reply)(answer);
    }

    /// Refuses the event as overloaded, since there are too many.
    pub fn refuse(self) {
        self.counters.peer_events_refused.add_one();
        self.answer(not_handled(NotHandled::Overloaded));
    }
}

/// Creates the answer for an event that was not handled, with the reason.
pub fn not_handled(why: NotHandled) -> Answer {
    Answer::NotHandled(wire::NotHandled { why: why.into() })
}
