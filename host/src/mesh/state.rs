//! The state of the mesh: the peers, what they hold, and the ways to send them something.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, OnceLock};

use arc_swap::Guard;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::deployment::KnownDeployments;
use super::interest::Interest;
use super::link::{LinkBound, draw_session};
use super::listed_here::ListedHere;
use super::move_request::{self, MoveRequest};
use super::outbound::PushOutcome;
use super::peer::{Ended, Peer};
use super::peer_event::{self, PeerEvent};
use super::phase::PeerState;
use super::queue::Queue;
use super::source::Source;
use super::transport::{Grpc, Transport};
use super::trust::{Refusals, Trust};
use crate::id::Incarnation;
use crate::limits::Limits;
use crate::log_throttle::LogThrottle;
use crate::registry::Registry;

/// This node's part of the mesh.
pub struct Mesh {
    pub(super) address: String,
    pub(super) transport: Box<dyn Transport>,
    pub(super) trust: Trust,
    pub(super) registry: Arc<Registry>,
    pub(super) interest: Interest,
    pub(super) peers: RwLock<BTreeMap<Incarnation, Arc<Peer>>>,
    pub(super) listed_here: ListedHere,
    /// The addresses to dial, each with the sources that list it.
    pub(super) wanted: Mutex<BTreeMap<String, BTreeSet<Source>>>,
    /// The lock under which the registry is read and the peers are told, so that the last value
    /// that they get is the right one.
    pub(super) publishing: Mutex<()>,
    /// The lock under which this node sends to clients. To switch to the new node of a client, it is
    /// taken alone.
    pub(super) routes: RwLock<()>,
    /// The token that is cancelled when the node drains, and the registers must be told.
    pub(super) draining: CancellationToken,
    /// The token that is cancelled when the node has left, and its connections must end.
    pub(super) leaving: CancellationToken,
    /// The tasks that keep this node registered.
    pub(super) registrations: TaskTracker,
    /// The log of refused nodes, which try again four times a second.
    pub(super) refusals: Refusals,
    /// The log of addresses that are not dialled, since there are too many.
    pub(super) left_out: LogThrottle,
    /// How many full snapshots all peers together have begun.
    pub(super) snapshots: AtomicU32,
    /// The time since which this node has run for long enough to know of all other nodes.
    pub(super) settled: OnceLock<Instant>,
    /// The sender that notifies when another node begins or stops to take events, and when this
    /// node has settled.
    pub(super) serving_changed: watch::Sender<()>,
    pub(super) events: Queue<PeerEvent>,
    pub(super) moves: Queue<MoveRequest>,
    pub(super) deployments: KnownDeployments,
}

impl Mesh {
    /// A node's part of the mesh. The peers reach this node at `address`.
    pub fn new(address: String, trust: Trust, registry: Arc<Registry>) -> Arc<Mesh> {
        let transport = Box::new(Grpc(trust.tls.clone()));
        Mesh::over(transport, address, trust, registry)
    }

    /// A node's part of the mesh, which connects to other nodes over `transport`.
    pub(super) fn over(
        transport: Box<dyn Transport>,
        address: String,
        trust: Trust,
        registry: Arc<Registry>,
    ) -> Arc<Mesh> {
        Arc::new(Mesh {
            address,
            transport,
            trust,
            events: Queue::new(peer_event::WAITING),
            moves: Queue::new(move_request::WAITING),
            registry,
            interest: Interest::default(),
            peers: RwLock::default(),
            listed_here: Default::default(),
            wanted: Mutex::default(),
            publishing: Mutex::default(),
            routes: RwLock::default(),
            draining: CancellationToken::new(),
            leaving: CancellationToken::new(),
            registrations: TaskTracker::new(),
            refusals: Refusals::default(),
            left_out: LogThrottle::default(),
            snapshots: AtomicU32::new(0),
            settled: OnceLock::new(),
            serving_changed: watch::Sender::new(()),
            deployments: KnownDeployments::default(),
        })
    }

