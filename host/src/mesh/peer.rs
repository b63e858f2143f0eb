//! A peer: one other node, as this one knows it.
//!
//! Two streams join two nodes, one each way. What this node has to say waits in the peer's
//! `OutgoingFrames`, bounded; what the peer says is taken by one connection at a time. A peer is
//! alive while both are heard: its frames, and its acknowledgements of ours.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::link::{Batch, Forgotten, IncomingFrames, LinkBound, LinkFull, OutgoingFrames};
use super::peer_event::Failed;
use super::snapshot::Snapshot;
use super::wire::answer::Answer;
use crate::id::Incarnation;
use crate::limits::PEER_MESSAGE_BYTES_MIN;
use crate::log_throttle::LogThrottle;

/// Another node, as this one knows it.
#[derive(Debug)]
pub struct Peer {
    incarnation: Incarnation,
    address: Mutex<String>,
    outgoing: Mutex<OutgoingFrames>,
    /// There is something for the connection: frames, or another session.
    queued: Notify,
    /// Frames were acknowledged: there may be room.
    room: Notify,
    /// Taken by the connection that receives; another one waits until it has stopped.
    pub(super) incoming: tokio::sync::Mutex<IncomingFrames>,
    connections: AtomicU64,
    superseded: Notify,
    asks: Mutex<HashMap<u64, Waiting>>,
    next_ask: AtomicU64,
    heard: Mutex<Heard>,
    is_dialled: AtomicBool,
    is_gone: AtomicBool,
    gone: Notify,
    pub(super) is_leaving: AtomicBool,
    pub(super) is_suspect: AtomicBool,
    /// It is told what this node holds: everything that changes from here on.
    pub(super) is_subscribed: AtomicBool,
    /// The session in which it was told everything, to the end; 0: none yet.
    synced_session: AtomicU64,
    /// Which full snapshot of what it holds it tells, or told last; 0: none yet.
    snapshot: AtomicU32,
    /// The last one is complete.
    pub(super) is_known: AtomicBool,
    /// One was complete once: who it is has been said.
    has_come: AtomicBool,
    /// Deliveries that were queued for it.
    pub(super) deliveries: AtomicU64,
    /// Frames that found its link full.
    dropped: AtomicU64,
    /// What a link does that is full, for every message.
    full: LogThrottle,
    /// What is done with a frame that is too large for it, for every message.
    pub(super) too_large: LogThrottle,
    /// The largest message that it takes.
    message_bytes: AtomicUsize,
}

/// How a peer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// It has not said yet what it holds.
    New,
    /// The peer says something often enough.
    Alive,
    /// It has said nothing for `suspect_after`.
    Suspect,
    /// The peer has said that it drains.
    Leaving,
}

/// When a peer was last heard.
#[derive(Clone, Copy, Debug)]
struct Heard {
    /// A batch of its own.
    pushing: Instant,
    /// An acknowledgement of ours.
    pulling: Instant,
}

/// The least between a peer's last two signs, one each way, that makes it one way. It
/// acknowledges what it is sent each half second, and sends something itself as often.
const ONE_WAY: Duration = Duration::from_secs(2);

/// What a batch has around its one frame, at most.
const BATCH_HEAD: usize = 1 << 10;

/// What became of a frame for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PushOutcome {
    /// It waits for the connection.
    Queued,
    /// The link was full, for the first time or the first in a while: it should be said.
    FullNow,
    /// The link was full, as it was a moment ago.
    StillFull,
}

/// One connection's turn to receive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Receiving(u64);

/// Somebody who waits for an answer.
#[derive(Debug)]
struct Waiting {
    sender: Answering,
    kind: AskKind,
}

/// The two kinds of what a peer is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AskKind {
    /// A question about the peer's clients.
    Question,
    /// An event of a client here, which the peer is to handle.
    Event,
}

/// Where the answer to a question goes.
type Answering = oneshot::Sender<Result<Answer, Failed>>;

/// A question that a peer has been asked. Dropped, nobody waits for its answer any more.
pub(super) struct Asked<'a> {
    peer: &'a Peer,
    id: u64,
    answer: oneshot::Receiver<Result<Answer, Failed>>,
}

impl Asked<'_> {
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Waits for the answer, and no longer than the peer is there.
    pub(super) async fn answer(mut self) -> Result<Answer, Failed> {
        (&mut self.answer).await.unwrap_or(Err(Failed::Gone))
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.peer.end_ask(self.id);
    }
}

