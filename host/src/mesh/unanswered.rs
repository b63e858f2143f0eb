//! The reasons why a question to another node has no answer.

use crate::id::Incarnation;

/// The reason why a question to another node has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The node is not known: it has ended, or it never existed.
    #[error("no node {0} is known: it has ended, or it never was")]
    NoNode(Incarnation),
    /// The node is suspect, its link did not take the question, or it was lost before it answered.
    #[error("node {0} can't be reached")]
    Unreachable(Incarnation),
    /// The node did not answer in time.
    #[error("node {0} did not answer within ask_timeout; the call may have had its effect")]
    TimedOut(Incarnation),
}
