//! What becomes of a message in an outbox, and how the outbox then is.

/// The result of a push to the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Whether the message waits for the socket now.
    pub outcome: Outcome,
    /// The number of older messages that were dropped to make room.
    pub displaced: usize,
    /// Whether the client must be put on a dirty list, since no task is in charge of the outbox
    /// yet.
    pub dirtied: bool,
}

/// The outcome of a push for the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The message waits for the socket.
    Queued,
    /// The outbox was full, and the policy dropped the message.
    Dropped,
    /// The outbox was full, and the policy requires that the client is closed.
    Overflowed,
    /// The client is being closed.
    Closing,
}

/// The state of the outbox, as the client's task sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// No message waits for the socket.
    Clear,
    /// The socket accepts no more bytes for now.
    Blocked {
        /// Whether so much waits that the client should not be read until it has read some of it.
        above_half: bool,
    },
    /// The overflow policy requires that the client is closed.
    Overflowed,
    /// A write to the socket failed, so the connection is gone.
    Broken,
}
