//! The outbox: the bounded queue to one client's socket.
//!
//! Whoever sends pushes an encoded frame and never waits; a frame's bytes are shared by all
//! outboxes it is in. What is queued is written with as few writes as it takes, once a turn
//! of the runtime's loop: a push that finds the outbox clean puts the client on a dirty list
//! (`DirtyList`), and a sweep writes each dirty client once. Waking a task for each delivery
//! instead costs half as much again, and a write for each message ten times as much.
//!
//! Bounded in messages and bytes (`Bound`). A full outbox whose socket has room is
//! written first; what then does not fit meets the plugin's overflow policy.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::tcp::OwnedWriteHalf;

use crate::message::Frame;
use crate::policy::OverflowPolicy;

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Whether it waits for the socket now.
    pub outcome: Outcome,
    /// Older messages that were dropped for it.
    pub displaced: usize,
    /// Nobody has the outbox in hand, and it needs somebody: put it on a dirty list.
    pub dirtied: bool,
}

/// Whether a message waits for the socket now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It does.
    Queued,
    /// The outbox was full, and the policy dropped it.
    Dropped,
    /// The outbox was full, and the policy wants the client closed.
    Overflowed,
    /// The client is being closed.
    Closing,
}

/// What a look at the outbox shows to its client's task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing waits.
    Clear,
    /// The socket takes no more for now.
    Blocked {
        /// So much waits that the client should not be read before it has read.
        above_half: bool,
    },
    /// The overflow policy wants the client closed.
    Overflowed,
    /// Writing failed: the connection is gone.
    Broken,
}

/// The bounded queue to one client's socket.
#[derive(Debug)]
pub struct Outbox {
    bound: Bound,
    state: Mutex<State>,
}

/// The most that may wait.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// In messages.
    pub messages: usize,
    /// In bytes.
    pub bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Entry>,
    bytes: usize,
    /// How much of the front entry the socket has.
    front_written: usize,
    socket: Option<Arc<OwnedWriteHalf>>,
    /// Somebody will write it: it is on a dirty list, or its client's task has it in hand.
    in_hand: bool,
    /// The socket takes no more; its client's task waits until it does.
    blocked: bool,
    /// No more messages are taken.
    closing: bool,
    overflowed: bool,
    broken: bool,
}

#[derive(Debug)]
struct Entry {
    frame: Frame,
    /// What it may be conflated with; none: nothing.
    key: Option<Arc<str>>,
}

/// Larger frames are written from where they are; smaller ones are gathered first, since one
/// write of 16 messages costs little more than one write of one.
const GATHER_BELOW_BYTES: usize = 16 << 10;
const GATHER_BYTES: usize = 64 << 10;

/// An emptied queue that has grown beyond this gives its memory back.
const KEPT_ENTRIES: usize = 16;

thread_local! {
    static GATHERED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Outbox {
    /// An empty one, without a socket yet.
    pub fn new(bound: Bound) -> Outbox {
        Outbox {
            bound,
            state: Mutex::default(),
        }
    }

    /// Queues a message. `key` names what the policy `conflate` keeps only the newest of.
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
        let entry = Entry { frame, key };
        let (outcome, displaced) = state.take_in(entry, self.bound, overflow);
        // If that write found the socket full or broken, the client's task has yet to be told.
        let needs_writer = !was_blocked && (!state.queue.is_empty() || state.broken);
        Pushed {
            outcome,
            displaced,
            dirtied: needs_writer && state.take_in_hand(),
        }
    }

    /// Queues a ping or a pong: counted, and never refused for lack of room. What bounds them
    /// is that a client whose outbox is half full is not read. True: put it on a dirty list.
    pub fn push_control(&self, frame: Frame) -> bool {
        let mut state = self.state.lock();
        if state.closing {
            return false;
        }
        state.append(Entry { frame, key: None });
        !state.blocked && state.take_in_hand()
    }

    /// Queues the last frames and takes no more.
    pub fn close(&self, last_message: Option<Frame>, close: Option<Frame>) {
        let mut state = self.state.lock();
        if state.closing && !state.overflowed {
            return;
        }
        state.closing = true;
        state.overflowed = false;
        for frame in last_message.into_iter().chain(close) {
            state.append(Entry { frame, key: None });
        }
    }

    /// Gives the outbox its socket: what was queued during the handshake can go out.
    pub fn attach(&self, socket: Arc<OwnedWriteHalf>) {
        self.state.lock().socket = Some(socket);
    }

    /// Drops the socket and what is queued.
    pub fn detach(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        state.clear();
        state.socket = None;
    }

    /// Its client's task takes the outbox in hand: pushes need no dirty list until `flush`.
    pub fn take_in_hand(&self) {
        self.state.lock().take_in_hand();
    }

    /// Writes what the socket takes, now.
    pub fn flush(&self) -> Condition {
        let mut state = self.state.lock();
        state.in_hand = false;
        state.write();
        state.condition(self.bound)
    }

    /// The socket may take more again: writes, now.
    pub fn resume(&self) -> Condition {
        self.state.lock().blocked = false;
        self.flush()
    }

    /// Whether its client's turn should end before its next message: it must be closed, or
    /// more waits than should while it has not been asked to read.
    pub fn wants_attention(&self) -> bool {
        let state = self.state.lock();
        state.broken || state.overflowed || state.above_half(self.bound)
    }

    /// How it stands.
    pub fn condition(&self) -> Condition {
        self.state.lock().condition(self.bound)
    }
}

impl State {
    /// Queues a message, as far as the bound and the policy let it; tells how many older ones
    /// were dropped for it.
    fn take_in(
        &mut self,
        entry: Entry,
        bound: Bound,
        overflow: OverflowPolicy,
    ) -> (Outcome, usize) {
        if self.broken {
            return (Outcome::Closing, 0);
        }
        let mut displaced = 0;
        while self.is_full(&entry.frame, bound) {
            let made_room = match overflow {
                OverflowPolicy::Close => {
                    self.overflowed = true;
                    self.closing = true;
                    self.clear();
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

    /// True if nobody had it in hand; an outbox without a socket needs nobody yet.
    fn take_in_hand(&mut self) -> bool {
        self.socket.is_some() && !std::mem::replace(&mut self.in_hand, true)
    }

    fn is_full(&self, frame: &Frame, bound: Bound) -> bool {
        // An empty outbox takes any message: a bound below one message must not mute a client.
        !self.queue.is_empty()
            && (self.queue.len() >= bound.messages
                || self.bytes + frame.as_bytes().len() > bound.bytes)
    }

    fn append(&mut self, entry: Entry) {
        if !self.broken {
            self.bytes += entry.frame.as_bytes().len();
            self.queue.push_back(entry);
        }
    }

    /// Drops the oldest message (with this key) that the socket has nothing of.
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

    /// Empties the queue, but for a frame that the socket has begun to take: a client must
    /// not see half a frame followed by another.
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
                Err(_) => {
                    self.broken = true;
                    self.closing = true;
                    self.front_written = 0;
                    self.clear();
                }
            }
        }
        self.blocked = false;
        if self.queue.capacity() > KEPT_ENTRIES {
            self.queue = VecDeque::new();
        }
    }

    /// One write of as much as is sensible. Without a socket (the handshake is not over) it
    /// would block.
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
            self.queue.pop_front();
        }
    }

    fn above_half(&self, bound: Bound) -> bool {
        self.bytes > bound.bytes / 2 || self.queue.len() > bound.messages / 2
    }

    fn condition(&self, bound: Bound) -> Condition {
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
