//! The outbox: the bounded queue to one client's socket.
//!
//! A sender pushes an encoded frame and never waits. All outboxes that contain a frame share its
//! bytes. Queued frames are written with as few writes as possible, once per turn of the runtime's
//! loop: a push to a clean outbox puts the client on a dirty list (`DirtyList`), and a sweep writes
//! each dirty client once. Waking a task for each delivery would cost half as much again, and a
//! write for each message would cost ten times as much.
//!
//! The number of messages and the number of bytes are bounded (`OutboxBound`). A full outbox whose
//! socket accepts bytes is written first. If a message still does not fit, the plugin's overflow
//! policy applies. The bytes of all outboxes together are bounded by the node's `OutboxBudget`.

mod budget;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

pub use self::budget::OutboxBudget;

use crate::message::Frame;
use crate::policy::OverflowPolicy;
use crate::socket::WriteHalf;

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

/// How much an outbox has sent, and how much waits in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxStatus {
    /// The number of frames that the socket has taken.
    pub sent_frames: u64,
    /// The bytes of these frames.
    pub sent_bytes: u64,
    /// The number of frames that wait.
    pub queued_frames: u64,
    /// The bytes that wait.
    pub queued_bytes: u64,
}

/// The bounded queue to one client's socket.
#[derive(Debug)]
pub struct Outbox {
    bound: OutboxBound,
    budget: Arc<OutboxBudget>,
    state: Mutex<OutboxState>,
}

/// The most that may wait in an outbox.
#[derive(Clone, Copy, Debug)]
pub struct OutboxBound {
    /// The most messages that may wait.
    pub messages: usize,
    /// The most bytes that may wait.
    pub bytes: usize,
}

#[derive(Debug, Default)]
struct OutboxState {
    queue: VecDeque<OutboxEntry>,
    bytes: usize,
    /// The bytes that are taken from the node's budget.
    taken: usize,
    /// The number of bytes of the front entry that the socket has taken.
    front_written: usize,
    sent_frames: u64,
    sent_bytes: u64,
    socket: Option<Arc<WriteHalf>>,
    /// Whether a task is in charge of the outbox: the client is on a dirty list, or its own task
    /// will write.
    in_hand: bool,
    /// Whether the socket accepts no more bytes. The client's task then waits until it does.
    blocked: bool,
    /// Whether the outbox accepts no more messages.
    closing: bool,
    overflowed: bool,
    broken: bool,
}

#[derive(Debug)]
struct OutboxEntry {
    frame: Frame,
    /// The key for the policy `conflate`, or `None` if no message may replace this one.
    key: Option<Arc<str>>,
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

impl Outbox {
    /// Creates an empty outbox, without a socket yet. Its bytes count for the node's budget.
    pub fn new(bound: OutboxBound, budget: Arc<OutboxBudget>) -> Outbox {
        Outbox {
            bound,
            budget,
            state: Mutex::default(),
        }
    }

    /// Queues a message. With the policy `conflate`, a full outbox replaces an older message that
    /// has the same `key`.
    pub fn push(&self, frame: Frame, key: Option<Arc<str>>, overflow: OverflowPolicy) -> Pushed {
        let mut state = self.state.lock();
        if state.closing {
            return Pushed {
                outcome: Outcome::Closing,
                displaced: 0,
                dirtied: false,
            };
        }
        let was_blocked = state.blocked;
        if state.is_full(&frame, self.bound) && !was_blocked {
            state.write();
        }
        let entry = OutboxEntry { frame, key };
        let (outcome, displaced) = state.take_in(entry, self.bound, overflow);
        // If that write found the socket full or broken, the client's task has yet to be told.
        let needs_writer = !was_blocked && (!state.queue.is_empty() || state.broken);
        state.settle(&self.budget);
        Pushed {
            outcome,
            displaced,
            dirtied: needs_writer && state.take_in_hand(),
        }
    }

