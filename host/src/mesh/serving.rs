//! The nodes that run each plugin, and the choice of a node for the events of a client whose own
//! node does not run it.
//!
//! The nodes tell this themselves, together with their interest. A client's events go to one node
//! for as long as that node takes them. The first choice follows from rendezvous hashing: clients
//! are spread evenly, and a node that comes later takes no client from the others.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::peer::Peer;
use super::rendezvous::weight;
use super::servers::Server;
use super::state::Mesh;
use super::wire::{self, build, rollout, told_build, told_rollout};
use crate::id::Incarnation;
use crate::policy::{CompressionPolicy, OverflowPolicy, RefusePolicy, ResumePolicy, UidPolicy};
use crate::registry::{Namespace, Serving, ServingCanary, ServingState, in_ms};

/// How the other nodes serve a plugin, taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// A node runs the plugin.
    Open,
    /// The nodes that had the plugin take only the ends of clients.
    Closing,
    /// A node has the plugin, or had it when it was last heard, but cannot run it now.
    Away,
    /// No other node has the plugin.
    Nobody,
}

/// The node that gets a client's events.
#[derive(Clone, Debug, PartialEq)]
pub struct Worker {
    /// The incarnation of that node.
    pub node: Incarnation,
    /// How long the node takes for one event at most.
    pub patience: Duration,
    /// The build that it runs for a part of the clients, if it does.
    pub canary: Option<ServingCanary>,
}

impl Mesh {
    /// The plugins that other nodes have.
    pub fn plugins_elsewhere(&self) -> Vec<Arc<str>> {
        let spaces = self.interest.spaces();
        let known = spaces.into_iter().filter(|(_, space)| {
            let servers = space.servers.read();
            servers.is_orphaned() || !servers.nodes.is_empty()
        });
        known.map(|(plugin, _)| plugin).collect()
    }

    /// The plugins that the node `node` has, and how it serves them.
    pub fn plugins_of(&self, node: Incarnation) -> Vec<(Arc<str>, Arc<Serving>)> {
        let spaces = self.interest.spaces();
        let had = spaces.into_iter().filter_map(|(plugin, space)| {
            let servers = space.servers.read();
            let server = servers.nodes.iter().find(|server| server.node == node)?;
            Some((plugin, server.serving.clone()))
        });
        had.collect()
    }

    /// The other nodes that have this plugin, also if they can't run it now.
    pub fn nodes_with(&self, plugin: &str) -> Vec<Incarnation> {
        let space = self.interest.space(plugin);
        let nodes = space.map(|space| {
            let servers = space.servers.read();
            servers.nodes.iter().map(|server| server.node).collect()
        });
        nodes.unwrap_or_default()
    }

    /// How the other nodes serve this plugin.
    pub fn elsewhere(&self, plugin: &str) -> Elsewhere {
        let Some(space) = self.interest.space(plugin) else {
            return Elsewhere::Nobody;
        };
        let servers = space.servers.read();
        let is = |state| {
            let mut nodes = servers.nodes.iter();
            nodes.any(|server| server.serving.state == state && self.takes_events(server.node))
        };
        if is(ServingState::Open) {
            Elsewhere::Open
        } else if servers.is_orphaned() || !servers.nodes.iter().all(Server::is_closing) {
            Elsewhere::Away
        } else if is(ServingState::Closing) {
            Elsewhere::Closing
        } else {
            Elsewhere::Nobody
        }
    }

    /// The canary of this plugin that a node of those that run it has.
    pub fn canary_elsewhere(&self, plugin: &str) -> Option<ServingCanary> {
        let space = self.interest.space(plugin)?;
        let servers = space.servers.read();
        let mut open = servers.nodes.iter().filter(|server| server.is_open());
        open.find_map(|server| server.serving.canary.clone())
    }

    /// The other nodes that take events and may promote this canary of the plugin.
    pub fn nodes_that_promote(&self, plugin: &str, canary: u64) -> Vec<Incarnation> {
        let space = self.interest.space(plugin);
        let nodes = space.map(|space| {
            let servers = space.servers.read();
            let has_it = |server: &&Server| {
                let its = server.serving.canary.as_ref();
                let is_it = its.is_some_and(|its| its.id() == canary && its.promotes_itself());
                is_it && self.takes_events(server.node)
            };
            let nodes = servers.nodes.iter().filter(has_it);
            nodes.map(|server| server.node).collect()
        });
        nodes.unwrap_or_default()
    }

