//! A link: the frames that one node sends to one peer. Frames are numbered, kept until they are
//! acknowledged, and sent again after a broken connection. No frame is lost or received twice, and
//! the order is kept, for as long as both nodes run and the link's bound is not exceeded.
//!
//! This is plain state without I/O: a connection takes batches out of an `OutgoingFrames` and puts
//! them into an `IncomingFrames`; acknowledgements go back. The connection may break, delay, repeat
//! and reorder batches. A frame that was received before is dropped; if frames are missing, the
//! connection ends, and the next connection resumes.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

/// The most that a link keeps in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinkBound {
    /// The most bytes of frames that are not acknowledged yet.
    pub(super) bytes: usize,
    /// The most frames that are not acknowledged yet.
    pub(super) frames: usize,
}

/// The size at which a batch is full, in bytes. Writing many frames costs little more than writing
/// one; but a broken connection may send a whole batch twice.
const BATCH_BYTES: usize = 64 << 10;
const BATCH_FRAMES: usize = 1024;

/// The frames from one node to one peer, in order.
#[derive(Debug)]
pub(super) struct OutgoingFrames {
    bound: LinkBound,
    session: u64,
    /// Frames that are not acknowledged yet; the first one's number is `acknowledged + 1`.
    kept: VecDeque<PendingFrame>,
    bytes: usize,
    /// The bytes of those pending frames that the other side must not miss.
    sure_bytes: usize,
    acknowledged: u64,
    /// The number of the last frame that was given to the connection. Later frames have never been
    /// given to any connection.
    sent: u64,
    /// Whether the link takes no more frames, because the other side is gone.
    is_closed: bool,
    /// The number of a frame, and when it was added, if one is timed.
    timed: Option<(u64, Instant)>,
}

#[derive(Debug)]
struct PendingFrame {
    /// The frame itself. The frame is empty if it was taken back, and then only keeps its place in
    /// order.
    frame: Bytes,
    /// Whether the other side must not miss the frame.
    is_sure: bool,
    /// The id of the question, if the frame is one.
    question: Option<u64>,
}

/// Frames that are sent together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// The number of the first frame.
    pub(super) first: u64,
    /// The frames of the batch; a batch without frames is a sign of life.
    pub(super) frames: Vec<Bytes>,
}

/// The reason why a link has not taken a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// The bound of the link does not permit the frame.
    Full,
    /// The link takes no more frames, because the other side is gone.
    Closed,
}

/// An error: what the other side says that it has received does not fit this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forgotten;

/// The state of a session on the receiving side: its number, and how many frames it has received.
#[derive(Debug)]
pub(super) struct IncomingFrames {
    session: u64,
    received: u64,
}

/// An error: frames are missing between the received ones and the new ones. The connection must
/// end, and the next one resumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap;

impl OutgoingFrames {
    /// An empty link with the session number `session`.
    pub(super) fn new(session: u64, bound: LinkBound) -> OutgoingFrames {
        OutgoingFrames {
            bound,
            session,
            kept: VecDeque::new(),
            bytes: 0,
            sure_bytes: 0,
            acknowledged: 0,
            sent: 0,
            is_closed: false,
            timed: None,
        }
    }

    /// The number of the current session.
    pub(super) fn session(&self) -> u64 {
        self.session
    }

    /// Adds a frame to the end, if the bound permits it.
    pub(super) fn push(&mut self, frame: Bytes) -> Result<(), NotTaken> {
        self.push_within(self.bound, PendingFrame::new(frame))
    }

    /// Adds a question, which can be taken back, if the bound permits it.
    pub(super) fn push_question(&mut self, id: u64, frame: Bytes) -> Result<(), NotTaken> {
        let kept = PendingFrame {
            question: Some(id),
            ..PendingFrame::new(frame)
        };
        self.push_within(self.bound, kept)
    }

    /// Adds a frame that the other side must not miss. For such frames the bound is twice as high.
    pub(super) fn push_reliable(&mut self, frame: Bytes) -> Result<(), NotTaken> {
        let twice = LinkBound {
            bytes: self.bound.bytes.saturating_mul(2),
            frames: self.bound.frames.saturating_mul(2),
        };
        let kept = PendingFrame {
            is_sure: true,
            ..PendingFrame::new(frame)
        };
        self.push_within(twice, kept)
    }

    fn push_within(&mut self, bound: LinkBound, kept: PendingFrame) -> Result<(), NotTaken> {
        let bytes = kept.frame.len();
        // An empty link takes any frame: a bound below one message must not mute a peer.
        let is_full = !self.kept.is_empty()
            && (self.kept.len() >= bound.frames || self.bytes + bytes > bound.bytes);
        if self.is_closed {
            return Err(NotTaken::Closed);
        }
        if is_full {
            return Err(NotTaken::Full);
        }
        self.bytes += bytes;
        if kept.is_sure {
            self.sure_bytes += bytes;
        }
        self.kept.push_back(kept);
        Ok(())
    }