    /// The address that peers dial to reach this node.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The interest of all peers, for all plugins.
    pub fn interest(&self) -> &Interest {
        &self.interest
    }

    /// The peer with that incarnation, if it is known.
    pub fn peer(&self, node: Incarnation) -> Option<Arc<Peer>> {
        self.peers.read().get(&node).cloned()
    }

    /// All peers that are known.
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        self.peers.read().values().cloned().collect()
    }

    /// The peers that have not said yet, or not lately, what they hold, or that hold more than this
    /// node keeps. An answer from memory does not include them, or not all that they hold.
    pub fn unknown(&self) -> Vec<Incarnation> {
        let peers = self.peers.read();
        let missing = peers.values().filter(|peer| {
            let phase = peer.phase();
            !phase.is_known() || phase.is_silent() || peer.holdings.is_incomplete()
        });
        missing.map(|peer| peer.incarnation()).collect()
    }

    /// Takes the lock under which messages are sent, here and to other nodes. No client's new node
    /// changes meanwhile.
    pub fn routes(&self) -> RwLockReadGuard<'_, ()> {
        self.routes.read()
    }

    pub(super) fn own(&self) -> Incarnation {
        self.registry.incarnation()
    }

    pub(super) fn limits(&self) -> Guard<Arc<Limits>> {
        self.registry.limits()
    }

    /// Queues a frame for a peer; true if the link took it. A full link is logged, but not each
    /// time. Earlier changes on this node are sent first, so that a node that answers a message
    /// knows the groups that its sender had.
    pub(super) fn push(&self, peer: &Peer, frame: Bytes) -> bool {
        self.push_with(peer, || peer.outbound.push(frame))
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

    /// Queues a frame that the peer must not miss. If the link is full, the frames that wait are
    /// lost, and the peer is told everything again.
    pub(super) fn push_reliable(&self, peer: &Peer, frame: Bytes) {
        match peer.outbound.push_reliable(frame) {
            PushOutcome::Queued | PushOutcome::Closed => return,
            PushOutcome::FullNow | PushOutcome::StillFull => {}
        }
        let lost = peer.restart(draw_session());
        self.registry.counters().mesh_dropped.add(lost as u64);
        let (peer, address) = (peer.incarnation(), peer.address());
        tracing::warn!(%peer, address, lost, "the link was full: what waited is dropped, and it begins anew");
    }

    /// The peer with that incarnation. A peer that was not known is added.
    pub(super) fn meet(&self, node: Incarnation, address: &str) -> Arc<Peer> {
        let mut peers = self.peers.write();
        let new = || {
            let bound = LinkBound {
                bytes: self.limits().link_bytes,
                frames: self.limits().link_frames,
            };
            Arc::new(Peer::new(node, address, draw_session(), bound))
        };
        peers.entry(node).or_insert_with(new).clone()
    }

    /// Removes a peer, and everything that it holds.
    pub(super) fn lose(&self, peer: &Peer, why: &str) {
        let node = peer.incarnation();
        if self.peers.write().remove(&node).is_none() {
            return;
        }
        let Ended { phase, events } = peer.end();
        self.interest.forget(node);
        self.serving_changed.send_replace(());
        let lost = peer.outbound.lost();
        self.registry.counters().mesh_dropped.add(lost as u64);
        self.unwant(&Source::Itself(node));
        let address = peer.address();
        match phase.state() {
            _ if !phase.has_come() => {}
            Some(PeerState::Leaving) => {
                tracing::info!(peer = %node, address, "a node is gone: {why}")
            }
            _ => tracing::warn!(peer = %node, address, lost, events, "a node is gone: {why}"),
        }
    }

    /// Removes what a peer said while it was being removed. A peer that is gone says nothing after
    /// that.
    pub(super) fn forget_last_words(&self, peer: &Peer) {
        let node = peer.incarnation();
        // If it is back, its new snapshot replaces what is left of the old one.
        if peer.is_gone() && self.peer(node).is_none() {
            self.interest.forget(node);
        }
    }
}