    /// The plugin's routes, as the nodes that run it have said.
    pub fn routes_elsewhere(&self, plugin: &str) -> Vec<String> {
        let space = self.interest.space(plugin);
        let routes = space.map(|space| {
            let servers = space.servers.read();
            let nodes = servers.nodes.iter().filter(|server| server.is_open());
            let routes = nodes.flat_map(|server| server.serving.routes.iter().cloned());
            routes.collect()
        });
        routes.unwrap_or_default()
    }

    /// The node that gets the events of a client, or of anything else with this number. The node
    /// `current` is chosen for as long as it takes events. `ends` means that the event is the end
    /// of the client, which closing nodes take, too.
    pub fn worker(
        &self,
        plugin: &str,
        number: u64,
        current: Option<Incarnation>,
        ends: bool,
    ) -> Option<Worker> {
        let space = self.interest.space(plugin)?;
        let servers = space.servers.read();
        let taking = |is_so: fn(&Server) -> bool| {
            let nodes = servers.nodes.iter().filter(move |server| is_so(server));
            let nodes = nodes.filter(|server| self.takes_events(server.node));
            nodes.max_by_key(|server| {
                let is_current = current == Some(server.node);
                (is_current, weight(number, server.node), server.node)
            })
        };
        let closing = || taking(Server::is_closing).filter(|_| ends);
        let server = taking(Server::is_open).or_else(closing)?;
        Some(Worker {
            node: server.node,
            patience: server.serving.patience,
            canary: server.serving.canary.clone(),
        })
    }

    /// Whether any node that does not have the plugin has clients of it.
    pub fn has_clients_without_plugin(&self, plugin: &str) -> bool {
        let Some(space) = self.interest.space(plugin) else {
            return false;
        };
        let servers = space.servers.read();
        let has = |node| servers.nodes.iter().any(|server| server.node == node);
        space.nodes().iter().any(|holder| !has(holder.node))
    }

    /// A receiver that is notified when another node begins or stops to take events, and when this
    /// node has settled.
    pub fn serving_changes(&self) -> watch::Receiver<()> {
        self.serving_changed.subscribe()
    }

    /// Whether this node has run for long enough to know of all other nodes.
    pub fn is_settled(&self) -> bool {
        self.settled.get().is_some()
    }