    /// Queues a ping or a pong. Such a frame counts, but is never refused because the outbox is
    /// full. These frames are bounded, since a client whose outbox is half full is not read. The
    /// result says whether the client must be put on a dirty list.
    pub fn push_control(&self, frame: Frame) -> bool {
        let mut state = self.state.lock();
        if state.closing {
            return false;
        }
        state.append(OutboxEntry { frame, key: None });
        state.settle(&self.budget);
        !state.blocked && state.take_in_hand()
    }

    /// Queues the last frames, and accepts no more messages after them.
    pub fn close(&self, last_message: Option<Frame>, close: Option<Frame>) {
        let mut state = self.state.lock();
        if state.closing && !state.overflowed {
            return;
        }
        state.closing = true;
        state.overflowed = false;
        for frame in last_message.into_iter().chain(close) {
            state.append(OutboxEntry { frame, key: None });
        }
        state.settle(&self.budget);
    }

    /// Requires that the client is closed, and drops what waits for it. Returns false if the client
    /// is being closed already.
    pub fn overflow(&self) -> bool {
        let mut state = self.state.lock();
        let overflows = !state.closing;
        if overflows {
            state.overflow();
        }
        state.settle(&self.budget);
        overflows
    }

    /// The bytes that wait.
    pub fn bytes(&self) -> usize {
        self.state.lock().bytes
    }

    /// How much was sent, and how much waits.
    pub fn status(&self) -> OutboxStatus {
        let state = self.state.lock();
        OutboxStatus {
            sent_frames: state.sent_frames,
            sent_bytes: state.sent_bytes,
            queued_frames: state.queue.len() as u64,
            queued_bytes: state.bytes as u64,
        }
    }

    /// Gives the outbox its socket, so that frames from the time of the handshake can be written.
    pub fn attach(&self, socket: Arc<WriteHalf>) {
        self.state.lock().socket = Some(socket);
    }

    /// Drops the socket and the queued frames.
    pub fn detach(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        state.clear();
        state.socket = None;
        state.settle(&self.budget);
    }

    /// Puts the client's own task in charge of the outbox. Until `flush`, pushes need no dirty
    /// list.
    pub fn take_in_hand(&self) {
        self.state.lock().take_in_hand();
    }

    /// Writes as much as the socket accepts now.
    pub fn flush(&self) -> Condition {
        let mut state = self.state.lock();
        state.in_hand = false;
        state.write();
        state.settle(&self.budget);
        state.condition(self.bound)
    }

    /// Writes again, after the socket may accept more bytes.
    pub fn resume(&self) -> Condition {
        self.state.lock().blocked = false;
        self.flush()
    }

    /// Whether the client's turn should end before its next message. The client must then be
    /// closed, or so much waits that the client should not be read.
    pub fn wants_attention(&self) -> bool {
        let state = self.state.lock();
        state.broken || state.overflowed || state.above_half(self.bound)
    }

    /// Takes all frames that wait, in the place of a socket.
    #[cfg(test)]
    pub(crate) fn take_queued(&self) -> Vec<Frame> {
        let mut state = self.state.lock();
        let frames = state.queue.iter().map(|entry| entry.frame.clone());
        let frames = frames.collect();
        state.clear();
        frames
    }

