//! The mesh: the other nodes, what they hold, and what is said to them.
//!
//! Each node dials each other one and pushes on one long-lived stream, in order: deliveries,
//! what it holds (`interest`), questions and answers. A send goes to the nodes that hold its
//! target and is never forwarded by them. Nothing here makes a sender wait: what a link can't
//! take is dropped, counted and said once; only a question waits, for `ask_timeout` at most.
//!
//! A peer that says nothing for `suspect_after` is suspect; after `gone_after` its interest is
//! gone, and with it all that was waiting for it. If it comes back, it tells everything anew.

mod accept;
mod address;
mod answer;
pub mod ask;
mod dial;
mod discover;
mod etcd;
mod interest;
mod link;
mod own_address;
mod peer;
mod publish;
mod receive;
mod register;
mod seldom;
mod serving;
mod stay;
mod strangers;
mod timers;
mod tls;
mod trust;
mod wire;
pub mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::peer::{Asked, Told};
use self::trust::Refusals;
use self::wire::deliver::To;
use self::work::Failed;
use crate::delivery::{Delivery, Target};
use crate::id::{ClientId, Incarnation};
use crate::limits::Limits;
use crate::message::Frame;
use crate::registry::{Kind, Registry};

pub use self::address::{check_address, is_elsewhere, is_loopback};
pub use self::interest::{Holder, Interest, Sizes, Space};
pub use self::peer::{Peer, PeerState};
pub use self::register::Register;
pub use self::seldom::Seldom;
pub use self::serving::{Elsewhere, Worker};
pub use self::strangers::{Connection, Stranger, Strangers};
pub use self::tls::TlsFiles;
pub use self::trust::Trust;
pub use self::wire::answer::Answer;
pub use self::wire::ask::Ask;
pub use self::wire::refused::Reason;

/// How often the peers' silence is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// How long a node at whose address another one has come must have said nothing: it has been
/// restarted, and need not be waited for.
const REPLACED_AFTER: Duration = Duration::from_secs(1);

/// How long a node that drains waits for its peers and registers to have heard so.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Connections that the kernel holds for us. All nodes come back to a register at once; whom
/// it has no room for waits a second for the next attempt.
const BACKLOG: u32 = 1024;

/// This node's part of the mesh.
pub struct Mesh {
    address: String,
    trust: Trust,
    registry: Arc<Registry>,
    interest: Interest,
    peers: RwLock<BTreeMap<Incarnation, Arc<Peer>>>,
    listed_here: own_address::ListedHere,
    /// Who says which addresses are to be dialled.
    wanted: Mutex<BTreeMap<String, BTreeSet<Source>>>,
    /// Held while the registry is read and the peers are told: the last word is the truth.
    publishing: Mutex<()>,
    /// The node drains: registers are told.
    draining: CancellationToken,
    /// It ends: peers are told.
    leaving: CancellationToken,
    /// Stays at registers.
    stays: TaskTracker,
    /// Who is refused tries again, four times a second.
    refusals: Refusals,
    /// How many full pictures have been begun by all peers together.
    pictures: AtomicU32,
    /// It has run for long enough to know of all others.
    is_settled: AtomicBool,
    /// Another node takes events, or does not, that did otherwise before.
    serving_changed: watch::Sender<()>,
    work: work::Queue,
}

/// Who says that there is a node at an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The operator: `--peer`, or a name looked up in DNS, or etcd.
    Listed(String),
    /// This register.
    Register(String),
    /// The node itself: it has dialled us.
    Itself(Incarnation),
}

/// What became of a delivery's part for other nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// Clients there, as their nodes have told.
    pub clients: u64,
    /// Nodes whose link did not take it.
    pub missing: Vec<Incarnation>,
}

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// There is no such node, or none any more.
    #[error("no node {0} is known: it has ended, or it never was")]
    NoNode(Incarnation),
    /// Its link is full, or it went while it was asked.
    #[error("node {0} can't be reached")]
    Unreachable(Incarnation),
    /// It did not answer in time.
    #[error("node {0} did not answer within ask_timeout; the call may have had its effect")]
    TimedOut(Incarnation),
}

