//! Everything at random: clients, groups, uids, messages, cuts, stalls and kills. Whatever happens,
//! no message comes twice or out of order, and in the end all nodes agree.
//!
//! This runs over channels only, since it takes minutes of the scenario's clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::eventually;
use super::network::{Network, WireState};
use super::test_node::{Setting, TestNode, heard};
use crate::close_code::CloseCode;
use crate::limits::Limits;
use crate::registry::{Client, Close, Closer, Kind};

const SEEDS: u64 = 10;
const STEPS: usize = 600;
const NODES: usize = 4;
const NAMES: usize = 6;
/// The most clients of one node.
const CLIENTS: usize = 10;

#[tokio::test(start_paused = true)]
async fn whatever_happens_all_nodes_agree_in_the_end() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed).await;
        for _ in 0..STEPS {
            world.step().await;
        }
        world.heal().await;
        world.agrees().await;
    }
}

struct World {
    random: fastrand::Rng,
    network: Arc<Network>,
    nodes: Vec<TestNode>,
    clients: Vec<Vec<Member>>,
    /// The number of the last message that each place has sent. Whoever takes the place of a killed
    /// node goes on counting.
    sent: [u64; NODES],
}

/// A client, and the last number that it has heard from each place.
struct Member {
    client: Arc<Client>,
    heard: BTreeMap<usize, u64>,
}

/// The limits of the node at this place. Some nodes are more patient than others, so that one node
/// takes another for gone which does not notice.
fn limits(place: u64) -> Limits {
    Limits {
        suspect_after: Duration::from_millis(1500),
        gone_after: Duration::from_secs(2 + 3 * place),
        // Full now and then.
        link_bytes: 4 << 10,
        ..Limits::default()
    }
}

async fn start(network: &Arc<Network>, place: usize, address: Option<String>) -> TestNode {
    let setting = Setting {
        limits: limits(place as u64),
        address,
        ..Setting::default()
    };
    let node = TestNode::start(network, setting).await;
    node.kicks_old();
    node
}

impl World {
    async fn new(seed: u64) -> World {
        let network = Network::over_channels();
        let mut nodes = Vec::new();
        for place in 0..NODES {
            nodes.push(start(&network, place, None).await);
        }
        TestNode::meet(&nodes).await;
        World {
            random: fastrand::Rng::with_seed(seed),
            network,
            nodes,
            clients: (0..NODES).map(|_| Vec::new()).collect(),
            sent: [0; NODES],
        }
    }

    async fn step(&mut self) {
        let at = self.random.usize(..NODES);
        let name = self.random.usize(..NAMES);
        let (group, uid) = (format!("g{name}"), format!("u{name}"));
        match self.random.usize(..100) {
            0..20 => self.with_client(at, |node, client| {
                node.chat
                    .join_group(client.id(), &group)
                    .expect("it is here");
            }),
            20..30 => self.with_client(at, |node, client| {
                node.chat
                    .leave_group(client.id(), &group)
                    .expect("it is here");
            }),
            30..40 => self.with_client(at, |node, client| {
                let bound = node.mesh.bind_uid(&node.chat, client.id(), &uid);
                bound.expect("the former client is closed");
            }),
            40..45 => self.with_client(at, |node, client| {
                node.chat.unbind_uid(client.id(), None).expect("it is here");
            }),
            45..50 => self.with_client(at, |node, client| {
                let by = Closer::Client;
                let (code, reason) = (CloseCode::Normal, String::new());
                node.chat.leave(client, &Close { code, reason, by });
            }),
            50..80 => {
                self.sent[at] += 1;
                let text = format!("{at} {} {}", self.sent[at], "m".repeat(name * 100));
                self.nodes[at].sends(&group, &text);
            }
            80..98 => {
                let wire = [
                    WireState::Up,
                    WireState::Up,
                    WireState::Stalled,
                    WireState::Broken,
                ][self.random.usize(..4)];
                let other = &self.nodes[self.random.usize(..NODES)];
                self.nodes[at].wire_to(other, wire);
            }
            _ if self.random.u8(..4) == 0 => self.replace(at).await,
            _ => {}
        }
        self.hear();
        let pause = self.random.u64(..100);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    /// Does something with a client of the node that is still there.
    fn with_client(&mut self, at: usize, act: impl FnOnce(&TestNode, &Client)) {
        let (node, clients) = (&self.nodes[at], &mut self.clients[at]);
        clients.retain(|member| !member.client.has_left());
        if clients.len() < CLIENTS {
            clients.push(Member {
                client: node.client(),
                heard: BTreeMap::new(),
            });
        }
        let chosen = self.random.usize(..clients.len());
        act(node, &clients[chosen].client);
    }

    /// Kills a node, and starts another one at its address.
    async fn replace(&mut self, at: usize) {
        let others = self.nodes.iter().enumerate();
        let others = others
            .filter(|(other, _)| *other != at)
            .map(|(_, node)| node);
        self.nodes[at].is_killed(others).await;
        self.clients[at].clear();
        let address = self.nodes[at].mesh.address().to_owned();
        let node = start(&self.network, at, Some(address)).await;
        for other in &self.nodes {
            node.dials(other);
        }
        self.nodes[at] = node;
    }

    /// Takes what the clients have heard. Nothing may come twice or out of order.
    fn hear(&mut self) {
        for member in self.clients.iter_mut().flatten() {
            for text in heard(&member.client) {
                let mut words = text.split(' ').map(|word| word.parse::<u64>());
                let (Some(Ok(from)), Some(Ok(number))) = (words.next(), words.next()) else {
                    continue;
                };
                let from = usize::try_from(from).expect("a place");
                let last = member.heard.insert(from, number).unwrap_or(0);
                assert!(last < number, "{number} of {from} came after {last}");
            }
        }
    }

    async fn heal(&mut self) {
        for node in &self.nodes {
            for other in &self.nodes {
                node.wire_to(other, WireState::Up);
            }
        }
        for node in &self.nodes {
            node.knows(self.nodes.iter().filter(|other| other.own() != node.own()))
                .await;
        }
    }

    /// Waits until all nodes know what the others hold, and each uid has one client at most.
    async fn agrees(&mut self) {
        for kind in [Kind::Uid, Kind::Group] {
            for name in 0..NAMES {
                let name = match kind {
                    Kind::Uid => format!("u{name}"),
                    Kind::Group => format!("g{name}"),
                };
                let held = |node: &TestNode| node.chat.count(kind, &name);
                let all = || self.nodes.iter().map(held).sum::<u64>();
                for node in &self.nodes {
                    let is_so = || node.elsewhere(kind, &name) + held(node) == all();
                    eventually(&format!("{name} to be agreed on"), is_so).await;
                }
                if matches!(kind, Kind::Uid) {
                    eventually("one client for each uid", || all() <= 1).await;
                }
            }
        }
        for node in &self.nodes {
            let peers = node.mesh.peers();
            let is_empty = || peers.iter().all(|peer| peer.waiting() == (0, 0));
            eventually("the links to be empty", is_empty).await;
            let is_linked = || node.mesh.dialled().is_empty();
            eventually("no address without a node", is_linked).await;
            let clients = || {
                peers
                    .iter()
                    .map(|p| node.mesh.interest().sizes(p.incarnation()).clients)
            };
            let others = self.nodes.iter().filter(|other| other.own() != node.own());
            let there: u64 = others.map(|other| other.chat.client_count()).sum();
            eventually("the number of clients", || clients().sum::<u64>() == there).await;
        }
        self.hear();
    }
}