    /// The current condition of the outbox.
    pub fn condition(&self) -> Condition {
        self.state.lock().condition(self.bound)
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.budget.give_back(self.state.get_mut().taken);
    }
}

impl OutboxState {
    /// Queues a message, as far as the bound and the policy allow it, and returns how many older
    /// messages were dropped for it.
    fn take_in(
        &mut self,
        entry: OutboxEntry,
        bound: OutboxBound,
        overflow: OverflowPolicy,
    ) -> (Outcome, usize) {
        if self.broken {
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

    fn overflow(&mut self) {
        self.overflowed = true;
        self.closing = true;
        self.clear();
    }

    /// Takes as much from the node's budget as waits here, or gives back what does not wait any
    /// more.
    /// An outbox that is being closed counts no more, since nobody can make it shorter.
    fn settle(&mut self, budget: &OutboxBudget) {
        let bytes = match self.closing {
            true => 0,
            false => self.bytes,
        };
        self.taken = budget.settle(self.taken, bytes);
    }

    /// Puts a task in charge of the outbox, and returns true if none was before. An outbox without
    /// a socket needs no task yet.
    fn take_in_hand(&mut self) -> bool {
        self.socket.is_some() && !std::mem::replace(&mut self.in_hand, true)
    }

    fn is_full(&self, frame: &Frame, bound: OutboxBound) -> bool {
        // An empty outbox takes any message: a bound below one message must not mute a client.
        !self.queue.is_empty()
            && (self.queue.len() >= bound.messages
                || self.bytes + frame.as_bytes().len() > bound.bytes)
    }

    fn append(&mut self, entry: OutboxEntry) {
        if !self.broken {
            self.bytes += entry.frame.as_bytes().len();
            self.queue.push_back(entry);
        }
    }

    /// Drops the oldest message (with this key) of which the socket has taken nothing.
    fn drop_oldest(&mut self, key: Option<&Arc<str>>) -> bool {
        let untouched = usize::from(self.front_written > 0);
        let oldest = match key {
            None => (self.queue.len() > untouched).then_some(untouched),
            Some(_) => (untouched..self.queue.len()).find(|i| self.queue[*i].key.as_ref() == key),
        };
        let dropped = oldest.and_then(|index| self.queue.remove(index));
        if let Some(entry) = &dropped {
            self.bytes -= entry.frame.as_bytes().len();
        }
        dropped.is_some()
    }

    /// Empties the queue, except for a frame that the socket has begun to take. A client must not
    /// receive half a frame followed by another frame.
    fn clear(&mut self) {
        self.queue.truncate(usize::from(self.front_written > 0));
        self.bytes = self
            .queue
            .front()
            .map_or(0, |entry| entry.frame.as_bytes().len());
    }

    fn write(&mut self) {
        while !self.queue.is_empty() {
            match self.try_write() {
                Ok(bytes) => self.written(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.breaks(),
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
        self.closing = true;
        self.front_written = 0;
        self.clear();
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

    fn written(&mut self, bytes: usize) {
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
            self.queue.pop_front();
        }
    }

    fn above_half(&self, bound: OutboxBound) -> bool {
        self.bytes > bound.bytes / 2 || self.queue.len() > bound.messages / 2
    }

    fn condition(&self, bound: OutboxBound) -> Condition {
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::message::Message;
    use crate::socket::encrypted_pair;

    /// The socket has taken all messages, and not all that they have become.
    #[tokio::test]
    async fn what_tls_has_kept_back_is_written_when_the_socket_takes_it() {
        let bound = OutboxBound {
            messages: 10,
            bytes: 1 << 20,
        };
        let outbox = Outbox::new(bound, Arc::new(OutboxBudget::new(1 << 20)));
        let (read, write, mut client) = encrypted_pair().await;
        outbox.attach(Arc::new(write));
        let frame = Frame::message(Message::Text(&"x".repeat(10_000)));
        let mut sent = 0;
        while outbox.condition() == Condition::Clear {
            outbox.push(frame.clone(), None, OverflowPolicy::Close);
            sent += frame.as_bytes().len();
            outbox.flush();
        }
        assert_eq!(outbox.condition(), Condition::Blocked { above_half: false });
        assert_eq!(outbox.bytes(), 0, "nothing waits in the queue");

        let mut received = vec![0; sent];
        let receiving = client.read_exact(&mut received);
        let writing = async {
            while outbox.condition() != Condition::Clear {
                let writable = poll_fn(|context| read.poll_write_ready(context)).await;
                writable.expect("a connection");
                outbox.resume();
            }
        };
        let (read_all, ()) = tokio::join!(receiving, writing);
        assert_eq!(read_all.expect("all bytes"), sent);
        assert!(received.ends_with(b"xxx"));
    }
}
