//! The state of an outbox under its lock: the queue, the socket, and what was sent and may be sent
//! again.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::bound::OutboxBound;
use super::budget::OutboxBudget;
use super::outcome::{Condition, Outcome};
use super::retained::Retained;
use crate::message::Frame;
use crate::policy::OverflowPolicy;
use crate::socket::WriteHalf;

/// The state of an outbox under its lock.
#[derive(Debug, Default)]
pub(super) struct OutboxState {
    pub(super) queue: VecDeque<OutboxEntry>,
    pub(super) bytes: usize,
    /// The bytes that are taken from the node's budget.
    pub(super) taken: usize,
    /// The number of bytes of the front entry that the socket has taken.
    pub(super) front_written: usize,
    pub(super) sent_frames: u64,
    pub(super) sent_bytes: u64,
    pub(super) socket: Option<Arc<WriteHalf>>,
    /// What was sent and not acknowledged, if the client may come back on another connection.
    pub(super) retained: Option<Box<Retained>>,
    /// Whether a task is in charge of the outbox: the client is on a dirty list, or its own task
    /// will write.
    pub(super) in_hand: bool,
    /// Whether the socket accepts no more bytes. The client's task then waits until it does.
    pub(super) blocked: bool,
    /// Whether the outbox accepts no more messages.
    pub(super) closing: bool,
    pub(super) overflowed: bool,
    pub(super) broken: bool,
}

/// A frame that waits for the socket.
#[derive(Debug)]
pub(super) struct OutboxEntry {
    pub(super) frame: Frame,
    /// The key for the policy `conflate`, or `None` if no message may replace this one.
    pub(super) key: Option<Arc<str>>,
    /// Whether the frame is a message, and not a control frame or a control message.
    pub(super) is_message: bool,
}

impl OutboxEntry {
    pub(super) fn message(frame: Frame, key: Option<Arc<str>>) -> OutboxEntry {
        OutboxEntry {
            frame,
            key,
            is_message: true,
        }
    }

    pub(super) fn control(frame: Frame) -> OutboxEntry {
        OutboxEntry {
            frame,
            key: None,
            is_message: false,
        }
    }
}

/// The size from which a frame is written directly, in bytes. Smaller frames are gathered first,
/// since one write of 16 messages costs little more than one write of one message.
const GATHER_BELOW_BYTES: usize = 16 << 10;
const GATHER_BYTES: usize = 64 << 10;

/// The largest capacity that an empty queue keeps. A larger queue gives its memory back when it is
/// empty.
const KEPT_ENTRIES: usize = 16;

