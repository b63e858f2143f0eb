//! What must not happen.

use std::fmt;

use super::{MessageId, SessionId};

/// A promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// It had to come.
    Lost(SessionId, MessageId),
    /// It came twice.
    Doubled(SessionId, MessageId),
    /// It came after a later one of its sender.
    Reordered {
        receiver: SessionId,
        id: MessageId,
        after: MessageId,
    },
    /// It was for others.
    Stray(SessionId, MessageId),
    /// It came after a barrier that it was before.
    Late(SessionId, MessageId),
    /// Nobody has sent it.
    NeverSent(SessionId, MessageId),
    /// It was still under way at a barrier: a fault of the soak itself.
    Unfinished(MessageId),
}

impl Violation {
    /// The message.
    pub(crate) fn message(self) -> MessageId {
        match self {
            Violation::Lost(_, id)
            | Violation::Doubled(_, id)
            | Violation::Reordered { id, .. }
            | Violation::Stray(_, id)
            | Violation::Late(_, id)
            | Violation::NeverSent(_, id)
            | Violation::Unfinished(id) => id,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Lost(to, id) => write!(f, "message {id} was lost on its way to {to}"),
            Violation::Doubled(to, id) => write!(f, "message {id} came twice to {to}"),
            Violation::Reordered {
                receiver,
                id,
                after,
            } => write!(
                f,
                "message {id} came to {receiver} after message {after} of the same sender"
            ),
            Violation::Stray(to, id) => write!(f, "message {id} came to {to}, and was for others"),
            Violation::Late(to, id) => write!(
                f,
                "message {id} came to {to} after a barrier: it is late, or came twice"
            ),
            Violation::NeverSent(to, id) => {
                write!(f, "message {id} came to {to}, and nobody had sent it")
            }
            Violation::Unfinished(id) => {
                write!(f, "message {id} was still under way at a barrier")
            }
        }
    }
}

impl std::error::Error for Violation {}
