//! The queue of one client's messages that were read and wait for their events.

use std::collections::VecDeque;

use crate::message::Message;

/// Messages of one client that wait for their events, the oldest first.
#[derive(Debug)]
pub struct MessageQueue {
    /// The bytes of the messages, one after another, with those that were taken out.
    bytes: Vec<u8>,
    spans: VecDeque<MessageSpan>,
}

/// The span of a message in the bytes of a queue, and its kind. The number is the answer of `next`
/// in `wit/0.1/turns.wit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageSpan(u64);

/// The bit of a `MessageSpan` that marks a binary message.
const BINARY: u64 = 1 << 31;

/// The number of messages that a queue has room for from the beginning.
const USUAL: usize = 16;

impl MessageQueue {
    /// The most bytes of a queue. A guest gets them in one piece, and the driver of turns has a page
    /// of 64 KiB for them.
    pub const BYTES: usize = 32 << 10;

    /// Creates an empty queue whose bytes are kept in this buffer.
    pub fn new(buffer: Vec<u8>) -> MessageQueue {
        MessageQueue {
            bytes: buffer,
            spans: VecDeque::with_capacity(USUAL),
        }
    }

    /// Gives back the buffer.
    pub fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }

    /// Whether there is room for a message of `bytes`.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        bytes <= MessageQueue::BYTES - self.bytes.len()
    }

    /// Appends a message, for which there must be room.
    pub fn push(&mut self, message: Message<'_>) {
        let payload = message.payload();
        let kind = match message {
            Message::Text(_) => 0,
            Message::Binary(_) => BINARY,
        };
        debug_assert!(self.has_room_for(payload.len()));
        // Both are below `BYTES`.
        let span = (self.bytes.len() as u64) << 32 | kind | payload.len() as u64;
        self.spans.push_back(MessageSpan(span));
        self.bytes.extend_from_slice(payload);
    }

    /// The number of messages that wait.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The bytes that the spans refer to.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the oldest message of the queue.
    pub fn first(&self) -> Option<Message<'_>> {
        let span = self.spans.front()?;
        let payload = self.bytes.get(span.range())?;
        Some(match span.0 & BINARY {
            0 => Message::Text(simdutf8::basic::from_utf8(payload).ok()?),
            _ => Message::Binary(payload),
        })
    }

    /// Removes the oldest message.
    pub fn pop(&mut self) {
        self.spans.pop_front();
        self.free();
    }

    /// Takes the spans out, for as long as somebody else counts off the messages.
    pub fn take_spans(&mut self) -> VecDeque<MessageSpan> {
        std::mem::take(&mut self.spans)
    }

    /// Puts those spans back that were not counted off.
    pub fn put_back(&mut self, spans: VecDeque<MessageSpan>) {
        self.spans = spans;
        self.free();
    }

    fn free(&mut self) {
        if self.spans.is_empty() {
            self.bytes.clear();
        }
    }
}

impl MessageSpan {
    /// The number that a guest gets when the turn is over.
    pub const OVER: u64 = u64::MAX;

    /// The number that a guest gets for this span.
    pub fn to_u64(self) -> u64 {
        self.0
    }

    fn range(self) -> std::ops::Range<usize> {
        let from = (self.0 >> 32) as usize;
        from..from + (self.0 & (BINARY - 1)) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in_and_their_bytes_are_freed() {
        let mut queue = MessageQueue::new(Vec::new());
        let messages = [
            Message::Text("gr\u{fc}\u{df}e"),
            Message::Binary(&[0xff, 0]),
            Message::Text(""),
            Message::Binary(&[]),
        ];
        for round in 0..2 {
            messages.iter().for_each(|message| queue.push(*message));
            assert_eq!(queue.len(), messages.len(), "round {round}");
            // Two are counted off by somebody else.
            let mut spans = queue.take_spans();
            assert_eq!(spans.pop_front().map(MessageSpan::to_u64), Some(7));
            assert_eq!(
                spans.pop_front().map(MessageSpan::to_u64),
                Some(7 << 32 | BINARY | 2)
            );
            queue.put_back(spans);
            for message in &messages[2..] {
                assert_eq!(queue.first(), Some(*message));
                queue.pop();
            }
            assert!(queue.is_empty() && queue.bytes().is_empty() && queue.first().is_none());
        }
    }

    #[test]
    fn it_takes_no_more_than_it_has_room_for() {
        let mut queue = MessageQueue::new(Vec::new());
        let half = vec![7; MessageQueue::BYTES / 2];
        queue.push(Message::Binary(&half));
        assert!(queue.has_room_for(half.len()) && !queue.has_room_for(half.len() + 1));
        queue.push(Message::Binary(&half));
        assert!(queue.has_room_for(0) && !queue.has_room_for(1));
    }
}