impl Peer {
    pub(super) fn new(
        incarnation: Incarnation,
        address: &str,
        session: u64,
        bound: LinkBound,
    ) -> Peer {
        let now = Instant::now();
        Peer {
            incarnation,
            address: Mutex::new(address.to_owned()),
            outgoing: Mutex::new(OutgoingFrames::new(session, bound)),
            queued: Notify::new(),
            room: Notify::new(),
            // No session has this number; see `draw_session`.
            incoming: tokio::sync::Mutex::new(IncomingFrames::new(0)),
            connections: AtomicU64::new(0),
            superseded: Notify::new(),
            asks: Mutex::default(),
            // Not 1: a peer may still answer what it was asked before it was forgotten.
            next_ask: AtomicU64::new(session),
            heard: Mutex::new(Heard {
                pushing: now,
                pulling: now,
            }),
            is_dialled: AtomicBool::new(false),
            is_gone: AtomicBool::new(false),
            gone: Notify::new(),
            is_leaving: AtomicBool::new(false),
            is_suspect: AtomicBool::new(false),
            is_subscribed: AtomicBool::new(false),
            synced_session: AtomicU64::new(0),
            snapshot: AtomicU32::new(0),
            is_known: AtomicBool::new(false),
            has_come: AtomicBool::new(false),
            deliveries: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            full: LogThrottle::default(),
            too_large: LogThrottle::default(),
            message_bytes: AtomicUsize::new(PEER_MESSAGE_BYTES_MIN),
        }
    }

    /// Which run of a node it is.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Where it is dialled.
    pub fn address(&self) -> String {
        self.address.lock().clone()
    }

    /// The state of the peer, as operators see it.
    pub fn state(&self) -> PeerState {
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        if is(&self.is_leaving) {
            PeerState::Leaving
        } else if is(&self.is_suspect) {
            PeerState::Suspect
        } else if is(&self.is_known) {
            PeerState::Alive
        } else {
            PeerState::New
        }
    }

    /// Deliveries that were queued for it.
    pub fn delivered(&self) -> u64 {
        self.deliveries.load(Ordering::Relaxed)
    }

    /// Frames that its link could not take.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    // What this node tells it.

    /// The peer has said the largest message that it takes.
    pub(super) fn takes_messages_of(&self, bytes: u64) {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let bytes = bytes.max(PEER_MESSAGE_BYTES_MIN);
        self.message_bytes.store(bytes, Ordering::Relaxed);
    }

    /// The largest frame that it takes: one beyond would be sent again and again, with all that
    /// waits behind it.
    pub(super) fn largest_frame(&self) -> usize {
        self.message_bytes.load(Ordering::Relaxed) - BATCH_HEAD
    }

    /// Queues a frame; never waits.
    pub(super) fn push(&self, frame: Bytes) -> PushOutcome {
        self.pushed(|outgoing| outgoing.push(frame))
    }

    /// Queues a frame that it must not miss.
    pub(super) fn push_reliable(&self, frame: Bytes) -> PushOutcome {
        self.pushed(|outgoing| outgoing.push_reliable(frame))
    }

    /// Queues a question or an event.
    pub(super) fn put(&self, asked: &Asked<'_>, frame: Bytes) -> PushOutcome {
        self.pushed(|outgoing| outgoing.push_question(asked.id, frame))
    }

    fn pushed(
        &self,
        push: impl FnOnce(&mut OutgoingFrames) -> Result<(), LinkFull>,
    ) -> PushOutcome {
        if push(&mut self.outgoing.lock()).is_ok() {
            self.queued.notify_one();
            return PushOutcome::Queued;
        }
        self.dropped.fetch_add(1, Ordering::Relaxed);
        match self.full.happened() {
            Some(_) if !self.is_gone() => PushOutcome::FullNow,
            _ => PushOutcome::StillFull,
        }
    }

    /// Begins a new sequence: what waits is lost, and the peer is told everything anew.
    pub(super) fn restart(&self, session: u64) -> usize {
        let mut outgoing = self.outgoing.lock();
        let untold = outgoing.take_back();
        let lost = outgoing.restart(session);
        self.is_subscribed.store(false, Ordering::Relaxed);
        drop(outgoing);
        self.queued.notify_one();
        self.answer_untold(untold);
        lost
    }

    pub(super) fn session(&self) -> u64 {
        self.outgoing.lock().session()
    }

    pub(super) fn resume(&self, received: u64) -> Result<(), Forgotten> {
        self.outgoing.lock().resume(received)
    }

    /// What a connection of this session should send next; nothing once there is another.
    pub(super) fn next_batch(&self, session: u64) -> Option<Batch> {
        let mut outgoing = self.outgoing.lock();
        let is_current = outgoing.session() == session;
        is_current.then(|| outgoing.next_batch()).flatten()
    }

    pub(super) fn sign_of_life(&self) -> Batch {
        self.outgoing.lock().sign_of_life()
    }

    /// A connection of this session has heard how far the peer is.
    pub(super) fn acknowledged(&self, session: u64, received: u64) {
        self.heard.lock().pulling = Instant::now();
        let mut outgoing = self.outgoing.lock();
        if outgoing.session() != session {
            return;
        }
        outgoing.acknowledge(received);
        drop(outgoing);
        self.room.notify_one();
    }

    /// Whether it must be told everything: it was not, or not to the end.
    pub(super) fn must_be_told(&self) -> bool {
        self.synced_session.load(Ordering::Relaxed) != self.session()
    }

    /// It was told everything, in this session.
    pub(super) fn synced(&self, session: u64) {
        self.synced_session.store(session, Ordering::Relaxed);
    }

