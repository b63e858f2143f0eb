//! A peer: one other node, as this node knows it.
//!
//! Two streams join two nodes, one in each direction. Frames for a peer wait in the peer's
//! `OutgoingFrames`, whose size is limited. Frames from a peer are received by one connection at a
//! time. A peer is alive while this node gets both its frames and its acknowledgements of this
//! node's frames.

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

/// A peer: another node, as this node knows it.
#[derive(Debug)]
pub struct Peer {
    incarnation: Incarnation,
    address: Mutex<String>,
    outgoing: Mutex<OutgoingFrames>,
    /// Wakes the connection when there are frames to send, or another session.
    queued: Notify,
    /// Wakes those who wait for room, when frames were acknowledged.
    room: Notify,
    /// The state of receiving, locked by the connection that receives. Another connection waits
    /// until that one has stopped.
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
    /// Whether the peer is sent every change of what this node holds.
    pub(super) is_subscribed: AtomicBool,
    /// The session in which the peer was told everything to the end; 0 if there is none yet.
    synced_session: AtomicU64,
    /// The number of the snapshot that the peer sends, or sent last; 0 if there is none yet.
    snapshot: AtomicU32,
    /// Whether the last snapshot of the peer is complete.
    pub(super) is_known: AtomicBool,
    /// Whether a snapshot of the peer was ever complete; its arrival has been reported then.
    has_come: AtomicBool,
    /// The number of deliveries that were queued for the peer.
    pub(super) deliveries: AtomicU64,
    /// The number of frames that found the peer's link full.
    dropped: AtomicU64,
    /// Limits how often a full link to the peer is logged, since every message may meet one.
    full: LogThrottle,
    /// Limits how often a frame that is too large for the peer is logged.
    pub(super) too_large: LogThrottle,
    /// The largest message that the peer takes, in bytes.
    message_bytes: AtomicUsize,
}

/// The state of a peer, as operators see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// The peer has not yet said completely what it holds.
    New,
    /// The peer sends something often enough.
    Alive,
    /// The peer has been silent for `suspect_after`.
    Suspect,
    /// The peer has said that it drains.
    Leaving,
}

/// The times when a peer was last heard.
#[derive(Clone, Copy, Debug)]
struct Heard {
    /// The time of the last batch that the peer sent.
    pushing: Instant,
    /// The time of the peer's last acknowledgement of this node's frames.
    pulling: Instant,
}

/// The shortest time between a peer's last batch and a later acknowledgement that marks the peer as
/// one-way. A peer acknowledges frames every half second, and sends something itself as often.
const ONE_WAY: Duration = Duration::from_secs(2);

/// The largest number of bytes that a batch adds around its one frame.
const BATCH_HEAD: usize = 1 << 10;

/// The outcome of queueing a frame for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PushOutcome {
    /// The frame waits for the connection.
    Queued,
    /// The link was full for the first time, or the first time in a while. This should be logged.
    FullNow,
    /// The link was full, as it was a moment ago.
    StillFull,
}

/// The number of a connection, which identifies its turn to receive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Receiving(u64);

/// The sender and the kind of a question or event that waits for its answer.
#[derive(Debug)]
struct Waiting {
    sender: Answering,
    kind: AskKind,
}

/// The kind of a request to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AskKind {
    /// A question about the peer's clients.
    Question,
    /// An event of a client here, or a backend's call, which the peer is to handle.
    Event,
}

/// The channel that the answer to a question or an event goes to.
type Answering = oneshot::Sender<Result<Answer, Failed>>;

/// A question or an event for a peer. When `Asked` is dropped, nobody waits for the answer any
/// more.
pub(super) struct Asked<'a> {
    peer: &'a Peer,
    id: u64,
    answer: oneshot::Receiver<Result<Answer, Failed>>,
}

