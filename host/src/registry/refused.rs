//! Why a call on a client has no effect.

use crate::id::ClientId;

/// Why a call on a client had no effect.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It has left, or it never was.
    #[error("no client {0} here: it has left, or it never was")]
    NotFound(ClientId),
    /// Another client has the uid, and the policy is `reject-new`.
    #[error("the uid {0:?} is another client's")]
    Taken(String),
    /// Its outbox is full.
    #[error("the outbox of client {0} is full")]
    Overloaded(ClientId),
    /// It would pass a limit.
    #[error("{what} would pass the limit of {limit} ({name})")]
    LimitExceeded {
        /// What would.
        what: &'static str,
        /// How much there may be.
        limit: usize,
        /// The limit's name in the configuration.
        name: &'static str,
    },
}