    /// Takes back the questions that no connection has got yet, and returns their ids. The other
    /// side will never see them.
    pub(super) fn take_back(&mut self) -> Vec<u64> {
        let mut taken = Vec::new();
        let unsent = self.unsent();
        for kept in self.kept.range_mut(unsent..) {
            if let Some(id) = kept.question.take() {
                self.bytes -= kept.frame.len();
                kept.frame = Bytes::new();
                taken.push(id);
            }
        }
        taken
    }

    /// Closes the link: it takes no more frames.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }

    /// The next batch for the connection, if any frame waits.
    pub(super) fn next_batch(&mut self) -> Option<Batch> {
        let mut batch = Batch {
            first: self.sent + 1,
            frames: Vec::new(),
        };
        let mut bytes = 0;
        let unsent = self.kept.range(self.unsent()..);
        for PendingFrame { frame, .. } in unsent.take(BATCH_FRAMES) {
            if !batch.frames.is_empty() && bytes + frame.len() > BATCH_BYTES {
                break;
            }
            bytes += frame.len();
            batch.frames.push(frame.clone());
        }
        self.sent += batch.frames.len() as u64;
        (!batch.frames.is_empty()).then_some(batch)
    }

    /// An empty batch, with the number that the next frame will have.
    pub(super) fn sign_of_life(&self) -> Batch {
        Batch {
            first: self.sent + 1,
            frames: Vec::new(),
        }
    }

    /// Removes the frames up to `received`, which the other side has received. Frames that were
    /// never sent are not removed.
    pub(super) fn acknowledge(&mut self, received: u64) {
        let received = received.min(self.sent);
        while self.acknowledged < received {
            let Some(kept) = self.kept.pop_front() else {
                return;
            };
            self.bytes -= kept.frame.len();
            if kept.is_sure {
                self.sure_bytes -= kept.frame.len();
            }
            self.acknowledged += 1;
        }
    }

    /// Resumes on a new connection, whose other side has received everything up to `received`.
    pub(super) fn resume(&mut self, received: u64) -> Result<(), Forgotten> {
        if received < self.acknowledged || received > self.last() {
            return Err(Forgotten);
        }
        self.sent = received;
        self.acknowledge(received);
        Ok(())
    }

    /// Begins a new session, and returns how many frames of the old one are lost. A closed link
    /// does not begin a new session.
    pub(super) fn restart(&mut self, session: u64) -> usize {
        if self.is_closed {
            return 0;
        }
        let lost = self.lost();
        *self = OutgoingFrames::new(session, self.bound);
        lost
    }

    /// How many frames are lost if the other side is gone.
    pub(super) fn lost(&self) -> usize {
        let is_there = |kept: &&PendingFrame| !kept.frame.is_empty();
        self.kept.iter().filter(is_there).count()
    }

    /// Whether there is room for more frames that the other side must not miss: those that wait
    /// should have no more than an eighth of the bound. Other frames are not counted, since there
    /// may always be more of them.
    pub(super) fn has_room(&self) -> bool {
        self.sure_bytes <= self.bound.bytes / 8
    }

    /// Begins to time the frame that was added last, if none is timed.
    pub(super) fn time_last(&mut self) {
        if self.timed.is_none() {
            self.timed = Some((self.last(), Instant::now()));
        }
    }

    /// Returns when the timed frame was added, once it is acknowledged.
    pub(super) fn take_timed(&mut self) -> Option<Instant> {
        let acknowledged = self.acknowledged;
        let timed = self.timed.take_if(|(number, _)| *number <= acknowledged);
        timed.map(|(_, added)| added)
    }

    /// How many bytes are not acknowledged yet.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many frames are not acknowledged yet.
    pub(super) fn frames(&self) -> usize {
        self.kept.len()
    }

    fn last(&self) -> u64 {
        self.acknowledged + self.kept.len() as u64
    }

    #[expect(clippy::cast_possible_truncation, reason = "an index into `kept`")]
    fn unsent(&self) -> usize {
        (self.sent - self.acknowledged) as usize
    }
}

impl PendingFrame {
    fn new(frame: Bytes) -> PendingFrame {
        PendingFrame {
            frame,
            is_sure: false,
            question: None,
        }
    }
}

impl IncomingFrames {
    /// The state of a session of which nothing has been received yet.
    pub(super) fn new(session: u64) -> IncomingFrames {
        IncomingFrames {
            session,
            received: 0,
        }
    }

    /// The number of the session.
    pub(super) fn session(&self) -> u64 {
        self.session
    }

