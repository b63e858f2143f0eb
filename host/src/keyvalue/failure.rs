//! Why a store has no answer.

/// Why a call of a store has no answer, in words for the guest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// What is asked for cannot be had, as this says.
    #[error("{0}")]
    Refused(String),
    /// The store failed. What was to be changed may be changed.
    #[error("the node's key-value store failed: {0}")]
    Failed(String),
}
