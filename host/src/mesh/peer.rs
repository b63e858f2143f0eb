//! A peer: one other node, as this node knows it.
//!
//! Two streams join two nodes, one in each direction. Frames for a peer wait in its `Outbound`,
//! whose size is limited. Frames from a peer are received by one connection at a time, in its
//! `Inbound`. A peer is alive while this node gets both its frames and its acknowledgements of this
//! node's frames.

use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::holdings::PeerHoldings;
use super::inbound::{Inbound, Receiving};
use super::last_heard::LastHeard;
use super::link::LinkBound;
use super::outbound::Outbound;
use super::phase::{PeerState, Phase};
use super::questions::Questions;
use super::snapshot::Snapshot;
use crate::id::Incarnation;

/// A peer: another node, as this node knows it.
#[derive(Debug)]
pub struct Peer {
    incarnation: Incarnation,
    address: Mutex<String>,
    pub(super) outbound: Outbound,
    pub(super) inbound: Inbound,
    pub(super) questions: Questions,
    pub(super) last_heard: LastHeard,
    pub(super) holdings: PeerHoldings,
    phase: Mutex<Phase>,
    /// The token that is cancelled with `Phase::Gone`.
    gone: CancellationToken,
}

/// The state of a peer when it was removed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    /// The last phase before the peer was gone.
    pub(super) phase: Phase,
    /// How many events the peer had not answered.
    pub(super) events: usize,
}

impl Peer {
    /// Creates a peer that has not said anything yet.
    pub(super) fn new(
        incarnation: Incarnation,
        address: &str,
        session: u64,
        bound: LinkBound,
    ) -> Peer {
        Peer {
            incarnation,
            address: Mutex::new(address.to_owned()),
            outbound: Outbound::new(session, bound),
            inbound: Inbound::new(),
            questions: Questions::new(session),
            last_heard: LastHeard::now(),
            holdings: PeerHoldings::default(),
            phase: Mutex::new(Phase::NEW),
            gone: CancellationToken::new(),
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

    /// Returns the state of the peer, as operators see it, or nothing once the peer is gone.
    pub fn state(&self) -> Option<PeerState> {
        self.phase().state()
    }

    /// Returns the number of deliveries that were queued for the peer.
    pub fn delivered(&self) -> u64 {
        self.outbound.deliveries()
    }

    /// Returns the number of frames that the peer's link could not take.
    pub fn dropped(&self) -> u64 {
        self.outbound.dropped()
    }

    /// Returns the numbers of frames and bytes that the peer has not acknowledged.
    pub fn waiting(&self) -> (usize, usize) {
        self.outbound.waiting()
    }

    pub(super) fn phase(&self) -> Phase {
        *self.phase.lock()
    }

    /// Makes a transition of the phase, and returns the phase before it.
    pub(super) fn change(&self, transition: impl FnOnce(&mut Phase)) -> Phase {
        let mut phase = self.phase.lock();
        let before = *phase;
        transition(&mut phase);
        before
    }

    /// Begins a new session with the peer. Frames that wait are lost, and the peer is told
    /// everything anew. Returns how many frames are lost.
    pub(super) fn restart(&self, session: u64) -> usize {
        let (lost, unsent) = self.outbound.restart(session);
        self.questions.end_unsent(unsent);
        lost
    }

    /// Records that the peer has received everything up to `received`, as a connection of this
    /// session has heard. Returns how long the frame that is timed took, if it is among them.
    pub(super) fn acknowledged(&self, session: u64, received: u64) -> Option<Duration> {
        self.last_heard.acknowledgement();
        self.outbound.acknowledged(session, received)
    }

    /// Registers a new connection that wants to receive. The connection before it stops.
    pub(super) fn supersede(&self, address: &str) -> Receiving {
        address.clone_into(&mut self.address.lock());
        self.inbound.supersede()
    }

    /// Records that the peer begins to send the snapshot of this number.
    pub(super) fn begin_snapshot(&self, number: u32) {
        self.change(Phase::begin_snapshot);
        self.holdings.begin_snapshot();
        self.inbound.begin_snapshot(number);
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            node: self.incarnation,
            number: self.inbound.snapshot(),
        }
    }

    /// Takes back the questions and events that the peer has not seen. Whoever sent them may ask
    /// another node.
    pub(super) fn take_back(&self) {
        self.questions.end_unsent(self.outbound.take_back());
    }

    /// Marks the peer as gone, so that nobody waits for it any more.
    pub(super) fn end(&self) -> Ended {
        let phase = self.change(Phase::end);
        // A question from now on is refused, and one before was sent, or is taken back.
        self.outbound.close();
        self.take_back();
        self.gone.cancel();
        let events = self.questions.end_all();
        Ended { phase, events }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.phase() == Phase::Gone
    }

    /// Waits until the peer is gone.
    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }
}