    /// Waits until the connection has something to send, or another session.
    pub(super) async fn queued(&self) {
        self.queued.notified().await;
    }

    /// Waits until it has acknowledged most of what it must not miss: whoever has much of that to
    /// say goes by this.
    pub(super) async fn has_room(&self) {
        while !self.outgoing.lock().has_room() {
            self.room.notified().await;
        }
    }

    /// Waits until it has acknowledged everything.
    pub(super) async fn is_empty(&self) {
        while self.outgoing.lock().frames() > 0 && !self.is_gone() {
            self.room.notified().await;
        }
    }

    pub(super) fn is_dialled(&self) -> bool {
        self.is_dialled.load(Ordering::Acquire)
    }

    /// One dialler at a time; false: there is one.
    pub(super) fn take_dialling(&self) -> bool {
        !self.is_dialled.swap(true, Ordering::AcqRel)
    }

    pub(super) fn leave_dialling(&self) {
        self.is_dialled.store(false, Ordering::Release);
    }

    /// Frames that are lost if it is gone.
    pub(super) fn lost(&self) -> usize {
        self.outgoing.lock().lost()
    }

    /// Frames and bytes that it has not acknowledged.
    pub fn waiting(&self) -> (usize, usize) {
        let outgoing = self.outgoing.lock();
        (outgoing.frames(), outgoing.bytes())
    }

    // What it tells this node.

    /// A new connection wants to receive: the one before stops.
    pub(super) fn supersede(&self, address: &str) -> Receiving {
        let number = self.connections.fetch_add(1, Ordering::AcqRel) + 1;
        self.superseded.notify_waiters();
        address.clone_into(&mut self.address.lock());
        Receiving(number)
    }

    /// Waits until another connection wants to receive.
    pub(super) async fn superseded(&self, receiving: Receiving) {
        loop {
            let superseded = self.superseded.notified();
            if self.connections.load(Ordering::Acquire) != receiving.0 {
                return;
            }
            superseded.await;
        }
    }

    pub(super) fn heard(&self) {
        self.heard.lock().pushing = Instant::now();
    }

    /// It begins to tell everything that it holds.
    pub(super) fn begin_picture(&self, number: u32) {
        self.is_known.store(false, Ordering::Relaxed);
        self.snapshot.store(number, Ordering::Relaxed);
    }

    /// It has told everything that it holds; whether it had before.
    pub(super) fn now_known(&self) -> bool {
        self.is_known.store(true, Ordering::Relaxed);
        self.has_come.swap(true, Ordering::Relaxed)
    }

    /// Whether it ever has.
    pub(super) fn has_come(&self) -> bool {
        self.has_come.load(Ordering::Relaxed)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            node: self.incarnation,
            number: self.snapshot.load(Ordering::Relaxed),
        }
    }

    // Questions.

    /// A question that is about to be put to it.
    pub(super) fn begin_ask(&self, kind: AskKind) -> Asked<'_> {
        let id = self.next_ask.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.asks.lock().insert(id, Waiting { sender, kind });
        Asked {
            peer: self,
            id,
            answer,
        }
    }

    /// Takes back what it was asked and has not seen: whoever asked may ask another one.
    pub(super) fn take_back(&self) {
        let untold = self.outgoing.lock().take_back();
        self.answer_untold(untold);
    }

    fn answer_untold(&self, questions: Vec<u64>) {
        for sender in questions.into_iter().filter_map(|id| self.end_ask(id)) {
            let _ = sender.send(Err(Failed::Untold));
        }
    }

    pub(super) fn end_ask(&self, id: u64) -> Option<Answering> {
        let waiting = self.asks.lock().remove(&id);
        waiting.map(|waiting| waiting.sender)
    }

    // Life and death.

    /// For how long it has been silent, one way or the other.
    pub(super) fn silent_for(&self) -> Duration {
        let heard = *self.heard.lock();
        heard.pushing.min(heard.pulling).elapsed()
    }

    /// Whether it hears this node, but has said nothing itself.
    pub(super) fn is_one_way(&self) -> bool {
        let heard = *self.heard.lock();
        heard.pushing + ONE_WAY < heard.pulling
    }

    /// This process itself was stopped for a while: nobody else's silence.
    pub(super) fn excuse(&self) {
        let now = Instant::now();
        let mut heard = self.heard.lock();
        heard.pushing = now;
        heard.pulling = now;
    }

    /// Nobody is to wait for it any more; how many events it had.
    pub(super) fn end(&self) -> usize {
        self.is_gone.store(true, Ordering::Release);
        // A question from now on is refused, and one before was sent, or is taken back.
        self.outgoing.lock().close();
        self.take_back();
        self.gone.notify_waiters();
        self.superseded.notify_waiters();
        let asks = std::mem::take(&mut *self.asks.lock());
        let events = asks
            .into_values()
            .filter(|asked| asked.kind == AskKind::Event);
        events.count()
    }

    pub(super) fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Acquire)
    }

    pub(super) async fn gone(&self) {
        loop {
            let gone = self.gone.notified();
            if self.is_gone() {
                return;
            }
            gone.await;
        }
    }
}
