//! The outcome of a client's handshake and of a client's events.

use std::time::Duration;

use tokio::time::Instant;

use crate::access::Granted;
use crate::close_code::CloseCode;
use crate::guest::Acceptance;
use crate::policy::TrapPolicy;
use crate::registry::{Close, Closer};

/// The answer to a handshake, as the plugin's manifest or its `on-connect` gives it.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The client comes in.
    Accepted(Accepted),
    /// The client's token is missing or not valid.
    Unauthorized {
        /// The text of the HTTP answer's body.
        reason: String,
    },
    /// The client is a page of an origin that may not connect.
    OriginDenied {
        /// The text of the HTTP answer's body.
        reason: String,
    },
    /// The client is turned away, with an HTTP status and a sentence.
    Refused {
        /// The HTTP status of the answer, from 400 to 599.
        status: u16,
        /// The text of the HTTP answer's body.
        reason: String,
    },
}

/// What a client comes in with.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The subprotocol for the connection, one of those that the client offered.
    pub subprotocol: Option<String>,
    /// The time when the client's token expires, if it does.
    pub until: Option<Instant>,
    /// The uid that the handshake has shown, whatever uid the plugin has given the client.
    pub shown_uid: Option<String>,
}

impl Answer {
    /// The HTTP status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Answer::Accepted(_) => 101,
            Answer::Unauthorized { .. } => 401,
            Answer::OriginDenied { .. } => 403,
            Answer::Refused { status, .. } => *status,
        }
    }
}

/// The decision about a handshake, before anything is applied to the client.
pub(super) enum Decision {
    /// The client comes in with this uid, these groups and this info, if they can be applied.
    Accepted(Acceptance, Granted),
    /// The client may not come in.
    TurnedAway(Answer),
}

/// The reason why an event was not handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The guest trapped. The policy says what the plugin wants done with the client.
    #[error("the plugin failed")]
    Trapped(TrapPolicy),
    /// No instance was free within `call_wait`, or no node took the event in time.
    #[error("no instance was free, or no node took the event in time")]
    Overloaded,
    /// The plugin handles no events for the moment, since all have failed and there is no build to go
    /// back to.
    #[error("the plugin is paused, since its events fail")]
    Paused(Duration),
    /// The plugin has no generation: its file is gone, or was never loaded.
    #[error("the plugin runs nowhere")]
    Absent,
    /// Another node got the event, and then went away or did not answer in time.
    #[error("the node that had the event was lost, or did not answer in time")]
    Lost,
    /// The event is for another node, and is larger than a link takes.
    #[error("the event is too large to go to another node")]
    TooLarge,
}

impl Failure {
    /// Returns how a client is closed after this failure, or nothing if the client stays.
    pub fn close(self) -> Option<Close> {
        let paused;
        let (code, reason, by) = match self {
            Failure::Trapped(TrapPolicy::Keep) | Failure::Lost => return None,
            Failure::Trapped(TrapPolicy::Close) => (
                CloseCode::InternalError,
                "the server failed at this message",
                Closer::Plugin,
            ),
            Failure::Overloaded => (
                CloseCode::TryAgainLater,
                "too busy, try again later",
                Closer::Node,
            ),
            Failure::Paused(after) => {
                paused = format!("the service fails, retry-after-ms={}", after.as_millis());
                (CloseCode::TryAgainLater, &*paused, Closer::Node)
            }
            Failure::Absent => (CloseCode::GoingAway, "the service has ended", Closer::Node),
            Failure::TooLarge => (
                CloseCode::MessageTooBig,
                "too large to go to another node",
                Closer::Node,
            ),
        };
        Some(Close {
            code,
            reason: reason.to_owned(),
            by,
        })
    }
}
