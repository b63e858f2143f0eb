//! A node of a scenario, with one plugin and as many clients as the scenario wants.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::eventually;
use super::network::{Network, WireState};
use crate::delivery::{Delivery, Target};
use crate::id::Incarnation;
use crate::limits::Limits;
use crate::mesh::forward::Forwarded;
use crate::mesh::listen;
use crate::mesh::phase::PeerState;
use crate::mesh::source::Source;
use crate::mesh::state::Mesh;
use crate::mesh::tls::Tls;
use crate::mesh::trust::{Secret, Trust};
use crate::message::{Frame, Message};
use crate::policy::{Policies, UidPolicy};
use crate::registry::{Arrival, Client, Kind, Namespace, Registry, ServingState};
use crate::tracer::Tracer;

/// The name of the one plugin.
pub(super) const CHAT: &str = "chat";

/// The open files that a node may use for its mesh port.
const FILES: usize = 1000;

/// A node of a scenario.
pub(super) struct TestNode {
    pub(super) mesh: Arc<Mesh>,
    pub(super) chat: Arc<Namespace>,
    pub(super) registry: Arc<Registry>,
    network: Arc<Network>,
}

/// What a scenario says about a node before the node starts.
#[derive(Clone, Default)]
pub(super) struct Setting {
    pub(super) limits: Limits,
    pub(super) secret: &'static str,
    /// The address of a node that was there before, or a new one.
    pub(super) address: Option<String>,
}

impl TestNode {
    /// Starts a node that knows of no other node.
    pub(super) async fn start(network: &Arc<Network>, setting: Setting) -> TestNode {
        static NODES: AtomicU32 = AtomicU32::new(1);
        let Setting {
            limits,
            secret,
            address,
        } = setting;
        let trust = Trust {
            secret: Secret::new(secret),
            tls: Tls::default(),
        };
        let incarnation = Incarnation::draw().expect("randomness");
        let registry = Registry::new(
            incarnation,
            limits,
            Arc::default(),
            Tracer::default(),
            1,
            true,
        );
        let chat = registry.open(CHAT);
        let mesh = if network.is_grpc {
            let address = address.unwrap_or_else(|| "127.0.0.1:0".to_owned());
            let listener = listen::bind(&address, &trust, "--mesh").await;
            let listener = listener.expect("a free port");
            let address = listener.local_addr().expect("an address").to_string();
            let transport = network.transport(&address);
            let mesh = Mesh::over(transport, address, trust, registry.clone());
            mesh.start(listener, FILES);
            mesh
        } else {
            let number = || NODES.fetch_add(1, Ordering::Relaxed);
            let address = address.unwrap_or_else(|| format!("node{}.test:7000", number()));
            let transport = network.transport(&address);
            let mesh = Mesh::over(transport, address, trust, registry.clone());
            network.listen(&mesh);
            mesh.run();
            mesh
        };
        TestNode {
            mesh,
            chat,
            registry,
            network: network.clone(),
        }
    }

    /// Starts `N` nodes that have met.
    pub(super) async fn group<const N: usize>(
        network: &Arc<Network>,
        limits: &Limits,
    ) -> [TestNode; N] {
        let mut nodes = Vec::new();
        for _ in 0..N {
            let limits = limits.clone();
            let setting = Setting {
                limits,
                ..Setting::default()
            };
            nodes.push(TestNode::start(network, setting).await);
        }
        TestNode::meet(&nodes).await;
        let Ok(nodes) = nodes.try_into() else {
            unreachable!("N nodes were started");
        };
        nodes
    }

    /// Lets all these nodes meet.
    pub(super) async fn meet(nodes: &[TestNode]) {
        for node in nodes {
            for other in nodes {
                node.dials(other);
            }
        }
        for node in nodes {
            let others = nodes.iter().filter(|other| other.own() != node.own());
            node.knows(others).await;
        }
    }

    pub(super) fn own(&self) -> Incarnation {
        self.registry.incarnation()
    }

    /// Whether this node knows that the other one runs a plugin.
    pub(super) fn knows_that_runs(&self, other: &TestNode) -> bool {
        let plugins = self.mesh.plugins_of(other.own());
        let mut states = plugins.iter().map(|(_, serving)| serving.state);
        states.any(|state| state == ServingState::Open)
    }

    /// Dials the other node from now on.
    pub(super) fn dials(&self, other: &TestNode) {
        let source = Source::Listed(other.own().to_string());
        let address = other.mesh.address().to_owned();
        self.mesh.want(&source, &[address].into());
    }