impl Mesh {
    /// A node's part of the mesh, which its peers reach at `address`.
    pub fn new(address: String, trust: Trust, registry: Arc<Registry>) -> Arc<Mesh> {
        Arc::new(Mesh {
            address,
            trust,
            work: work::Queue::new(),
            registry,
            interest: Interest::default(),
            peers: RwLock::default(),
            listed_here: Default::default(),
            wanted: Mutex::default(),
            publishing: Mutex::default(),
            draining: CancellationToken::new(),
            leaving: CancellationToken::new(),
            stays: TaskTracker::new(),
            refusals: Refusals::default(),
            pictures: AtomicU32::new(0),
            is_settled: AtomicBool::new(false),
            serving_changed: watch::Sender::new(()),
        })
    }

    /// Takes part: listens to the peers, tells them what is here, and looks after them. There are
    /// so many `files` for their connections.
    pub fn start(self: &Arc<Self>, listener: TcpListener, files: usize) {
        let mesh = self.clone();
        tokio::spawn(async move {
            let closed = mesh.leaving.clone();
            let served = accept::serve(mesh, listener, files, closed.cancelled_owned()).await;
            if let Err(error) = served {
                tracing::error!(%error, "the mesh's port is closed");
            }
        });
        tokio::spawn(self.clone().keep_publishing());
        tokio::spawn(self.clone().watch());
        tokio::spawn(self.clone().watch_own_address());
        tokio::spawn(self.clone().settle());
    }

    /// Stays at a register, and dials whom it lists.
    pub fn join(self: &Arc<Self>, register: &str) {
        self.stays.spawn(self.clone().stay_at(register.to_owned()));
    }

    /// Tells the registers that this node will not come back.
    pub async fn drain(&self) {
        self.draining.cancel();
        self.stays.close();
        let _ = tokio::time::timeout(LEAVE_TIMEOUT, self.stays.wait()).await;
    }

