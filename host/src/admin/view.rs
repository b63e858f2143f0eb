//! The status of the node for operators: whether it is alive, whether it is ready, and what it
//! knows about other nodes.
//!
//! The status is read-only JSON over HTTP. The node answers from its start to its end, whatever its
//! clients and plugins do.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use data_encoding::HEXLOWER;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::tokens::{ApiCaller, TokenScope};
use crate::config::Role;
use crate::guest::Services;
use crate::mesh::Mesh;
use crate::plugin::Plugins;
use crate::registry::{Kind, Registry, ServingBuild, ServingCanary, ServingSource, ServingState};

/// The state of the node that the API shows.
pub struct View {
    role: Role,
    registry: Arc<Registry>,
    mesh: Option<Arc<Mesh>>,
    /// The plugins of the node, once they are loaded.
    plugins: ArcSwapOption<Plugins>,
    /// The services that plugins use, once they are open. A gateway has no such services.
    services: ArcSwapOption<Services>,
    stage: watch::Sender<Stage>,
    /// The token that is cancelled once the node has ended. All event streams end with it.
    ended: CancellationToken,
    /// The token that is cancelled once another process has the port of the API.
    replaced: CancellationToken,
    /// The token that is cancelled once somebody has asked for the node's end.
    drain_asked: CancellationToken,
}

/// The stage of a node between its start and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The node loads its plugins, or waits until it knows the plugins of other nodes.
    Starting,
    /// The node accepts clients now.
    Ready,
    /// The node accepts no more clients and closes the existing ones.
    Draining,
}

impl View {
    /// Creates the state of a node that is starting.
    pub fn new(role: Role, registry: Arc<Registry>, mesh: Option<Arc<Mesh>>) -> Arc<View> {
        Arc::new(View {
            role,
            registry,
            mesh,
            plugins: ArcSwapOption::empty(),
            services: ArcSwapOption::empty(),
            stage: watch::Sender::new(Stage::Starting),
            ended: CancellationToken::new(),
            replaced: CancellationToken::new(),
            drain_asked: CancellationToken::new(),
        })
    }

    /// Stores the services that the node's plugins use, once they are open.
    pub fn opened(&self, services: Services) {
        self.services.store(Some(Arc::new(services)));
    }

    /// Stores the node's plugins, once they are loaded.
    pub fn loaded(&self, plugins: Arc<Plugins>) {
        self.plugins.store(Some(plugins));
    }

    /// Sets the stage to `Ready`: the node accepts clients.
    pub fn ready(&self) {
        self.stage.send_replace(Stage::Ready);
    }

    /// Sets the stage to `Draining`: the node accepts no more clients.
    pub fn draining(&self) {
        self.stage.send_replace(Stage::Draining);
    }

    /// Marks the node as ended, which ends all event streams.
    pub fn end(&self) {
        self.ended.cancel();
    }

    /// Asks for the end of the node.
    pub(super) fn ask_for_drain(&self) {
        self.drain_asked.cancel();
    }

    /// The token that is cancelled once somebody has asked for the node's end.
    pub fn drain_asked(&self) -> CancellationToken {
        self.drain_asked.clone()
    }

    /// Leaves the port of the API to another process.
    pub fn leave_port(&self) {
        self.replaced.cancel();
    }

    /// Whether another process has the port of the API.
    pub fn is_replaced(&self) -> bool {
        self.replaced.is_cancelled()
    }

    /// The token that is cancelled once another process has the port of the API.
    pub(super) fn replaced(&self) -> CancellationToken {
        self.replaced.clone()
    }

    /// The token that is cancelled once the node has ended.
    pub(super) fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// The status of this node and of its peers, as far as the caller may see it.
    pub(super) fn nodes(&self, caller: &ApiCaller) -> Json<impl Serialize> {
        let mesh = self.mesh.as_ref();
        Json(NodesStatus {
            node: NodeStatus {
                incarnation: self.registry.incarnation().to_string(),
                mesh: mesh.map(|mesh| mesh.address().to_owned()),
                role: self.role,
                stage: self.stage().as_str(),
                keyvalue: self
                    .services
                    .load()
                    .as_ref()
                    .map(|services| KeyvalueStatus {
                        store: services.keyvalue_store(),
                        failure: services.keyvalue_failure(),
                    }),
                plugins: plugins(self, caller),
            },
            peers: mesh
                .map(|mesh| {
                    let peers = mesh.peers();
                    peers
                        .iter()
                        .filter_map(|peer| of(mesh, peer, caller))
                        .collect()
                })
                .unwrap_or_default(),
            dialled: mesh.map(|mesh| mesh.dialled()).unwrap_or_default(),
            caller: CallerStatus {
                name: caller.name.clone(),
                scopes: caller.scopes().map(TokenScope::as_str).collect(),
            },
        })
    }

