//! The bound of an outbox.

/// The most that may wait in an outbox.
#[derive(Clone, Copy, Debug)]
pub struct OutboxBound {
    /// The most messages that may wait.
    pub messages: usize,
    /// The most bytes that may wait.
    pub bytes: usize,
}
