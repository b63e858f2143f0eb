//! Why a call on the cluster has no effect.

use crate::mesh::{Reason, Unanswered};
use crate::registry;

/// Why a call had no effect.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// This node says so.
    #[error(transparent)]
    Here(#[from] registry::Refused),
    /// Another one does.
    #[error("{message}")]
    There {
        /// Which kind of refusal it is.
        reason: Reason,
        /// What it said.
        message: String,
    },
    /// The client's node has not answered.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    /// No page gave out this cursor.
    #[error("not a cursor: pass `next` of the page before, or none for the first page")]
    MalformedCursor,
    /// An argument can't be what it claims.
    #[error("{0}")]
    Invalid(String),
    /// More than one call may ask for.
    #[error("{0}")]
    TooMany(String),
    /// A message that no outbox could hold.
    #[error("{bytes} bytes in the message, more than {limit} (outbox_bytes)")]
    TooLarge {
        /// With its frame's header.
        bytes: usize,
        /// The node's limit.
        limit: usize,
    },
}