thread_local! {
    static GATHERED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl OutboxState {
    /// Queues a message, as far as the bound and the policy allow it, and returns how many older
    /// messages were dropped for it.
    pub(super) fn take_in(
        &mut self,
        entry: OutboxEntry,
        bound: OutboxBound,
        overflow: OverflowPolicy,
    ) -> (Outcome, usize) {
        if self.broken && self.retained.is_none() {
            return (Outcome::Closing, 0);
        }
        let mut displaced = 0;
        while self.is_full(&entry.frame, bound) {
            let made_room = match overflow {
                OverflowPolicy::Close => {
                    self.overflow();
                    return (Outcome::Overflowed, 0);
                }
                OverflowPolicy::DropNewest => false,
                OverflowPolicy::DropOldest => self.drop_oldest(None),
                OverflowPolicy::Conflate => {
                    self.drop_oldest(entry.key.as_ref()) || self.drop_oldest(None)
                }
            };
            if !made_room {
                return (Outcome::Dropped, displaced);
            }
            displaced += 1;
        }
        self.append(entry);
        (Outcome::Queued, displaced)
    }

    /// Makes room for others, after a write. Returns whether the client must be closed.
    pub(super) fn make_room(&mut self) -> bool {
        if self.closing {
            return false;
        }
        if let (Some(_), Some(retained)) = (&self.socket, &mut self.retained) {
            retained.forget();
        }
        let keeps_something = self.held_bytes() > 0 || self.blocked || self.broken;
        if keeps_something {
            self.overflow();
        }
        keeps_something
    }

    pub(super) fn overflow(&mut self) {
        self.overflowed = true;
        self.closing = true;
        self.retained = None;
        self.clear();
    }

    /// Takes as much from the node's budget as waits here, or gives back what does not wait any
    /// more.
    /// An outbox that is being closed counts no more, since nobody can make it shorter.
    pub(super) fn settle(&mut self, budget: &OutboxBudget) {
        let bytes = match self.closing {
            true => 0,
            false => self.held_bytes(),
        };
        self.taken = budget.settle(self.taken, bytes);
    }

    /// Puts a task in charge of the outbox, and returns true if none was before. An outbox without
    /// a socket needs no task yet.
    pub(super) fn take_in_hand(&mut self) -> bool {
        self.socket.is_some() && !std::mem::replace(&mut self.in_hand, true)
    }

    pub(super) fn is_full(&self, frame: &Frame, bound: OutboxBound) -> bool {
        // While a client is connected, what it does not acknowledge makes no room scarce: of that,
        // the oldest goes. Who is away needs all of it.
        let retained = self.retained.as_ref().filter(|_| self.socket.is_none());
        let (messages, bytes) = retained.map_or((0, 0), |sent| (sent.len(), sent.bytes()));
        // An empty outbox takes any message: a bound below one message must not mute a client.
        self.queue.len() + messages > 0
            && (self.queue.len() + messages >= bound.messages
                || self.bytes + bytes + frame.as_bytes().len() > bound.bytes)
    }

    pub(super) fn held_bytes(&self) -> usize {
        let retained = self.retained.as_ref();
        self.bytes + retained.map_or(0, |retained| retained.bytes())
    }

    /// Counts the bytes of the queue anew.
    pub(super) fn count_bytes(&mut self) {
        let frames = self.queue.iter().map(|entry| &entry.frame);
        self.bytes = frames.map(|frame| frame.as_bytes().len()).sum();
    }

    /// Puts what was sent after number `received` before what was never sent.
    pub(super) fn queue_again(&mut self, received: u64) {
        let retained = self.retained.as_mut();
        let sent = retained.map(|retained| retained.take_after(received));
        for frame in sent.into_iter().flatten().rev() {
            self.queue.push_front(OutboxEntry::message(frame, None));
        }
    }

    pub(super) fn append(&mut self, entry: OutboxEntry) {
        if !self.broken || self.retained.is_some() {
            self.bytes += entry.frame.as_bytes().len();
            self.queue.push_back(entry);
        }
    }

    /// Queues a frame before the last one, if that one is a control frame of which the socket has
    /// taken nothing.
    pub(super) fn append_before_close(&mut self, entry: OutboxEntry) {
        let Some(last) = self.queue.len().checked_sub(1) else {
            return;
        };
        let is_begun = last == 0 && self.front_written > 0;
        if self.closing && !self.broken && !self.queue[last].is_message && !is_begun {
            self.bytes += entry.frame.as_bytes().len();
            self.queue.insert(last, entry);
        }
    }

    /// Drops the oldest message (with this key) of which the socket has taken nothing.
    fn drop_oldest(&mut self, key: Option<&Arc<str>>) -> bool {
        let untouched = usize::from(self.front_written > 0);
        let is_it =
            |entry: &OutboxEntry| entry.is_message && (key.is_none() || entry.key.as_ref() == key);
        let oldest = (untouched..self.queue.len()).find(|i| is_it(&self.queue[*i]));
        let dropped = oldest.and_then(|index| self.queue.remove(index));
        if let Some(entry) = &dropped {
            self.bytes -= entry.frame.as_bytes().len();
        }
        dropped.is_some()
    }

    /// Empties the queue, except for a frame that the socket has begun to take. A client must not
    /// receive half a frame followed by another frame.
    pub(super) fn clear(&mut self) {
        self.queue.truncate(usize::from(self.front_written > 0));
        self.bytes = self
            .queue
            .front()
            .map_or(0, |entry| entry.frame.as_bytes().len());
    }

    pub(super) fn write(&mut self, bound: OutboxBound) {
        while !self.queue.is_empty() {
            match self.try_write() {
                Ok(bytes) => self.written(bytes, bound),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.breaks(),
            }
        }
        self.blocked = match self.socket.as_ref().map(|socket| socket.try_flush()) {
            Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => true,
            Some(Err(_)) => {
                self.breaks();
                false
            }
            Some(Ok(())) | None => false,
        };
        if self.queue.capacity() > KEPT_ENTRIES {
            self.queue = VecDeque::new();
        }
    }

    fn breaks(&mut self) {
        self.broken = true;
        self.front_written = 0;
        match self.retained.is_some() {
            // It waits for the next connection.
            true => self.socket = None,
            false => {
                self.closing = true;
                self.clear();
            }
        }
    }

    /// Writes once, as much as is sensible. Without a socket, while the handshake still runs, the
    /// result is `WouldBlock`.
    fn try_write(&self) -> io::Result<usize> {
        let (Some(socket), Some(front)) = (&self.socket, self.queue.front()) else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let unwritten = &front.frame.as_bytes()[self.front_written..];
        if self.queue.len() == 1 || unwritten.len() >= GATHER_BELOW_BYTES {
            return socket.try_write(unwritten);
        }
        GATHERED.with_borrow_mut(|gathered| {
            gathered.clear();
            let mut skip = self.front_written;
            for entry in &self.queue {
                let bytes = &entry.frame.as_bytes()[skip..];
                if gathered.len() + bytes.len() > GATHER_BYTES {
                    break;
                }
                gathered.extend_from_slice(bytes);
                skip = 0;
            }
            socket.try_write(gathered)
        })
    }

    fn written(&mut self, bytes: usize, bound: OutboxBound) {
        self.front_written += bytes;
        while let Some(front) = self.queue.front() {
            let length = front.frame.as_bytes().len();
            if self.front_written < length {
                return;
            }
            self.front_written -= length;
            self.bytes -= length;
            self.sent_frames += 1;
            self.sent_bytes += length as u64;
            let sent = self.queue.pop_front().filter(|entry| entry.is_message);
            if let (Some(retained), Some(sent)) = (&mut self.retained, sent) {
                retained.push(sent.frame, bound);
            }
        }
    }

    pub(super) fn above_half(&self, bound: OutboxBound) -> bool {
        self.bytes > bound.bytes / 2 || self.queue.len() > bound.messages / 2
    }

    pub(super) fn condition(&self, bound: OutboxBound) -> Condition {
        if self.broken {
            Condition::Broken
        } else if self.overflowed {
            Condition::Overflowed
        } else if self.blocked {
            Condition::Blocked {
                above_half: self.above_half(bound),
            }
        } else {
            Condition::Clear
        }
    }
}
