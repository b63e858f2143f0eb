//! A message that comes too fast for its plugin, and waits for it.

use std::task::{Context, Poll, ready};

use super::decoder::Received;
use crate::plugin::Delay;

/// A message that was received and waits for the plugin's rates. It stays where it was read, since
/// nothing is read meanwhile.
pub(super) struct DelayedMessage {
    received: Received,
    /// What is left of its delay. Without it, the message has been counted.
    delay: Option<Delay>,
}

impl DelayedMessage {
    /// A message that was received now and has this delay.
    pub(super) fn new(received: Received, delay: Delay) -> DelayedMessage {
        DelayedMessage {
            received,
            delay: Some(delay),
        }
    }

    /// The kind of the message.
    pub(super) fn received(&self) -> Received {
        self.received
    }

    /// Polls for the end of the delay.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(delay) = &mut self.delay {
            ready!(delay.as_mut().poll(context));
            self.delay = None;
        }
        Poll::Ready(())
    }
}
