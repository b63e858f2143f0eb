//! The messages that a client's socket has taken and that the client has not acknowledged. If its
//! connection breaks, they are sent again on the next one.

use std::collections::VecDeque;

use super::bound::OutboxBound;
use crate::message::Frame;

/// The messages of one client that were sent and not acknowledged, and the number of the last one.
/// Messages are numbered from 1, in the order in which they were sent.
#[derive(Debug, Default)]
pub(super) struct Retained {
    frames: VecDeque<Frame>,
    bytes: usize,
    /// The number of the last message that the socket has taken.
    sent: u64,
}

impl Retained {
    /// Messages that follow number `sent`; none was sent yet.
    pub(super) fn after(sent: u64) -> Retained {
        Retained {
            sent,
            ..Retained::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the next message, which the socket has taken. Of more than fit, the oldest are dropped.
    /// The client can then not come back until it has acknowledged them, and is not closed for it.
    pub(super) fn push(&mut self, frame: Frame, bound: OutboxBound) {
        self.bytes += frame.as_bytes().len();
        self.frames.push_back(frame);
        self.sent += 1;
        while self.frames.len() > bound.messages || self.bytes > bound.bytes {
            self.pop();
        }
    }

    /// Drops all messages. The client can come back only if it has received all of them.
    pub(super) fn forget(&mut self) {
        self.frames = VecDeque::new();
        self.bytes = 0;
    }

    /// Drops the messages up to number `received`, which the client has got. Returns false for a
    /// message that was not sent yet.
    pub(super) fn acknowledge(&mut self, received: u64) -> bool {
        if received > self.sent {
            return false;
        }
        while self.first() <= received && !self.frames.is_empty() {
            self.pop();
        }
        true
    }

    /// Whether every message after number `received` is still here.
    pub(super) fn follows(&self, received: u64) -> bool {
        received <= self.sent && received + 1 >= self.first()
    }

    /// Takes the messages after number `received`, to be sent again.
    pub(super) fn take_after(&mut self, received: u64) -> VecDeque<Frame> {
        self.acknowledge(received);
        self.sent = received;
        self.bytes = 0;
        std::mem::take(&mut self.frames)
    }

    /// The number of the oldest message that is here, or of the next one.
    fn first(&self) -> u64 {
        self.sent + 1 - self.frames.len() as u64
    }

    fn pop(&mut self) {
        if let Some(frame) = self.frames.pop_front() {
            self.bytes -= frame.as_bytes().len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    fn frame(text: &str) -> Frame {
        Frame::message(Message::Text(text))
    }

    #[test]
    fn what_is_acknowledged_goes_and_the_rest_is_sent_again() {
        let bound = OutboxBound {
            messages: 3,
            bytes: 100,
        };
        let mut retained = Retained::default();
        for text in ["1", "2", "3"] {
            retained.push(frame(text), bound);
        }
        assert!(retained.follows(0) && retained.follows(3) && !retained.follows(4));
        assert!(retained.acknowledge(1) && !retained.acknowledge(4));
        assert_eq!((retained.len(), retained.bytes()), (2, 6));
        assert!(!retained.follows(0) && retained.follows(1));
        assert_eq!(retained.take_after(2), [frame("3")]);
        assert!(retained.follows(2), "the third is sent once more");
        retained.push(frame("3"), bound);
        assert!(retained.follows(2) && retained.follows(3));
    }

    #[test]
    fn of_more_than_fit_the_oldest_go() {
        let bound = OutboxBound {
            messages: 2,
            bytes: 7,
        };
        let mut retained = Retained::default();
        for text in ["1", "2", "3"] {
            retained.push(frame(text), bound);
        }
        assert!(!retained.follows(0) && retained.follows(1));
        retained.push(frame("four"), bound);
        assert_eq!((retained.len(), retained.bytes()), (1, 6));
        assert!(!retained.follows(2) && retained.follows(3));
    }
}