    /// The services of the node for its plugins, once they are open. A gateway has none.
    pub(super) fn services(&self) -> Option<Arc<Services>> {
        self.services.load_full()
    }

    /// The plugins of the node, once they are loaded.
    pub(super) fn plugins(&self) -> Option<Arc<Plugins>> {
        self.plugins.load_full()
    }

    /// The registry of the node.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    pub(super) fn mesh(&self) -> Option<&Arc<Mesh>> {
        self.mesh.as_ref()
    }

    /// A receiver for the stage of the node and its changes.
    pub(super) fn stages(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// The stage of the node now.
    pub(super) fn stage(&self) -> Stage {
        *self.stage.borrow()
    }
}

/// The routes for probes, which need no token.
pub(super) fn routes(view: Arc<View>) -> axum::Router {
    axum::Router::new()
        .route("/live", get(|| async { Json(Live { live: true }) }))
        .route("/ready", get(ready))
        .with_state(view)
}

async fn ready(State(view): State<Arc<View>>) -> (StatusCode, Json<Ready>) {
    let stage = view.stage();
    let status = match stage {
        Stage::Ready => StatusCode::OK,
        Stage::Starting | Stage::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    let ready = Ready {
        ready: stage == Stage::Ready,
        stage: stage.as_str(),
    };
    (status, Json(ready))
}

fn plugins(view: &View, caller: &ApiCaller) -> Vec<PluginStatus> {
    let plugins = view.plugins();
    let plugins = plugins.iter().flat_map(|plugins| plugins.all());
    plugins
        .filter(|plugin| caller.may_see(plugin.name()))
        .map(|plugin| {
            let namespace = plugin.namespace();
            PluginStatus {
                name: plugin.name().to_owned(),
                state: plugin.state().as_str(),
                build: plugin.build().map(Into::into),
                canary: namespace.serving().canary.as_ref().map(Into::into),
                failure: plugin.failure(),
                generation: plugin.generation(),
                runs: match plugin.generation() {
                    Some(_) => Some("here"),
                    None => plugin.is_open().then_some("elsewhere"),
                },
                clients: namespace.client_count(),
                uids: namespace.name_count(Kind::Uid),
                groups: namespace.name_count(Kind::Group),
            }
        })
        .collect()
}

/// Returns the status of a peer, or nothing if the peer has just been removed.
fn of(mesh: &Mesh, peer: &crate::mesh::Peer, caller: &ApiCaller) -> Option<PeerStatus> {
    let state = peer.state()?.as_str();
    let plugins = mesh.plugins_of(peer.incarnation()).into_iter();
    let held = mesh.interest().sizes(peer.incarnation());
    let (waiting_frames, waiting_bytes) = peer.waiting();
    Some(PeerStatus {
        incarnation: peer.incarnation().to_string(),
        mesh: peer.address(),
        state,
        plugins: plugins
            .filter(|(plugin, _)| caller.may_see(plugin))
            .map(|(plugin, serving)| PeerPluginStatus {
                name: plugin.to_string(),
                state: match serving.state {
                    ServingState::Open => "running",
                    ServingState::Closing => "draining",
                    ServingState::Away | ServingState::None => "stopped",
                },
                build: serving.build.map(Into::into),
                canary: serving.canary.as_ref().map(Into::into),
                failure: serving.failure.clone(),
            })
            .collect(),
        clients: held.clients,
        uids: held.uids,
        groups: held.groups,
        deliveries: peer.delivered(),
        dropped: peer.dropped(),
        waiting_frames,
        waiting_bytes,
    })
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Stage::Starting => "starting",
            Stage::Ready => "ready",
            Stage::Draining => "draining",
        }
    }
}

/// The answer to `GET /live`.
#[derive(Serialize)]
struct Live {
    live: bool,
}

/// The answer to `GET /ready`, with the status 200 or 503.
#[derive(Serialize)]
struct Ready {
    ready: bool,
    stage: &'static str,
}

