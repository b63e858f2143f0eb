//! The outbound direction of a link: the frames that wait for a peer, and what the peer has had.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::link::{Batch, Forgotten, LinkBound, NotTaken, OutgoingFrames};
use crate::limits::PEER_MESSAGE_BYTES_MIN;
use crate::log_throttle::LogThrottle;

/// The frames for one peer, and the state of sending them. The memory of the frames is limited by
/// `LinkBound`.
#[derive(Debug)]
pub(super) struct Outbound {
    frames: Mutex<OutgoingFrames>,
    /// Wakes the connection when there are frames to send, or another session.
    queued: Notify,
    /// Wakes those who wait for room, when frames were acknowledged.
    room: Notify,
    is_dialled: AtomicBool,
    /// Whether the peer is sent every change of what this node holds.
    is_subscribed: AtomicBool,
    /// The session in which the peer was told everything to the end; 0 if there is none yet.
    synced_session: AtomicU64,
    /// The largest message that the peer takes, in bytes.
    message_bytes: AtomicUsize,
    deliveries: AtomicU64,
    dropped: AtomicU64,
    /// Limits how often a full link to the peer is logged, since every message may meet one.
    full: LogThrottle,
    /// Limits how often a frame that is too large for the peer is logged.
    pub(super) too_large: LogThrottle,
}

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
    /// The link is closed, since the peer is gone.
    Closed,
}

impl Outbound {
    /// Creates an empty link with the session number `session`.
    pub(super) fn new(session: u64, bound: LinkBound) -> Outbound {
        Outbound {
            frames: Mutex::new(OutgoingFrames::new(session, bound)),
            queued: Notify::new(),
            room: Notify::new(),
            is_dialled: AtomicBool::new(false),
            is_subscribed: AtomicBool::new(false),
            synced_session: AtomicU64::new(0),
            message_bytes: AtomicUsize::new(PEER_MESSAGE_BYTES_MIN),
            deliveries: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            full: LogThrottle::default(),
            too_large: LogThrottle::default(),
        }
    }

    // The frames that wait.

    /// Queues a frame, and never waits.
    pub(super) fn push(&self, frame: Bytes) -> PushOutcome {
        self.push_with(|frames| frames.push(frame))
    }

    /// Queues a frame that the peer must not miss.
    pub(super) fn push_reliable(&self, frame: Bytes) -> PushOutcome {
        self.push_with(|frames| frames.push_reliable(frame))
    }

    /// Queues a question or an event, which can be taken back by its number.
    pub(super) fn push_question(&self, id: u64, frame: Bytes) -> PushOutcome {
        self.push_with(|frames| frames.push_question(id, frame))
    }

    fn push_with(
        &self,
        push: impl FnOnce(&mut OutgoingFrames) -> Result<(), NotTaken>,
    ) -> PushOutcome {
        let mut frames = self.frames.lock();
        let taken = push(&mut frames);
        if taken.is_ok() {
            frames.time_last();
        }
        drop(frames);
        let Err(why) = taken else {
            self.queued.notify_one();
            return PushOutcome::Queued;
        };
        self.dropped.fetch_add(1, Ordering::Relaxed);
        match why {
            NotTaken::Closed => PushOutcome::Closed,
            NotTaken::Full if self.full.happened().is_some() => PushOutcome::FullNow,
            NotTaken::Full => PushOutcome::StillFull,
        }
    }

    /// Takes back the questions and events that no connection has got yet, and returns their
    /// numbers.
    pub(super) fn take_back(&self) -> Vec<u64> {
        self.frames.lock().take_back()
    }

    /// Begins a new session, and ends the subscription. Returns how many waiting frames are lost,
    /// and the numbers of the questions and events that no connection has got.
    pub(super) fn restart(&self, session: u64) -> (usize, Vec<u64>) {
        let mut frames = self.frames.lock();
        let unsent = frames.take_back();
        let lost = frames.restart(session);
        self.is_subscribed.store(false, Ordering::Relaxed);
        drop(frames);
        self.queued.notify_one();
        (lost, unsent)
    }

    /// Closes the link, which takes no more frames.
    pub(super) fn close(&self) {
        self.frames.lock().close();
    }

    /// Returns how many frames are lost if the peer is gone.
    pub(super) fn lost(&self) -> usize {
        self.frames.lock().lost()
    }

