//! The state of the mesh: the peers, what they hold, and how they are told something.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::interest::Interest;
use super::link::{Bound, draw_session};
use super::listed_here::ListedHere;
use super::peer::{Peer, PeerState, PushOutcome};
use super::peer_event::Queue;
use super::source::Source;
use super::trust::{Refusals, Trust};
use crate::id::Incarnation;
use crate::limits::Limits;
use crate::registry::Registry;

/// This node's part of the mesh.
pub struct Mesh {
    pub(super) address: String,
    pub(super) trust: Trust,
    pub(super) registry: Arc<Registry>,
    pub(super) interest: Interest,
    pub(super) peers: RwLock<BTreeMap<Incarnation, Arc<Peer>>>,
    pub(super) listed_here: ListedHere,
    /// Who says which addresses are to be dialled.
    pub(super) wanted: Mutex<BTreeMap<String, BTreeSet<Source>>>,
    /// Held while the registry is read and the peers are told: the last word is the truth.
    pub(super) publishing: Mutex<()>,
    /// The node drains: registers are told.
    pub(super) draining: CancellationToken,
    /// It ends: peers are told.
    pub(super) leaving: CancellationToken,
    /// Stays at registers.
    pub(super) registrations: TaskTracker,
    /// Who is refused tries again, four times a second.
    pub(super) refusals: Refusals,
    /// How many full snapshots have been begun by all peers together.
    pub(super) snapshots: AtomicU32,
    /// It has run for long enough to know of all others.
    pub(super) is_settled: AtomicBool,
    /// Another node takes events, or does not, that did otherwise before.
    pub(super) serving_changed: watch::Sender<()>,
    pub(super) work: Queue,
}

impl Mesh {
    /// A node's part of the mesh, which its peers reach at `address`.
    pub fn new(address: String, trust: Trust, registry: Arc<Registry>) -> Arc<Mesh> {
        Arc::new(Mesh {
            address,
            trust,
            work: Queue::new(),
            registry,
            interest: Interest::default(),
            peers: RwLock::default(),
            listed_here: Default::default(),
            wanted: Mutex::default(),
            publishing: Mutex::default(),
            draining: CancellationToken::new(),
            leaving: CancellationToken::new(),
            registrations: TaskTracker::new(),
            refusals: Refusals::default(),
            snapshots: AtomicU32::new(0),
            is_settled: AtomicBool::new(false),
            serving_changed: watch::Sender::new(()),
        })
    }

    /// What peers dial to reach this node.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What the peers hold.
    pub fn interest(&self) -> &Interest {
        &self.interest
    }

    /// The peer of that incarnation.
    pub fn peer(&self, node: Incarnation) -> Option<Arc<Peer>> {
        self.peers.read().get(&node).cloned()
    }

    /// All peers.
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        self.peers.read().values().cloned().collect()
    }

    /// Peers that have not said yet, or not lately, what they hold: an answer from memory
    /// misses them.
    pub fn unknown(&self) -> Vec<Incarnation> {
        let peers = self.peers.read();
        let missing = peers.values().filter(|peer| {
            !peer.is_known.load(Ordering::Relaxed) || peer.is_suspect.load(Ordering::Relaxed)
        });
        missing.map(|peer| peer.incarnation()).collect()
    }

    pub(super) fn own(&self) -> Incarnation {
        self.registry.incarnation()
    }

    pub(super) fn limits(&self) -> &Limits {
        self.registry.limits()
    }

    /// Queues a frame for a peer; a full link says so once. What changed here before is told
    /// before: who answers a message finds its sender's groups as they were.
    pub(super) fn push(&self, peer: &Peer, frame: Bytes) -> bool {
        self.push_with(peer, || peer.push(frame))
    }

    pub(super) fn push_with(&self, peer: &Peer, tell: impl FnOnce() -> PushOutcome) -> bool {
        self.publish();
        let told = tell();
        if told != PushOutcome::Queued {
            self.registry.counters().mesh_dropped.add_one();
        }
        if told == PushOutcome::FullNow {
            let (peer, address) = (peer.incarnation(), peer.address());
            tracing::warn!(%peer, address, "the link is full: messages to this node are dropped (link_bytes)");
        }
        told == PushOutcome::Queued
    }

    /// Queues a frame that the peer must not miss. Where the link is full, what waits is lost
    /// and the peer is told everything anew.
    pub(super) fn push_reliable(&self, peer: &Peer, frame: Bytes) {
        if peer.push_reliable(frame) == PushOutcome::Queued || peer.is_gone() {
            return;
        }
        let lost = peer.restart(draw_session());
        self.registry.counters().mesh_dropped.add(lost as u64);
        let (peer, address) = (peer.incarnation(), peer.address());
        tracing::warn!(%peer, address, lost, "the link was full: what waited is dropped, and it begins anew");
    }

    /// The peer of that incarnation, which is new if it was not known.
    pub(super) fn meet(&self, node: Incarnation, address: &str) -> Arc<Peer> {
        let mut peers = self.peers.write();
        let new = || {
            let bound = Bound {
                bytes: self.limits().link_bytes,
                frames: self.limits().link_frames,
            };
            Arc::new(Peer::new(node, address, draw_session(), bound))
        };
        peers.entry(node).or_insert_with(new).clone()
    }

    /// Forgets a peer, and everything it was said to hold.
    pub(super) fn lose(&self, peer: &Peer, why: &str) {
        let node = peer.incarnation();
        if self.peers.write().remove(&node).is_none() {
            return;
        }
        let events = peer.end();
        self.interest.forget(node);
        self.serving_changed.send_replace(());
        let lost = peer.lost();
        self.registry.counters().mesh_dropped.add(lost as u64);
        self.unwant(&Source::Itself(node));
        let address = peer.address();
        match peer.state() {
            _ if !peer.has_come() => {}
            PeerState::Leaving => tracing::info!(peer = %node, address, "a node is gone: {why}"),
            _ => tracing::warn!(peer = %node, address, lost, events, "a node is gone: {why}"),
        }
    }

    /// Nothing more comes from a peer that is gone: what it said while it was being forgotten
    /// is forgotten, too.
    pub(super) fn forget_last_words(&self, peer: &Peer) {
        let node = peer.incarnation();
        // If it is back, its new snapshot replaces what is left of the old one.
        if peer.is_gone() && self.peer(node).is_none() {
            self.interest.forget(node);
        }
    }
}