    /// Waits until this node has run for long enough to know of all other nodes.
    pub async fn settled(&self) {
        let mut changes = self.serving_changes();
        while !self.is_settled() {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn takes_events(&self, node: Incarnation) -> bool {
        let peer = self.peer(node);
        peer.is_some_and(|peer| peer.phase().takes_events())
    }

    /// Notes how a peer serves a plugin.
    pub(super) fn note_serving(&self, peer: &Peer, plugin: &str, told: &wire::Serving) {
        let serving = serving(told);
        let space = self.interest.space_of(plugin);
        // Whoever runs the plugin itself goes by its own manifest.
        if let Some(namespace) = self.registry.namespace(plugin)
            && namespace.serving().state != ServingState::Open
        {
            follow(&namespace, &serving);
        }
        space.servers.write().note(peer.snapshot(), serving);
        self.serving_changed.send_replace(());
    }

    /// Gives a namespace the policies of a node that runs its plugin.
    pub fn follow_policies(&self, namespace: &Namespace) {
        let Some(space) = self.interest.space(namespace.name()) else {
            return;
        };
        let servers = space.servers.read();
        if let Some(server) = servers.nodes.iter().find(|server| server.is_open()) {
            follow(namespace, &server.serving);
        }
    }

    /// How this node serves a plugin, in the form that its peers get.
    pub(super) fn told_serving(namespace: &Namespace) -> wire::Serving {
        let serving = namespace.serving();
        let state = match serving.state {
            ServingState::None => wire::serving::State::None,
            ServingState::Open => wire::serving::State::Open,
            ServingState::Closing => wire::serving::State::Closing,
            ServingState::Away => wire::serving::State::Away,
        };
        let uid = match serving.uid {
            UidPolicy::Many => wire::UidPolicy::Many,
            UidPolicy::KickOld => wire::UidPolicy::KickOld,
            UidPolicy::RejectNew => wire::UidPolicy::RejectNew,
        };
        let overflow = match serving.overflow {
            OverflowPolicy::Close => wire::OverflowPolicy::Close,
            OverflowPolicy::DropOldest => wire::OverflowPolicy::DropOldest,
            OverflowPolicy::DropNewest => wire::OverflowPolicy::DropNewest,
            OverflowPolicy::Conflate => wire::OverflowPolicy::Conflate,
        };
        wire::Serving {
            state: state.into(),
            routes: serving.routes.clone(),
            uid: uid.into(),
            overflow: overflow.into(),
            patience_ms: in_ms(serving.patience),
            refuses_by_close: serving.refuse == RefusePolicy::Close,
            compression: serving.compression.map(|policy| wire::Compression {
                min_bytes: policy.min_bytes as u64,
                level: policy.level,
            }),
            resume: serving.resume.map(|policy| wire::Resume {
                window_ms: in_ms(policy.window),
                messages: policy.messages as u64,
                bytes: policy.bytes as u64,
            }),
            build: serving.build.map(told_build),
            canary: serving.canary.as_ref().map(|canary| wire::CanaryBuild {
                build: Some(told_build(canary.build)),
                rollout: Some(told_rollout(&canary.rollout)),
            }),
            failure: serving.failure.clone(),
        }
    }
}

fn follow(namespace: &Namespace, serving: &Serving) {
    if serving.state == ServingState::Open {
        let mut policies = namespace.policies();
        policies.uid = serving.uid;
        policies.overflow = serving.overflow;
        policies.refuse = serving.refuse;
        policies.compression = serving.compression;
        policies.resume = serving.resume;
        namespace.set_policies(policies);
    }
}

fn serving(told: &wire::Serving) -> Serving {
    Serving {
        state: match told.state() {
            wire::serving::State::None => ServingState::None,
            wire::serving::State::Open => ServingState::Open,
            wire::serving::State::Closing => ServingState::Closing,
            wire::serving::State::Away => ServingState::Away,
        },
        routes: told.routes.clone(),
        uid: match told.uid() {
            wire::UidPolicy::Many => UidPolicy::Many,
            wire::UidPolicy::KickOld => UidPolicy::KickOld,
            wire::UidPolicy::RejectNew => UidPolicy::RejectNew,
        },
        overflow: match told.overflow() {
            wire::OverflowPolicy::Close => OverflowPolicy::Close,
            wire::OverflowPolicy::DropOldest => OverflowPolicy::DropOldest,
            wire::OverflowPolicy::DropNewest => OverflowPolicy::DropNewest,
            wire::OverflowPolicy::Conflate => OverflowPolicy::Conflate,
        },
        refuse: match told.refuses_by_close {
            true => RefusePolicy::Close,
            false => RefusePolicy::Http,
        },
        // A peer of another version may have other levels.
        compression: told.compression.as_ref().and_then(|told| {
            let policy = CompressionPolicy {
                min_bytes: usize::try_from(told.min_bytes).unwrap_or(usize::MAX),
                level: told.level,
            };
            policy.check().ok()
        }),
        resume: told.resume.as_ref().and_then(|told| {
            let policy = ResumePolicy {
                window: Duration::from_millis(told.window_ms),
                messages: usize::try_from(told.messages).unwrap_or(usize::MAX),
                bytes: usize::try_from(told.bytes).unwrap_or(usize::MAX),
            };
            policy.check().ok()
        }),
        patience: Duration::from_millis(told.patience_ms),
        build: told.build.as_ref().and_then(build),
        canary: told.canary.as_ref().and_then(|told| {
            Some(ServingCanary {
                build: build(told.build.as_ref()?)?,
                rollout: Arc::new(rollout(told.rollout.as_ref()?).ok()?),
            })
        }),
        failure: told.failure.clone(),
    }
}
