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

mod bound;
mod budget;
mod outcome;
mod retained;
mod state;

use std::sync::Arc;

use parking_lot::Mutex;

use self::retained::Retained;
use self::state::{OutboxEntry, OutboxState};

pub use self::bound::OutboxBound;
pub use self::budget::OutboxBudget;
pub use self::outcome::{Condition, Outcome, Pushed};

use crate::message::Frame;
use crate::policy::OverflowPolicy;
use crate::socket::WriteHalf;

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
            state.write(self.bound);
        }
        let entry = OutboxEntry::message(frame, key);
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

    /// Queues a ping, a pong or a control message. Such a frame counts, but is never refused because the outbox is
    /// full. These frames are bounded, since a client whose outbox is half full is not read. The
    /// result says whether the client must be put on a dirty list.
    pub fn push_control(&self, frame: Frame) -> bool {
        let mut state = self.state.lock();
        if state.closing {
            return false;
        }
        state.append(OutboxEntry::control(frame));
        state.settle(&self.budget);
        !state.blocked && state.take_in_hand()
    }

    /// Queues a control message before the close frame, if that frame waits still.
    pub fn push_before_close(&self, frame: Frame) {
        let mut state = self.state.lock();
        state.append_before_close(OutboxEntry::control(frame));
        state.settle(&self.budget);
    }

    /// Queues the last frames, and accepts no more messages after them.
    pub fn close(&self, last_message: Option<Frame>, close: Option<Frame>) {
        let mut state = self.state.lock();
        if state.closing && !state.overflowed {
            return;
        }
        state.closing = true;
        state.overflowed = false;
        let last_message = last_message.map(|frame| OutboxEntry::message(frame, None));
        for entry in last_message
            .into_iter()
            .chain(close.map(OutboxEntry::control))
        {
            state.append(entry);
        }
        state.settle(&self.budget);
    }

    /// The bytes that wait, for the socket or for an acknowledgement.
    pub fn bytes(&self) -> usize {
        self.state.lock().held_bytes()
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

    /// Keeps what is sent until it is acknowledged, so that the client may come back on another
    /// connection. The messages follow number `sent`.
    pub fn retain(&self, sent: u64) {
        self.state.lock().retained = Some(Box::new(Retained::after(sent)));
    }

    /// Whether what is sent is kept until it is acknowledged.
    pub fn is_retaining(&self) -> bool {
        self.state.lock().retained.is_some()
    }

    /// Whether the outbox has a socket.
    pub fn is_attached(&self) -> bool {
        self.state.lock().socket.is_some()
    }

    /// Drops the messages up to number `received` that were kept until their acknowledgement. Returns
    /// false for the number of a message that was not sent yet.
    pub fn acknowledge(&self, received: u64) -> bool {
        let mut state = self.state.lock();
        let retained = state.retained.as_mut();
        let is_known = retained.is_none_or(|retained| retained.acknowledge(received));
        state.settle(&self.budget);
        is_known
    }

    /// Drops the socket. What waits for it goes on waiting, for the next socket.
    pub fn suspend(&self) {
        let mut state = self.state.lock();
        state.socket = None;
        state.front_written = 0;
        (state.in_hand, state.blocked, state.broken) = (false, false, false);
        state.queue.retain(|entry| entry.is_message);
        state.count_bytes();
        state.settle(&self.budget);
    }

    /// Whether every message after number `received` is still here, for a client that comes back.
    pub fn follows(&self, received: u64) -> bool {
        let state = self.state.lock();
        let retained = state.retained.as_ref();
        !state.closing && retained.is_some_and(|retained| retained.follows(received))
    }

    /// All messages after number `received`, for another node.
    pub fn after(&self, received: u64) -> Vec<Frame> {
        let mut state = self.state.lock();
        state.queue_again(received);
        let messages = state.queue.iter().filter(|entry| entry.is_message);
        let frames = messages.map(|entry| entry.frame.clone()).collect();
        state.count_bytes();
        state.settle(&self.budget);
        frames
    }

    /// Queues messages that another node has had before all others, while there is no socket yet.
    /// They follow number `received`.
    pub fn push_given(&self, frames: Vec<Frame>, received: u64) {
        let mut state = self.state.lock();
        state.retained = Some(Box::new(Retained::after(received)));
        for frame in frames.into_iter().rev() {
            state.queue.push_front(OutboxEntry::message(frame, None));
        }
        state.count_bytes();
        state.settle(&self.budget);
    }

    /// Gives the outbox its next socket. `first` is sent before everything else, and then all
    /// messages after number `received`.
    pub fn attach_again(&self, socket: Arc<WriteHalf>, first: Frame, received: u64) {
        let mut state = self.state.lock();
        state.queue_again(received);
        state.queue.push_front(OutboxEntry::control(first));
        state.count_bytes();
        state.socket = Some(socket);
        state.blocked = false;
        state.settle(&self.budget);
    }

    /// Makes room where too much waits for all clients together. What waits is written, and what a
    /// connected client has not acknowledged is dropped: it can then not come back. If something waits
    /// still, all of it is dropped. Returns whether the client must be closed for it.
    pub fn make_room(&self) -> bool {
        let mut state = self.state.lock();
        state.write(self.bound);
        let must_close = state.make_room();
        state.settle(&self.budget);
        must_close
    }

    /// Queues a frame before all others, while there is no socket yet.
    pub fn push_first(&self, frame: Frame) {
        let mut state = self.state.lock();
        state.queue.push_front(OutboxEntry::control(frame));
        state.count_bytes();
        state.settle(&self.budget);
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
        state.write(self.bound);
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

    /// A client that acknowledges nothing, or is away, must not cost the others their places.
    #[tokio::test]
    async fn what_is_kept_for_a_client_makes_room_first() {
        let bound = OutboxBound {
            messages: 10,
            bytes: 1 << 20,
        };
        let budget = Arc::new(OutboxBudget::new(1 << 20));
        let outbox = Outbox::new(bound, budget.clone());
        let (_read, write, _client) = encrypted_pair().await;
        outbox.retain(0);
        outbox.attach(Arc::new(write));
        let frame = Frame::message(Message::Text("hello"));
        outbox.push(frame.clone(), None, OverflowPolicy::Close);
        assert_eq!(outbox.flush(), Condition::Clear);
        assert!(outbox.bytes() > 0 && outbox.follows(0));

        // It is connected, and has nothing else that waits.
        assert!(!outbox.make_room());
        assert_eq!((outbox.bytes(), budget.used()), (0, 0));
        assert!(!outbox.follows(0) && outbox.follows(1));
        assert!(!outbox.make_room());

        // It is away: what waits for it is all that it has.
        outbox.push(frame, None, OverflowPolicy::Close);
        outbox.flush();
        outbox.suspend();
        assert!(outbox.make_room());
        assert_eq!(outbox.condition(), Condition::Overflowed);
        assert!(!outbox.follows(1) && !outbox.make_room());
    }
}
