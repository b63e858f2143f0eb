//! The view for operators: is the node alive, is it ready, and what does it know of the others.
//!
//! Read only, JSON over HTTP. It answers from the node's start to its end, whatever clients
//! and plugins do.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::tokens::Caller;
use crate::config::Role;
use crate::guest::Services;
use crate::mesh::{Mesh, PeerState};
use crate::plugin::Plugins;
use crate::registry::{Kind, Registry};

/// What the door shows.
pub struct View {
    role: Role,
    registry: Arc<Registry>,
    mesh: Option<Arc<Mesh>>,
    /// Once they have been loaded.
    plugins: ArcSwapOption<Plugins>,
    /// Once they have been opened; a gateway has none.
    services: ArcSwapOption<Services>,
    stage: watch::Sender<Stage>,
    /// The node has ended, and with it all streams.
    ended: CancellationToken,
}

/// Where in its life a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It loads its plugins, or hears what others have.
    Starting,
    /// It takes clients.
    Ready,
    /// It takes no more, and closes those it has.
    Draining,
}

impl View {
    /// Of a node that starts.
    pub fn new(role: Role, registry: Arc<Registry>, mesh: Option<Arc<Mesh>>) -> Arc<View> {
        Arc::new(View {
            role,
            registry,
            mesh,
            plugins: ArcSwapOption::empty(),
            services: ArcSwapOption::empty(),
            stage: watch::Sender::new(Stage::Starting),
            ended: CancellationToken::new(),
        })
    }

    /// What its plugins use is opened.
    pub fn opened(&self, services: Services) {
        self.services.store(Some(Arc::new(services)));
    }

    /// Its plugins are loaded.
    pub fn loaded(&self, plugins: Arc<Plugins>) {
        self.plugins.store(Some(plugins));
    }

    /// The node takes clients.
    pub fn ready(&self) {
        self.stage.send_replace(Stage::Ready);
    }

    /// The node takes none any more.
    pub fn draining(&self) {
        self.stage.send_replace(Stage::Draining);
    }

    /// Nothing happens any more.
    pub fn end(&self) {
        self.ended.cancel();
    }

    /// Tells when nothing does.
    pub(super) fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// What this node knows of itself and the others, for a caller.
    pub(super) fn nodes(&self, caller: &Caller) -> Json<impl Serialize> {
        let mesh = self.mesh.as_ref();
        Json(Nodes {
            node: Node {
                incarnation: self.registry.incarnation().to_string(),
                mesh: mesh.map(|mesh| mesh.address().to_owned()),
                role: self.role,
                stage: self.stage().as_str(),
                keyvalue: self.services.load().as_ref().map(|services| Keyvalue {
                    store: services.keyvalue_store(),
                    failure: services.keyvalue_failure(),
                }),
                plugins: plugins(self, caller),
            },
            peers: mesh
                .map(|mesh| {
                    let peers = mesh.peers();
                    peers.iter().map(|peer| of(mesh, peer, caller)).collect()
                })
                .unwrap_or_default(),
            dialled: mesh.map(|mesh| mesh.dialled()).unwrap_or_default(),
        })
    }

    /// The plugins, once they have been loaded.
    pub(super) fn plugins(&self) -> Option<Arc<Plugins>> {
        self.plugins.load_full()
    }

    pub(super) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    pub(super) fn mesh(&self) -> Option<&Arc<Mesh>> {
        self.mesh.as_ref()
    }

    /// Where in its life the node is, now and later.
    pub(super) fn stages(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    fn stage(&self) -> Stage {
        *self.stage.borrow()
    }
}

/// What probes ask: without a token.
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

fn plugins(view: &View, caller: &Caller) -> Vec<Plugin> {
    let plugins = view.plugins();
    let plugins = plugins.iter().flat_map(|plugins| plugins.all());
    plugins
        .filter(|plugin| caller.may_see(plugin.name()))
        .map(|plugin| {
            let namespace = plugin.namespace();
            Plugin {
                name: plugin.name().to_owned(),
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

fn of(mesh: &Mesh, peer: &crate::mesh::Peer, caller: &Caller) -> Peer {
    let plugins = mesh.plugins_of(peer.incarnation()).into_iter();
    let held = mesh.interest().sizes(peer.incarnation());
    let (waiting_frames, waiting_bytes) = peer.waiting();
    Peer {
        incarnation: peer.incarnation().to_string(),
        mesh: peer.address(),
        state: match peer.state() {
            PeerState::New => "new",
            PeerState::Alive => "alive",
            PeerState::Suspect => "suspect",
            PeerState::Leaving => "leaving",
        },
        plugins: plugins
            .filter(|plugin| caller.may_see(plugin))
            .map(|plugin| plugin.to_string())
            .collect(),
        clients: held.clients,
        uids: held.uids,
        groups: held.groups,
        deliveries: peer.delivered(),
        dropped: peer.dropped(),
        waiting_frames,
        waiting_bytes,
    }
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

/// `GET /live`.
#[derive(Serialize)]
struct Live {
    live: bool,
}

/// `GET /ready`: 200 or 503.
#[derive(Serialize)]
struct Ready {
    ready: bool,
    stage: &'static str,
}

/// `GET /v1/nodes`.
#[derive(Serialize)]
struct Nodes {
    node: Node,
    peers: Vec<Peer>,
    /// Addresses that are dialled, and have no node that is linked there.
    dialled: Vec<String>,
}

/// This node.
#[derive(Serialize)]
struct Node {
    incarnation: String,
    /// What peers dial; null: it is alone.
    mesh: Option<String>,
    role: Role,
    stage: &'static str,
    /// Null: it is a gateway, or has not opened it yet.
    keyvalue: Option<Keyvalue>,
    plugins: Vec<Plugin>,
}

/// Where the plugins' state is, and how that is.
#[derive(Serialize)]
struct Keyvalue {
    store: &'static str,
    /// Why it cannot be used or changed; null: it can.
    failure: Option<String>,
}

/// A plugin of this node, and what it holds here.
#[derive(Serialize)]
struct Plugin {
    name: String,
    generation: Option<u64>,
    /// `here`, `elsewhere`; null: nowhere.
    runs: Option<&'static str>,
    clients: u64,
    uids: u64,
    groups: u64,
}

/// Another node, as this one knows it.
#[derive(Serialize)]
struct Peer {
    incarnation: String,
    mesh: String,
    state: &'static str,
    /// Those that it runs.
    plugins: Vec<String>,
    /// What it says it holds.
    clients: u64,
    uids: u64,
    groups: u64,
    /// Messages that were queued for it.
    deliveries: u64,
    /// What its link could not take.
    dropped: u64,
    /// What it has not acknowledged yet.
    waiting_frames: usize,
    waiting_bytes: usize,
}