    /// Waits until exactly these nodes are known, alive and have told everything.
    pub(super) async fn knows<'a>(&self, others: impl IntoIterator<Item = &'a TestNode>) {
        let others: BTreeSet<Incarnation> = others.into_iter().map(TestNode::own).collect();
        let is_so = || {
            let peers = self.mesh.peers();
            let known = peers.iter().map(|peer| peer.incarnation());
            let mut states = peers.iter().map(|peer| peer.state());
            known.collect::<BTreeSet<_>>() == others
                && states.all(|state| state == Some(PeerState::Alive))
        };
        eventually(&format!("{} to know {others:?}", self.own()), is_so).await;
    }

    /// The state of another node, as this one sees it.
    pub(super) fn state_of(&self, other: &TestNode) -> Option<PeerState> {
        self.mesh.peer(other.own())?.state()
    }

    /// Sets the wires between two nodes, in both directions.
    pub(super) fn wires(&self, other: &TestNode, wire: WireState) {
        self.wire_to(other, wire);
        other.wire_to(self, wire);
    }

    /// Sets the wire from this node to another one.
    pub(super) fn wire_to(&self, other: &TestNode, wire: WireState) {
        let (from, to) = (self.mesh.address(), other.mesh.address());
        self.network.set(from, to, wire);
    }

    /// Ends this node without a word to the `others`, and frees its address.
    pub(super) async fn is_killed<'a>(&self, others: impl IntoIterator<Item = &'a TestNode>) {
        let others: Vec<&TestNode> = others.into_iter().collect();
        for other in &others {
            self.wires(other, WireState::Broken);
        }
        self.mesh.leaving.cancel();
        let is_dialled = |node: &TestNode| {
            let peer = node.mesh.peer(self.own());
            peer.is_some_and(|peer| peer.outbound.is_dialled())
        };
        let is_alone = || !others.iter().any(|other| is_dialled(other));
        eventually("the connections to end", is_alone).await;
        for other in &others {
            self.wires(other, WireState::Up);
        }
    }

    /// Lets one client have a uid, the newest one.
    pub(super) fn kicks_old(&self) {
        self.chat.set_policies(Policies {
            uid: UidPolicy::KickOld,
            ..self.chat.policies()
        });
    }

    /// Lets a client connect to this node.
    pub(super) fn client(&self) -> Arc<Client> {
        self.chat.arrive(Arrival::default())
    }

    /// Lets a client connect to this node and join the group.
    pub(super) fn member(&self, group: &str) -> Arc<Client> {
        let client = self.client();
        self.chat
            .join_group(client.id(), group)
            .expect("it is here");
        client
    }

    /// Sends a message to the members of the group that are on other nodes.
    pub(super) fn sends(&self, group: &str, text: &str) -> Forwarded {
        let groups = [group.to_owned()];
        let frame = Frame::message(Message::Text(text));
        let delivery = Delivery::new(Target::Groups(&groups), &[], frame);
        self.mesh.forward(CHAT, &delivery)
    }

    /// How many clients other nodes have of a name, as this node knows.
    pub(super) fn elsewhere(&self, kind: Kind, name: &str) -> u64 {
        let space = self.mesh.interest().space(CHAT);
        let holders = space.map(|space| space.holders(kind, name));
        holders.iter().flatten().map(|h| u64::from(h.clients)).sum()
    }

    /// Waits until other nodes have so many clients of a name, as this node knows.
    pub(super) async fn sees(&self, kind: Kind, name: &str, clients: u64) {
        let is_so = || self.elsewhere(kind, name) == clients;
        eventually(&format!("{clients} of {name}"), is_so).await;
    }

    /// How many frames the links of this node could not take, or have lost.
    pub(super) fn dropped(&self) -> u64 {
        self.registry.counters().mesh_dropped.get()
    }
}

/// Takes the text messages that wait for the client's socket.
pub(super) fn heard(client: &Client) -> Vec<String> {
    let frames = client.outbox().take_queued();
    frames.iter().filter_map(text).collect()
}

fn text(frame: &Frame) -> Option<String> {
    // RFC 6455, section 5.2: the length decides how long the head is.
    let bytes = frame.as_bytes();
    if bytes[0] != 0x81 {
        return None;
    }
    let head = match bytes[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    Some(String::from_utf8(bytes[head..].to_vec()).expect("a text"))
}