    /// Returns the numbers of frames and bytes that the peer has not acknowledged.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let frames = self.frames.lock();
        (frames.frames(), frames.bytes())
    }

    // The connection.

    /// Returns the number of the current session.
    pub(super) fn session(&self) -> u64 {
        self.frames.lock().session()
    }

    /// Resumes on a new connection, whose other side has received everything up to `received`.
    pub(super) fn resume(&self, received: u64) -> Result<(), Forgotten> {
        self.frames.lock().resume(received)
    }

    /// Returns the next batch for a connection of this session. The result is nothing if no frame
    /// waits, or once there is another session.
    pub(super) fn next_batch(&self, session: u64) -> Option<Batch> {
        let mut frames = self.frames.lock();
        let is_current = frames.session() == session;
        is_current.then(|| frames.next_batch()).flatten()
    }

    /// Returns an empty batch, which shows the peer that this node is there.
    pub(super) fn sign_of_life(&self) -> Batch {
        self.frames.lock().sign_of_life()
    }

    /// Records that the peer has received everything up to `received`, as a connection of this
    /// session has heard. Returns how long the frame that is timed took, if it is among them.
    pub(super) fn acknowledged(&self, session: u64, received: u64) -> Option<Duration> {
        let mut frames = self.frames.lock();
        if frames.session() != session {
            return None;
        }
        frames.acknowledge(received);
        let added = frames.take_timed();
        drop(frames);
        self.room.notify_waiters();
        added.map(|added| added.elapsed())
    }

    /// Waits until the connection has something to send, or another session.
    pub(super) async fn queued(&self) {
        self.queued.notified().await;
    }

    /// Waits until the peer has acknowledged most of the frames that it must not miss. Code that
    /// has many such frames to send waits here first.
    pub(super) async fn has_room(&self) {
        self.acknowledged_until(OutgoingFrames::has_room).await;
    }

    /// Waits until the peer has acknowledged everything.
    pub(super) async fn is_empty(&self) {
        self.acknowledged_until(|frames| frames.frames() == 0).await;
    }

    async fn acknowledged_until(&self, is_enough: impl Fn(&OutgoingFrames) -> bool) {
        loop {
            // Before the look, so that no acknowledgement after it is missed.
            let acknowledged = self.room.notified();
            if is_enough(&self.frames.lock()) {
                return;
            }
            acknowledged.await;
        }
    }

    /// Returns whether a task dials the peer, or is connected to it.
    pub(super) fn is_dialled(&self) -> bool {
        self.is_dialled.load(Ordering::Acquire)
    }

    /// Claims the right to dial the peer. Returns false if somebody dials the peer already.
    pub(super) fn take_dialling(&self) -> bool {
        !self.is_dialled.swap(true, Ordering::AcqRel)
    }

    /// Gives back the right to dial the peer.
    pub(super) fn leave_dialling(&self) {
        self.is_dialled.store(false, Ordering::Release);
    }

    // What the peer has been told of this node's interest.

    /// Returns whether the peer is sent every change of what this node holds.
    pub(super) fn is_subscribed(&self) -> bool {
        self.is_subscribed.load(Ordering::Relaxed)
    }

    /// Records that the peer is sent every change from now on.
    pub(super) fn subscribe(&self) {
        self.is_subscribed.store(true, Ordering::Relaxed);
    }

    /// Returns whether the peer was told everything to the end in the current session.
    pub(super) fn is_synced(&self) -> bool {
        self.synced_session.load(Ordering::Relaxed) == self.session()
    }

    /// Records that the peer was told everything in this session.
    pub(super) fn set_synced(&self, session: u64) {
        self.synced_session.store(session, Ordering::Relaxed);
    }

    // What the peer takes and took.

    /// Records the largest message that the peer says it takes, with a lower limit of
    /// `PEER_MESSAGE_BYTES_MIN`.
    pub(super) fn set_message_bytes(&self, bytes: u64) {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let bytes = bytes.max(PEER_MESSAGE_BYTES_MIN);
        self.message_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Returns the largest frame that the peer takes. A larger frame would be sent again and again,
    /// with all frames that wait behind it.
    pub(super) fn largest_frame(&self) -> usize {
        self.message_bytes.load(Ordering::Relaxed) - BATCH_HEAD
    }

    /// Counts a delivery that was queued for the peer.
    pub(super) fn count_delivery(&self) {
        self.deliveries.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of deliveries that were queued for the peer.
    pub(super) fn deliveries(&self) -> u64 {
        self.deliveries.load(Ordering::Relaxed)
    }

    /// Returns the number of frames that the link could not take.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
