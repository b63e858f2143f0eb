//! What becomes of a client's handshake and of its events.

use tokio::time::Instant;

use crate::access::Granted;
use crate::guest::Acceptance;
use crate::policy::TrapPolicy;
use crate::registry::{Close, Closer};

/// Whether a client may come in: what its plugin's manifest or `on-connect` says.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The client comes in.
    Accepted {
        /// One of the subprotocols it offered.
        subprotocol: Option<String>,
        /// When its token expires.
        until: Option<Instant>,
    },
    /// Its token is missing or no good.
    Unauthorized {
        /// The text of the answer's body.
        reason: String,
    },
    /// It is a page of an origin that may not connect.
    OriginDenied {
        /// The text of the answer's body.
        reason: String,
    },
    /// It is turned away, with an HTTP status and a sentence.
    Refused {
        /// The HTTP status, 400 to 599.
        status: u16,
        /// The text of the answer's body.
        reason: String,
    },
}

/// Whether a client may come in, before it does.
pub(super) enum Decision {
    /// The client comes in with this, where it can be had.
    Accepted(Acceptance, Granted),
    /// The client may not come in.
    TurnedAway(Answer),
}

/// Why an event was not handled. It has been logged and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The guest trapped; this is what its plugin wants done with the client.
    Trapped(TrapPolicy),
    /// No instance was to be had within `call_wait`.
    Overloaded,
    /// The plugin has no generation: its file is gone, or never loaded.
    Absent,
    /// Another node had the event, and went while it was at it.
    Lost,
    /// Another node was to have the event, and it is larger than a link takes.
    TooLarge,
}

impl Failure {
    /// How a client is closed for it; none: it stays.
    pub fn close(self) -> Option<Close> {
        let (code, reason, by) = match self {
            Failure::Trapped(TrapPolicy::Keep) | Failure::Lost => return None,
            Failure::Trapped(TrapPolicy::Close) => {
                (1011, "the server failed at this message", Closer::Plugin)
            }
            Failure::Overloaded => (1013, "too busy, try again later", Closer::Node),
            Failure::Absent => (1001, "the service has ended", Closer::Node),
            Failure::TooLarge => (1009, "too large to go to another node", Closer::Node),
        };
        Some(Close {
            code,
            reason: reason.to_owned(),
            by,
        })
    }
}