    /// Tells the peers so, and gives them time to have heard everything before.
    pub async fn leave(&self) {
        let peers = self.peers();
        for peer in &peers {
            let leaving = wire::frame::Frame::Leaving(wire::Leaving {});
            self.tell_surely(peer, wire::encode(leaving));
        }
        let heard = async {
            for peer in &peers {
                peer.is_empty().await;
            }
        };
        let _ = tokio::time::timeout(LEAVE_TIMEOUT, heard).await;
        self.leaving.cancel();
        // Connections end once they have seen that.
        let ended = async {
            while peers.iter().any(|peer| peer.is_dialled()) {
                tokio::time::sleep(LOOK / 20).await;
            }
        };
        let _ = tokio::time::timeout(LEAVE_TIMEOUT, ended).await;
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

    /// Sends a delivery to the peers that hold its target.
    pub fn forward(&self, plugin: &str, delivery: &Delivery<'_>) -> Forwarded {
        let mut forwarded = Forwarded::default();
        let Some(space) = self.interest.space(plugin) else {
            return forwarded;
        };
        let mut holders: BTreeMap<Incarnation, u64> = BTreeMap::new();
        let mut hold = |held: &[Holder]| {
            for holder in held {
                *holders.entry(holder.node).or_default() += u64::from(holder.clients);
            }
        };
        let mut hold_names = |kind: Kind, names: &[String]| {
            for name in names.iter().collect::<BTreeSet<_>>() {
                hold(&space.holders(kind, name));
            }
        };
        match delivery.to {
            Target::All => hold(&space.nodes()),
            Target::Uids(names) => hold_names(Kind::Uid, names),
            Target::Groups(names) => hold_names(Kind::Group, names),
        }
        if holders.is_empty() {
            return forwarded;
        }
        let frame = deliver_frame(
            plugin,
            delivery.to.into(),
            delivery.exclude,
            &delivery.frame,
        );
        for (node, clients) in holders {
            match self
                .peer(node)
                .map(|peer| self.tell_delivery(&peer, frame.clone()))
            {
                Some(true) => forwarded.clients += clients,
                Some(false) => forwarded.missing.push(node),
                // Gone between the look at its interest and now.
                None => {}
            }
        }
        forwarded
    }

    /// Sends a frame to one client of another node.
    pub fn forward_to_client(
        &self,
        plugin: &str,
        client: ClientId,
        frame: &Frame,
    ) -> Result<(), Unanswered> {
        let node = client.incarnation();
        let peer = self.peer(node).ok_or(Unanswered::NoNode(node))?;
        let to = To::Client(wire::client_bytes(client));
        let frame = deliver_frame(plugin, to, &[], frame);
        match self.tell_delivery(&peer, frame) {
            true => Ok(()),
            false => Err(Unanswered::Unreachable(node)),
        }
    }

    /// Asks a peer, and waits for its answer.
    pub async fn ask(
        &self,
        node: Incarnation,
        plugin: &str,
        ask: Ask,
    ) -> Result<Answer, Unanswered> {
        let peer = self.peer(node).ok_or(Unanswered::NoNode(node))?;
        if peer.is_suspect.load(Ordering::Relaxed) {
            // Nobody waits for a node that may be dead.
            return Err(Unanswered::Unreachable(node));
        }
        let mut asked = self
            .question(&peer, plugin, ask)
            .map_err(|_| Unanswered::Unreachable(node))?;
        match tokio::time::timeout(self.limits().ask_timeout, asked.answer()).await {
            Ok(answered) => answered.map_err(|_| Unanswered::Unreachable(node)),
            Err(_) => Err(Unanswered::TimedOut(node)),
        }
    }

    /// Puts a question to a peer.
    fn question<'a>(&self, peer: &'a Peer, plugin: &str, ask: Ask) -> Result<Asked<'a>, Failed> {
        let asked = peer.begin_ask(work::is_event(&ask));
        let question = wire::Ask {
            id: asked.id(),
            plugin: plugin.to_owned(),
            ask: Some(ask),
        };
        let frame = wire::encode(wire::frame::Frame::Ask(question));
        if frame.len() > peer.largest_frame() {
            return Err(Failed::TooLarge);
        }
        match self.tell_by(peer, || peer.put(&asked, frame)) {
            true => Ok(asked),
            false => Err(Failed::Untold),
        }
    }

    fn own(&self) -> Incarnation {
        self.registry.incarnation()
    }

    /// Whether another node listens where this peer did: it was restarted there.
    fn is_replaced(&self, peer: &Peer) -> bool {
        let address = peer.address();
        let peers = self.peers();
        peers.iter().any(|other| {
            other.incarnation() != peer.incarnation()
                && other.address() == address
                && other.silent_for() < REPLACED_AFTER
        })
    }

    fn limits(&self) -> &Limits {
        self.registry.limits()
    }

    fn tell_delivery(&self, peer: &Peer, frame: Bytes) -> bool {
        if frame.len() > peer.largest_frame() {
            self.registry.counters().mesh_dropped.add_one();
            if peer.too_large.happened().is_some() {
                let (bytes, address) = (frame.len(), peer.address());
                let peer = peer.incarnation();
                tracing::warn!(%peer, address, bytes, "a message is larger than this node takes from others, and is dropped: its outbox_bytes is less than ours");
            }
            return false;
        }
        let told = self.tell(peer, frame);
        if told {
            peer.deliveries.fetch_add(1, Ordering::Relaxed);
        }
        told
    }

    /// Queues a frame for a peer; a full link says so once. What changed here before is told
    /// before: who answers a message finds its sender's groups as they were.
    fn tell(&self, peer: &Peer, frame: Bytes) -> bool {
        self.tell_by(peer, || peer.tell(frame))
    }

    fn tell_by(&self, peer: &Peer, tell: impl FnOnce() -> Told) -> bool {
        self.publish();
        let told = tell();
        if told != Told::Queued {
            self.registry.counters().mesh_dropped.add_one();
        }
        if told == Told::FullNow {
            let (peer, address) = (peer.incarnation(), peer.address());
            tracing::warn!(%peer, address, "the link is full: messages to this node are dropped (link_bytes)");
        }
        told == Told::Queued
    }

    /// Queues a frame that the peer must not miss. Where the link is full, what waits is lost
    /// and the peer is told everything anew.
    fn tell_surely(&self, peer: &Peer, frame: Bytes) {
        if peer.tell_surely(frame) == Told::Queued || peer.is_gone() {
            return;
        }
        let lost = peer.restart(draw_session());
        self.registry.counters().mesh_dropped.add(lost as u64);
        let (peer, address) = (peer.incarnation(), peer.address());
        tracing::warn!(%peer, address, lost, "the link was full: what waited is dropped, and it begins anew");
    }

    /// The peer of that incarnation, which is new if it was not known.
    fn meet(&self, node: Incarnation, address: &str) -> Arc<Peer> {
        let mut peers = self.peers.write();
        let new = || {
            let bound = link::Bound {
                bytes: self.limits().link_bytes,
                frames: self.limits().link_frames,
            };
            Arc::new(Peer::new(node, address, draw_session(), bound))
        };
        peers.entry(node).or_insert_with(new).clone()
    }

    /// Forgets a peer, and everything it was said to hold.
    fn lose(&self, peer: &Peer, why: &str) {
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
    fn forget_last_words(&self, peer: &Peer) {
        let node = peer.incarnation();
        // If it is back, its new picture replaces what is left of the old one.
        if peer.is_gone() && self.peer(node).is_none() {
            self.interest.forget(node);
        }
    }

    /// Looks after the peers, for as long as the node runs.
    async fn watch(self: Arc<Self>) {
        let mut looked = Instant::now();
        loop {
            tokio::time::sleep(LOOK).await;
            let was_stopped = looked.elapsed() > self.limits().suspect_after / 2;
            looked = Instant::now();
            for peer in self.peers() {
                if was_stopped {
                    peer.excuse();
                }
                self.look_at(&peer);
            }
        }
    }

    fn look_at(&self, peer: &Peer) {
        let silent = peer.silent_for();
        if silent > self.limits().gone_after {
            let why = match peer.is_one_way() {
                true => "it hears us and does not reach us; is our address right (--advertise)?",
                false => "it has said nothing for gone_after",
            };
            return self.lose(peer, why);
        }
        if silent > REPLACED_AFTER && self.is_replaced(peer) {
            return self.lose(peer, "another node has its address");
        }
        let is_suspect = silent > self.limits().suspect_after;
        let was_suspect = peer.is_suspect.swap(is_suspect, Ordering::Relaxed);
        if is_suspect != was_suspect {
            self.serving_changed.send_replace(());
        }
        if is_suspect {
            // Each time: one may have been asked while this was found out.
            peer.take_back();
        }
        if is_suspect && !was_suspect && peer.has_come() {
            let (peer, address) = (peer.incarnation(), peer.address());
            tracing::warn!(%peer, address, ?silent, "a node is silent");
        }
    }
}