impl Asked<'_> {
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Waits for the answer, but only as long as the peer is there.
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

    /// Returns the incarnation: the run of a node that this peer is.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Returns the address at which the peer is dialled.
    pub fn address(&self) -> String {
        self.address.lock().clone()
    }

    /// Returns the state of the peer, as operators see it.
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

    /// Returns the number of deliveries that were queued for the peer.
    pub fn delivered(&self) -> u64 {
        self.deliveries.load(Ordering::Relaxed)
    }

    /// Returns the number of frames that the peer's link could not take.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    // What this node tells it.

    /// Records the largest message that the peer says it takes, with a lower limit of
    /// `PEER_MESSAGE_BYTES_MIN`.
    pub(super) fn takes_messages_of(&self, bytes: u64) {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let bytes = bytes.max(PEER_MESSAGE_BYTES_MIN);
        self.message_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Returns the largest frame that the peer takes. A larger frame would be sent again and again,
    /// with all frames that wait behind it.
    pub(super) fn largest_frame(&self) -> usize {
        self.message_bytes.load(Ordering::Relaxed) - BATCH_HEAD
    }

    /// Queues a frame for the peer, and never waits.
    pub(super) fn push(&self, frame: Bytes) -> PushOutcome {
        self.pushed(|outgoing| outgoing.push(frame))
    }

    /// Queues a frame that the peer must not miss.
    pub(super) fn push_reliable(&self, frame: Bytes) -> PushOutcome {
        self.pushed(|outgoing| outgoing.push_reliable(frame))
    }

    /// Queues a question or an event for the peer.
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

    /// Begins a new session with the peer. Frames that wait are lost, and the peer is told
    /// everything anew. Returns how many frames are lost.
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

    /// Returns the next batch for a connection of this session. The result is nothing if no frame
    /// waits, or once there is another session.
    pub(super) fn next_batch(&self, session: u64) -> Option<Batch> {
        let mut outgoing = self.outgoing.lock();
        let is_current = outgoing.session() == session;
        is_current.then(|| outgoing.next_batch()).flatten()
    }

    pub(super) fn sign_of_life(&self) -> Batch {
        self.outgoing.lock().sign_of_life()
    }

    /// Records that the peer has received everything up to `received`, as a connection of this
    /// session has heard.
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

    /// Returns whether the peer has not yet been told everything to the end in this session.
    pub(super) fn must_be_told(&self) -> bool {
        self.synced_session.load(Ordering::Relaxed) != self.session()
    }

    /// Records that the peer was told everything in this session.
    pub(super) fn synced(&self, session: u64) {
        self.synced_session.store(session, Ordering::Relaxed);
    }

    /// Waits until the connection has something to send, or another session.
    pub(super) async fn queued(&self) {
        self.queued.notified().await;
    }

    /// Waits until the peer has acknowledged most of the frames that it must not miss. Code that
    /// has many such frames to send waits here first.
    pub(super) async fn has_room(&self) {
        while !self.outgoing.lock().has_room() {
            self.room.notified().await;
        }
    }

    /// Waits until the peer has acknowledged everything, or is gone.
    pub(super) async fn is_empty(&self) {
        while self.outgoing.lock().frames() > 0 && !self.is_gone() {
            self.room.notified().await;
        }
    }

    pub(super) fn is_dialled(&self) -> bool {
        self.is_dialled.load(Ordering::Acquire)
    }

    /// Claims the right to dial the peer. Returns false if somebody dials the peer already.
    pub(super) fn take_dialling(&self) -> bool {
        !self.is_dialled.swap(true, Ordering::AcqRel)
    }

    pub(super) fn leave_dialling(&self) {
        self.is_dialled.store(false, Ordering::Release);
    }

    /// Returns how many frames are lost if the peer is gone.
    pub(super) fn lost(&self) -> usize {
        self.outgoing.lock().lost()
    }

    /// Returns the numbers of frames and bytes that the peer has not acknowledged.
    pub fn waiting(&self) -> (usize, usize) {
        let outgoing = self.outgoing.lock();
        (outgoing.frames(), outgoing.bytes())
    }

    // What it tells this node.

    /// Registers a new connection that wants to receive. The connection before it stops.
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

    /// Records that the peer begins to send the snapshot of this number.
    pub(super) fn begin_picture(&self, number: u32) {
        self.is_known.store(false, Ordering::Relaxed);
        self.snapshot.store(number, Ordering::Relaxed);
    }

    /// Records that the peer has told everything that it holds. Returns whether the peer ever had
    /// before.
    pub(super) fn now_known(&self) -> bool {
        self.is_known.store(true, Ordering::Relaxed);
        self.has_come.swap(true, Ordering::Relaxed)
    }

    /// Returns whether the peer has ever told everything that it holds.
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

    /// Registers a question or an event for the peer, which is about to be sent.
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

    /// Takes back the questions and events that the peer has not seen. Whoever sent them may ask
    /// another node.
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

    /// Returns how long the peer has been silent, in the direction that has been silent longer.
    pub(super) fn silent_for(&self) -> Duration {
        let heard = *self.heard.lock();
        heard.pushing.min(heard.pulling).elapsed()
    }

    /// Returns whether the peer acknowledges frames of this node, but has sent nothing itself.
    pub(super) fn is_one_way(&self) -> bool {
        let heard = *self.heard.lock();
        heard.pushing + ONE_WAY < heard.pulling
    }

    /// Counts the peer as heard just now. This process itself was stopped for a while, so the
    /// silence was not the peer's.
    pub(super) fn excuse(&self) {
        let now = Instant::now();
        let mut heard = self.heard.lock();
        heard.pushing = now;
        heard.pulling = now;
    }

    /// Marks the peer as gone, so that nobody waits for it any more. Returns how many events the
    /// peer had not answered.
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