    /// The number of the last frame that was received.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Takes a batch, and returns the frames in it that are new.
    pub(super) fn take(
        &mut self,
        batch: Batch,
    ) -> Result<impl Iterator<Item = Bytes> + use<>, Gap> {
        let Batch { first, frames } = batch;
        if first == 0 || first > self.received + 1 {
            return Err(Gap);
        }
        let last = first - 1 + frames.len() as u64;
        let known = usize::try_from(self.received + 1 - first).unwrap_or(usize::MAX);
        self.received = self.received.max(last);
        Ok(frames.into_iter().skip(known))
    }
}

/// Draws the number of a new session. It is never 0, and never one that the other side remembers.
pub(super) fn draw_session() -> u64 {
    // Without randomness the time will do: it must differ from the ones before, not be secret.
    let drawn = getrandom::u64().unwrap_or_else(|_| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        #[expect(clippy::cast_possible_truncation, reason = "its lower bits differ")]
        since.map_or(1, |since| since.as_nanos() as u64)
    });
    drawn.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: LinkBound = LinkBound {
        bytes: 1 << 20,
        frames: 10_000,
    };

    fn frame(number: u64) -> Bytes {
        Bytes::from(number.to_be_bytes().to_vec())
    }

    fn numbers(frames: impl Iterator<Item = Bytes>) -> Vec<u64> {
        frames
            .map(|frame| u64::from_be_bytes(frame[..].try_into().expect("eight bytes")))
            .collect()
    }

    /// A connection that breaks, delays, repeats and reorders batches, depending on a seed.
    struct Bad {
        random: fastrand::Rng,
        under_way: Vec<Batch>,
        acknowledgements: Vec<u64>,
    }

    /// Every frame arrives once and in order, whatever the connection does, as long as it is made
    /// again.
    #[test]
    fn every_frame_comes_once_and_in_order_over_any_connection() {
        for seed in 0..200 {
            let mut bad = Bad {
                random: fastrand::Rng::with_seed(seed),
                under_way: Vec::new(),
                acknowledgements: Vec::new(),
            };
            let mut outgoing = OutgoingFrames::new(seed, BOUND);
            let mut incoming = IncomingFrames::new(seed);
            let (mut pushed, mut came) = (0, Vec::new());
            let mut cuts = 0;
            while came.len() < 2_000 {
                if pushed < 2_000 && bad.random.u8(..3) != 0 {
                    pushed += 1;
                    outgoing.push(frame(pushed)).expect("room");
                }
                if bad.random.u8(..2) == 0
                    && let Some(batch) = outgoing.next_batch()
                {
                    if bad.random.u8(..5) == 0 {
                        bad.under_way.push(batch.clone());
                    }
                    bad.under_way.push(batch);
                }
                if bad.under_way.len() > 1 && bad.random.u8(..10) == 0 {
                    let last = bad.under_way.len() - 1;
                    bad.under_way.swap(0, last);
                }
                let mut cut = bad.random.u8(..50) == 0;
                if !bad.under_way.is_empty() && bad.random.u8(..4) != 0 {
                    match incoming.take(bad.under_way.remove(0)) {
                        Ok(new) => {
                            came.extend(numbers(new));
                            bad.acknowledgements.push(incoming.received());
                        }
                        Err(Gap) => cut = true,
                    }
                }
                if !bad.acknowledgements.is_empty() && bad.random.u8(..3) == 0 {
                    outgoing.acknowledge(bad.acknowledgements.remove(0));
                }
                if cut {
                    cuts += 1;
                    bad.under_way.clear();
                    bad.acknowledgements.clear();
                    outgoing.resume(incoming.received()).expect("it is known");
                }
            }
            assert_eq!(came, (1..=2_000).collect::<Vec<_>>(), "seed {seed}");
            assert!(cuts > 0, "seed {seed}");
        }
    }

    #[test]
    fn a_full_link_takes_no_more_until_something_is_acknowledged() {
        let mut outgoing = OutgoingFrames::new(
            1,
            LinkBound {
                bytes: 20,
                frames: 10,
            },
        );
        outgoing.push(frame(1)).expect("room");
        outgoing.push(frame(2)).expect("room");
        assert_eq!(outgoing.push(frame(3)), Err(NotTaken::Full));
        outgoing
            .push_reliable(frame(3))
            .expect("room for what must not be missed");
        outgoing.push_reliable(frame(4)).expect("and as much again");
        outgoing.push_reliable(frame(5)).expect("and as much again");
        assert_eq!(outgoing.push_reliable(frame(6)), Err(NotTaken::Full));
        outgoing.next_batch().expect("all of them");
        outgoing.acknowledge(4);
        outgoing.push(frame(3)).expect("room again");
        assert_eq!((outgoing.frames(), outgoing.bytes()), (2, 16));

        let mut outgoing = OutgoingFrames::new(
            1,
            LinkBound {
                bytes: 100,
                frames: 1,
            },
        );
        outgoing
            .push(Bytes::from(vec![0; 200]))
            .expect("an empty link takes any");
        assert_eq!(outgoing.push(frame(2)), Err(NotTaken::Full));
    }

    #[test]
    fn a_peer_that_has_forgotten_the_session_is_told_apart() {
        let mut outgoing = OutgoingFrames::new(1, BOUND);
        for number in 1..=3 {
            outgoing.push(frame(number)).expect("room");
        }
        outgoing.next_batch().expect("three frames");
        outgoing.acknowledge(2);
        assert_eq!(outgoing.resume(0), Err(Forgotten));
        assert_eq!(outgoing.resume(4), Err(Forgotten));
        assert_eq!(outgoing.resume(2), Ok(()));
        assert_eq!(outgoing.next_batch().map(|batch| batch.first), Some(3));
        assert_eq!(outgoing.restart(2), 1);
        assert_eq!(outgoing.resume(0), Ok(()));
        assert_eq!(outgoing.next_batch(), None);
    }

    #[test]
    fn a_question_is_taken_back_only_if_no_connection_had_it() {
        let mut outgoing = OutgoingFrames::new(1, BOUND);
        let mut incoming = IncomingFrames::new(1);
        outgoing.push_question(7, frame(1)).expect("room");
        let lost = outgoing.next_batch().expect("the question");
        outgoing.push(frame(2)).expect("room");
        outgoing.push_question(8, frame(3)).expect("room");
        outgoing.push(frame(4)).expect("room");
        assert_eq!(outgoing.take_back(), [8]);
        assert_eq!(outgoing.take_back(), [0; 0], "once");
        assert_eq!((outgoing.lost(), outgoing.bytes()), (3, 24));
        // The other side says that it never had the first one.
        drop(lost);
        outgoing.resume(incoming.received()).expect("it is known");
        assert_eq!(outgoing.take_back(), [7]);
        // The others come, each in its place.
        let batch = outgoing.next_batch().expect("all of them");
        let came = incoming.take(batch).expect("the next");
        let came = came.filter(|frame| !frame.is_empty());
        assert_eq!(numbers(came), [2, 4]);
        outgoing.acknowledge(incoming.received());
        assert_eq!((outgoing.frames(), outgoing.bytes()), (0, 0));
        outgoing.close();
        assert_eq!(outgoing.push_question(9, frame(5)), Err(NotTaken::Closed));
        assert_eq!(outgoing.restart(2), 0);
        assert_eq!(outgoing.push_reliable(frame(5)), Err(NotTaken::Closed));
    }

    #[test]
    fn a_large_backlog_goes_out_in_batches() {
        let mut outgoing = OutgoingFrames::new(1, BOUND);
        for _ in 0..10 {
            outgoing.push(Bytes::from(vec![7; 30 << 10])).expect("room");
        }
        let sizes: Vec<usize> = std::iter::from_fn(|| outgoing.next_batch())
            .map(|batch| batch.frames.len())
            .collect();
        assert_eq!(sizes, [2; 5]);
    }

    #[test]
    fn messages_leave_room_for_what_must_not_be_missed() {
        let mut outgoing = OutgoingFrames::new(1, BOUND);
        let frame = || Bytes::from(vec![0; BOUND.bytes / 16]);
        while outgoing.push(frame()).is_ok() {}
        let mut told = 0;
        while outgoing.has_room() {
            outgoing.push_reliable(frame()).expect("room");
            told += 1;
        }
        assert_eq!(told, 3, "an eighth, and one more");
        // A busy link is never empty, and still there is room again.
        while let Some(batch) = outgoing.next_batch() {
            outgoing.acknowledge(batch.first - 1);
            while outgoing.push(frame()).is_ok() {}
            if outgoing.has_room() {
                return;
            }
        }
        panic!("no room came about");
    }

    #[test]
    fn what_a_peer_says_wrong_changes_nothing() {
        let mut outgoing = OutgoingFrames::new(1, BOUND);
        outgoing.push(frame(1)).expect("room");
        outgoing.acknowledge(7);
        assert_eq!(outgoing.frames(), 1, "it was never sent");
        let mut incoming = IncomingFrames::new(1);
        let batch = |first| Batch {
            first,
            frames: vec![frame(1)],
        };
        assert!(incoming.take(batch(0)).is_err());
        assert!(incoming.take(batch(2)).is_err());
        assert_eq!(numbers(incoming.take(batch(1)).expect("the next")), [1]);
        assert_eq!(numbers(incoming.take(batch(1)).expect("known")), [0; 0]);
        assert_eq!(incoming.received(), 1);
    }
}
