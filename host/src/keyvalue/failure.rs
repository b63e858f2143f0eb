//! The error of a store that has no answer.

/// The reason why a store has no answer to a call, in words for the guest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreFailure {
    /// The store refuses the call, for this reason.
    #[error("{0}")]
    Refused(String),
    /// The store has failed. The change may or may not have been made.
    #[error("the node's key-value store failed: {0}")]
    Failed(String),
}
