//! The reasons why a call on the cluster has no effect.

use crate::mesh::{Reason, Unanswered};
use crate::registry;

/// The reason why a call on the cluster had no effect.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    /// This node has refused the call.
    #[error(transparent)]
    Here(#[from] registry::Refused),
    /// Another node has refused the call.
    #[error("{message}")]
    There {
        /// The kind of the refusal.
        reason: Reason,
        /// The message of the other node.
        message: String,
    },
    /// The client's node has not answered.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    /// The cursor does not come from any page.
    #[error("not a cursor: pass `next` of the page before, or none for the first page")]
    MalformedCursor,
    /// An argument has a value that it can't have.
    #[error("{0}")]
    Invalid(String),
    /// The call names more things than one call may.
    #[error("{0}")]
    TooMany(String),
    /// The message is too large for any outbox.
    #[error("{bytes} bytes in the message, more than {limit} (outbox_bytes)")]
    TooLarge {
        /// The length of the message with its frame's header, in bytes.
        bytes: usize,
        /// The node's limit `outbox_bytes`.
        limit: usize,
    },
}
