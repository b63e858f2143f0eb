//! The reasons why a call on a client has no effect.

use crate::id::ClientId;

/// The reason why a call on a client had no effect.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The client has left, or it never existed.
    #[error("no client {0} here: it has left, or it never was")]
    NotFound(ClientId),
    /// Another client has the uid, and the policy is `reject-new`.
    #[error("the uid {0:?} is another client's")]
    Taken(String),
    /// The outbox of the client is full.
    #[error("the outbox of client {0} is full")]
    Overloaded(ClientId),
    /// The call would exceed a limit.
    #[error("{what} would pass the limit of {limit} ({name})")]
    LimitExceeded {
        /// The thing that would exceed the limit.
        what: &'static str,
        /// The value of the limit.
        limit: usize,
        /// The limit's name in the configuration.
        name: &'static str,
    },
}
