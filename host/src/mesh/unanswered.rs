//! Why a question to another node has no answer.

use crate::id::Incarnation;

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// There is no such node, or none any more.
    #[error("no node {0} is known: it has ended, or it never was")]
    NoNode(Incarnation),
    /// Its link is full, or it went while it was asked.
    #[error("node {0} can't be reached")]
    Unreachable(Incarnation),
    /// It did not answer in time.
    #[error("node {0} did not answer within ask_timeout; the call may have had its effect")]
    TimedOut(Incarnation),
}