/// The answer to `GET /v1/nodes`.
#[derive(Serialize)]
struct NodesStatus {
    node: NodeStatus,
    peers: Vec<PeerStatus>,
    /// The addresses that this node dials and where no linked node is.
    dialled: Vec<String>,
    caller: CallerStatus,
}

/// Who asks, and what the caller may do.
#[derive(Serialize)]
struct CallerStatus {
    /// The name of the token, or an empty text if there are no tokens.
    name: String,
    scopes: Vec<&'static str>,
}

/// This node in the answer to `GET /v1/nodes`.
#[derive(Serialize)]
struct NodeStatus {
    incarnation: String,
    /// The address that peers dial, or null if the node is alone.
    mesh: Option<String>,
    role: Role,
    stage: &'static str,
    /// The key-value store, or null if the node is a gateway or has not opened the store yet.
    keyvalue: Option<KeyvalueStatus>,
    plugins: Vec<PluginStatus>,
}

/// The key-value store of the plugins, and its health.
#[derive(Serialize)]
struct KeyvalueStatus {
    store: &'static str,
    /// The reason why the store cannot be used or changed, or null if it works.
    failure: Option<String>,
}

/// A plugin of this node, with the numbers of its clients, uids and groups here.
#[derive(Serialize)]
struct PluginStatus {
    name: String,
    /// Where the plugin stands: a word of `PluginState`.
    state: &'static str,
    /// The build that runs here, or null.
    build: Option<BuildStatus>,
    /// The build that runs beside that one, or null.
    canary: Option<CanaryStatus>,
    /// The reason why the last load failed, or null if it did not.
    failure: Option<String>,
    generation: Option<u64>,
    /// Where the plugin runs: `here`, `elsewhere`, or null if it runs nowhere.
    runs: Option<&'static str>,
    clients: u64,
    uids: u64,
    groups: u64,
}

/// A plugin of another node, as that node has told.
#[derive(Serialize)]
struct PeerPluginStatus {
    name: String,
    /// `running`, `draining` or `stopped`.
    state: &'static str,
    /// The build that runs there, or null.
    build: Option<BuildStatus>,
    /// The build that runs there beside that one, or null.
    canary: Option<CanaryStatus>,
    /// The reason why the last load failed there, or null if it did not.
    failure: Option<String>,
}

/// A build that runs.
#[derive(Serialize)]
struct BuildStatus {
    /// The number of the load that made the generation.
    generation: u64,
    /// The digest of the component, the manifest, its keys and its settings, in hexadecimal.
    digest: String,
    /// The time when the generation took over, in milliseconds since 1970.
    loaded_at_ms: u64,
    /// Where the build comes from: `folder`, `deployment`, `kept`, or null if a peer has not said it.
    source: Option<&'static str>,
}

/// A build that runs beside another one, for a part of the clients.
#[derive(Serialize)]
struct CanaryStatus {
    build: BuildStatus,
    /// The share of the clients that it is for.
    percent: f64,
}

impl From<&ServingCanary> for CanaryStatus {
    fn from(canary: &ServingCanary) -> CanaryStatus {
        CanaryStatus {
            build: canary.build.into(),
            percent: canary.rollout.percent(),
        }
    }
}

impl From<ServingBuild> for BuildStatus {
    fn from(build: ServingBuild) -> BuildStatus {
        BuildStatus {
            generation: build.generation,
            digest: HEXLOWER.encode(&build.digest),
            loaded_at_ms: build.loaded_at_ms,
            source: match build.source {
                ServingSource::Unknown => None,
                ServingSource::Folder => Some("folder"),
                ServingSource::Deployment => Some("deployment"),
                ServingSource::KeptBuild => Some("kept"),
            },
        }
    }
}

/// Another node, as this node knows it.
#[derive(Serialize)]
struct PeerStatus {
    incarnation: String,
    mesh: String,
    state: &'static str,
    /// The plugins that the peer has.
    plugins: Vec<PeerPluginStatus>,
    /// The number of clients that the peer reports.
    clients: u64,
    uids: u64,
    groups: u64,
    /// The number of messages that were queued for the peer.
    deliveries: u64,
    /// The number of messages that the link to the peer could not take.
    dropped: u64,
    /// The number of frames that the peer has not acknowledged yet.
    waiting_frames: usize,
    waiting_bytes: usize,
}