/// A transport's error, with what caused it: by itself it does not say.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

/// Says why the other side refuses, also where it gives no words for it.
fn refusal(status: &tonic::Status) -> &str {
    let is_another_service = status.code() == tonic::Code::Unimplemented;
    // So tonic says that the answer is none of gRPC.
    match is_another_service || status.message().starts_with("protocol error") {
        true => "what answers there is neither a node's mesh port nor a register",
        false => status.message(),
    }
}

/// Says why a register or an etcd cannot be dialled.
fn unreachable(error: tonic::transport::Error) -> tonic::Status {
    tonic::Status::unavailable(format!("it cannot be connected to: {}", causes(&error)))
}

/// Listens for nodes at `address`, `HOST:PORT`. Without a secret and certificates whoever
/// reaches it is trusted, so that must be nobody on another machine.
pub async fn bind(address: &str, trust: &Trust, flag: &str) -> anyhow::Result<TcpListener> {
    let listener = listen(address).await.with_context(|| {
        format!("cannot listen on {address}: name a free address with {flag} (port 0 takes one)")
    })?;
    anyhow::ensure!(
        trust.is_set() || listener.local_addr()?.ip().is_loopback(),
        "{flag} {address} can be reached from other machines, and anybody there would be trusted: \
         give all nodes and registers a secret with --secret-file, or certificates with \
         --tls-certificate, or listen on 127.0.0.1"
    );
    Ok(listener)
}

async fn listen(address: &str) -> io::Result<TcpListener> {
    let mut failed = io::ErrorKind::AddrNotAvailable.into();
    for address in tokio::net::lookup_host(address).await? {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // A restarted process must not wait for the last connections of the one before.
        socket.set_reuseaddr(true)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// A delivery, as peers get it.
fn deliver_frame(plugin: &str, to: To, exclude: &[ClientId], frame: &Frame) -> Bytes {
    let deliver = wire::Deliver {
        plugin: plugin.to_owned(),
        to: Some(to),
        exclude: exclude.iter().copied().map(wire::client_bytes).collect(),
        frame: frame.to_bytes(),
    };
    wire::encode(wire::frame::Frame::Deliver(deliver))
}

/// A name for a new sequence of frames: never 0, and never one that the other side remembers.
fn draw_session() -> u64 {
    // Without randomness the time will do: it must differ from the ones before, not be secret.
    let drawn = getrandom::u64().unwrap_or_else(|_| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        #[expect(clippy::cast_possible_truncation, reason = "its lower bits differ")]
        since.map_or(1, |since| since.as_nanos() as u64)
    });
    drawn.max(1)
}
