//! The node, which starts its parts from the configuration and drains them in reverse order.

mod activity;
mod start_checks;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use rustix::process::Signal;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

pub use self::activity::Activity;
pub use self::start_checks::check;
use self::start_checks::{NOWHERE, check_alone, check_others, check_tls, trust};
use crate::admin::{self, ApiTokens, View};
use crate::certificates::Certificates;
use crate::client::{self, ClientPort};
use crate::config::{Config, MeshConfig, ProxyConfig, Role};
use crate::counters::Counters;
use crate::guest::{CompilerOptions, Services};
use crate::id::Incarnation;
use crate::limits::{FileShares, open_files};
use crate::listener::{
    ClientListener, HandedSocket, HandoverPort, InheritedSockets, ListenAddress, PreparedHandover,
    handed_as,
};
use crate::mesh::{self, Mesh, Source};
use crate::plugin::{PluginFolders, Plugins};
use crate::registry::{Clock, Registry};
use crate::tracer::{Collector, Tracer};

/// A running node with its plugins and its ports.
///
/// ```no_run
/// # async fn run() -> anyhow::Result<()> {
/// use jackfield::config::Config;
/// use jackfield::guest::compile_if_asked;
/// use jackfield::node::Node;
///
/// // The node starts this program for each component that it compiles.
/// if compile_if_asked().is_some() {
///     return Ok(());
/// }
/// let listen = "127.0.0.1:0".parse().map_err(anyhow::Error::msg)?;
/// let config = Config { listen: vec![listen], ..Config::default() };
/// let node = Node::start(&config, Default::default()).await?;
/// println!("{}", node.addresses()[0]);
/// node.drain().await;
/// # Ok(()) }
/// ```
pub struct Node {
    addresses: Vec<ListenAddress>,
    tls_addresses: Vec<ListenAddress>,
    incarnation: Incarnation,
    plugins: Arc<Plugins>,
    mesh: Option<(Arc<Mesh>, SocketAddr)>,
    api: Option<(SocketAddr, JoinHandle<()>)>,
    view: Arc<View>,
    /// The task that marks the node as ready, if the node was not ready from its start.
    settling: Option<JoinHandle<()>>,
    /// The time that handshakes under way still have, once the node accepts no more clients.
    close: watch::Sender<Option<Duration>>,
    serving: JoinHandle<()>,
    proxies: Arc<ArcSwap<ProxyConfig>>,
    handover: Option<HandoverPort>,
    tracer: Tracer,
    /// The task that gets certificates.
    renewing: Option<AbortOnDropHandle<()>>,
}

impl Node {
    /// Binds the ports, loads the plugins, and begins to serve. The `counters` already count during
    /// the start.
    ///
    /// # Errors
    ///
    /// Returns an error when a port cannot be bound, when the configuration cannot be used, or when
    /// the plugins or their store cannot be opened.
    pub async fn start(config: &Config, counters: Arc<Counters>) -> anyhow::Result<Node> {
        Node::start_with_clock(config, counters, Clock::default()).await
    }

    /// Starts a node, as `start` does, whose timers and guests go by this clock.
    ///
    /// # Errors
    ///
    /// The errors are those of `start`.
    pub async fn start_with_clock(
        config: &Config,
        counters: Arc<Counters>,
        clock: Clock,
    ) -> anyhow::Result<Node> {
        // A write beyond the process's limit is an error then, and not the end of the process.
        let _ = signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))?;
        check_tls(config)?;
        let certificates = config
            .tls
            .is_used()
            .then(|| Certificates::open(&config.tls, counters.clone()))
            .transpose()?;
        let mut ports = PortOpener {
            config,
            inherited: InheritedSockets::ask(&config.handover).await?,
            handed: Vec::new(),
        };
        let plain = ports.open("clients", &config.listen).await?;
        let encrypted = ports.open("tls", &config.tls.listen).await?;
        anyhow::ensure!(!(plain.is_empty() && encrypted.is_empty()), NOWHERE);
        let (addresses, tls_addresses) = (addresses(&plain)?, addresses(&encrypted)?);
        let files = share_files(config.limits.clients);
        let incarnation = Incarnation::draw()?;
        let tracer = match Collector::read(&config.tracing)? {
            Some(collector) => Tracer::start(collector, incarnation, counters.clone())?,
            None => Tracer::default(),
        };
        let is_meshed = !config.mesh.listen.is_empty();
        check_alone(&config.mesh)?;
        let registry = Registry::with_clock(
            incarnation,
            config.limits.clone(),
            counters,
            tracer.clone(),
            tokio::runtime::Handle::current().metrics().num_workers(),
            is_meshed,
            clock,
        );
        let mesh = match is_meshed {
            true => Some(join(&config.mesh, &registry, files.mesh).await?),
            false => None,
        };
        let view = View::new(
            config.role,
            registry.clone(),
            mesh.as_ref().map(|(mesh, _)| mesh.clone()),
        );
        let (begin_api, begun) = oneshot::channel();
        let api = match &*config.api {
            "" => None,
            address => {
                let tokens = ApiTokens::read(&config.api_tokens)?;
                let (listener, is_inherited) = ports.open_api(address, &tokens).await?;
                let address = listener.local_addr()?;
                let certificates = certificates.clone().filter(|_| config.tls.api);
                let serving = admin::serve(listener, view.clone(), tokens, files.api, certificates);
                // As long as another node answers at this port, this one must not say there that it
                // is not ready yet.
                let answering = tokio::spawn(async move {
                    if !is_inherited || begun.await.is_ok() {
                        serving.await;
                    }
                });
                Some((address, answering))
            }
        };
        let (mut inherited, handover) = ports.prepare_handover()?;
        let needs_file = config.role == Role::Full && config.keyvalue.is_file();
        let mut begin_api = Some(begin_api);
        let former = match inherited.has_former() {
            false => FormerNode::None,
            true if needs_file => {
                tracing::info!(
                    "waiting for the other node to end, which has the file of the state"
                );
                inherited.replace().await;
                let _ = begin_api.take().map(|begin| begin.send(()));
                inherited.wait_for_end().await;
                FormerNode::Ended
            }
            true => FormerNode::Runs,
        };
        let peers = mesh.as_ref().map(|(mesh, _)| mesh.clone());
        let plugins = open_plugins(config, &registry, peers, files.requests, &view, former).await?;
        view.loaded(plugins.clone());
        if former == FormerNode::Runs {
            let missing = plugins.not_running().await?.join(", ");
            // Where nobody serves them any more, this node serves the others, as after any start.
            anyhow::ensure!(
                missing.is_empty() || inherited.former_ends(),
                "these plugins do not run in this process, and the log says why: {missing}. The \
                 other node goes on"
            );
        }
        if let (Role::Gateway, Some((mesh, _)), FormerNode::Runs) = (config.role, &mesh, former) {
            // It refuses clients until it knows all plugins, which the other node does.
            mesh.settled().await;
        }
        let settling = match (config.role, &mesh) {
            (Role::Gateway, Some((mesh, _))) => Some(settle(mesh.clone(), view.clone())),
            _ => {
                view.ready();
                None
            }
        };
        let handover = handover.map(PreparedHandover::publish).transpose()?;
        let (close, closed) = watch::channel(None);
        let port = |is_encrypted| {
            let certificates = certificates.clone();
            move |listener| ClientPort {
                listener,
                is_encrypted,
                certificates: certificates.clone(),
            }
        };
        let plain = plain.into_iter().map(port(false));
        let encrypted = encrypted.into_iter().map(port(true));
        let proxies = Arc::new(ArcSwap::from_pointee(config.proxy.clone()));
        let serving = client::serve(
            plain.chain(encrypted).collect(),
            plugins.clone(),
            registry,
            mesh.as_ref().map(|(mesh, _)| mesh.clone()),
            proxies.clone(),
            files.clients,
            closed,
        );
        let serving = tokio::spawn(serving);
        if former == FormerNode::Runs {
            inherited.replace().await;
        }
        if let Some(handover) = &handover {
            handover.own_files(&config.unix_socket);
        }
        let _ = begin_api.map(|begin| begin.send(()));
        let renewing = certificates.and_then(|certificates| certificates.keep_renewing());
        Ok(Node {
            addresses,
            tls_addresses,
            incarnation,
            plugins,
            mesh,
            api,
            view,
            settling,
            close,
            serving,
            proxies,
            handover,
            tracer,
            renewing,
        })
    }

    /// The addresses where clients connect without TLS.
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// The addresses where clients connect with TLS.
    pub fn tls_addresses(&self) -> &[ListenAddress] {
        &self.tls_addresses
    }

    /// The address of the API, if the node has one.
    pub fn api_address(&self) -> Option<SocketAddr> {
        self.api.as_ref().map(|(address, _)| *address)
    }

    /// The address where peers connect, if the node is in a mesh.
    pub fn mesh_address(&self) -> Option<SocketAddr> {
        self.mesh.as_ref().map(|(_, address)| *address)
    }

    /// The incarnation of this run of the node.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The plugins of this node.
    pub fn plugins(&self) -> &Plugins {
        &self.plugins
    }

    /// Looks at what the node does now.
    pub fn activity(&self) -> Activity {
        let mesh = self.mesh.as_ref().map(|(mesh, _)| &**mesh);
        Activity::of(self.view.registry(), mesh, &self.plugins)
    }

    /// Takes a configuration that differs from the former one only in what can take effect in a node
    /// that runs (`Config::take_live`).
    pub fn reconfigure(&self, config: &Config) {
        self.view.registry().set_limits(config.limits.clone());
        self.proxies.store(Arc::new(config.proxy.clone()));
    }

    /// Waits until another process has taken over the ports of this node, which is to be drained
    /// then.
    pub async fn replaced(&self) {
        match &self.handover {
            Some(handover) => handover.replaced().await,
            None => std::future::pending().await,
        }
        self.view.leave_port();
    }

    /// Waits until somebody has asked over the API for the end of the node.
    pub async fn drain_asked(&self) {
        self.view.drain_asked().cancelled().await;
    }

    /// Drains the node: it accepts no more clients, closes every client with 1012, tells the
    /// plugins, and ends. All this takes at most `drain_timeout`.
    pub async fn drain(self) {
        if let Some(settling) = self.settling {
            settling.abort();
            let _ = settling.await;
        }
        drop(self.renewing);
        if let Some(handover) = self.handover {
            // Somebody may just be about to take over. For everybody else, the ports are closed.
            handover.leave();
        }
        let handshakes = match self.view.is_replaced() {
            true => HANDSHAKES,
            false => {
                self.view.draining();
                Duration::ZERO
            }
        };
        let _ = self.close.send(Some(handshakes));
        let _ = self.serving.await;
        let drain_timeout = self.view.registry().limits().drain_timeout;
        let unlisted = async {
            if let Some((mesh, _)) = &self.mesh {
                mesh.drain().await;
            }
        };
        let drained = tokio::time::timeout(drain_timeout, self.plugins.drain());
        // A register that cannot be reached keeps no client waiting.
        let ((), drained) = tokio::join!(unlisted, drained);
        if drained.is_err() {
            tracing::warn!("the node was not drained within drain_timeout");
        }
        if let Some((mesh, _)) = self.mesh {
            mesh.leave().await;
        }
        self.view.end();
        if let Some((_, answering)) = self.api {
            // Who does not read its last answer is not waited for.
            let _ = tokio::time::timeout(LAST_ANSWERS, answering).await;
        }
        self.tracer.end(LAST_SPANS).await;
    }
}

/// Opens the ports of a node, with the sockets of the node that it replaces.
struct PortOpener<'a> {
    config: &'a Config,
    inherited: InheritedSockets,
    /// The sockets that were opened, for the next process.
    handed: Vec<HandedSocket>,
}

impl PortOpener<'_> {
    /// Opens the ports of these addresses for clients.
    async fn open(
        &mut self,
        kind: &str,
        addresses: &[ListenAddress],
    ) -> anyhow::Result<Vec<ClientListener>> {
        let unix_socket = &self.config.unix_socket;
        let send_buffer = self.config.limits.send_buffer_bytes as usize;
        let mut ports = Vec::new();
        for address in addresses {
            let name = format!("{kind} {address}");
            let inherited = self.inherited.take(&name);
            let opened =
                ClientListener::open(address, BACKLOG, unix_socket, send_buffer, inherited).await?;
            if !matches!(address, ListenAddress::Systemd(_)) {
                for port in &opened {
                    self.handed.push(port.handed_as(name.clone())?);
                }
            }
            ports.extend(opened);
        }
        Ok(ports)
    }

    /// Opens the port of the API. Returns whether it is that of the node that is replaced.
    async fn open_api(
        &mut self,
        address: &str,
        tokens: &ApiTokens,
    ) -> anyhow::Result<(TcpListener, bool)> {
        let name = format!("api {address}");
        let inherited = self.inherited.take(&name);
        let is_inherited = inherited.is_some();
        let listener = admin::bind(address, tokens, inherited).await?;
        self.handed.push(handed_as(name, &listener)?);
        Ok((listener, is_inherited))
    }

    /// Listens for the process that will replace this one, now that all ports are open.
    fn prepare_handover(mut self) -> anyhow::Result<(InheritedSockets, Option<PreparedHandover>)> {
        self.inherited.close_the_rest();
        let path = &self.config.handover;
        let prepared = match path.as_os_str().is_empty() {
            true => None,
            false => Some(PreparedHandover::new(path, self.handed, &self.inherited)?),
        };
        Ok((self.inherited, prepared))
    }
}

fn addresses(ports: &[ClientListener]) -> std::io::Result<Vec<ListenAddress>> {
    ports.iter().map(ClientListener::address).collect()
}

/// Distributes the open files of the process, whose number `main` has raised to the maximum.
fn share_files(clients: usize) -> FileShares {
    let open_files = open_files();
    let files = FileShares::of(open_files);
    if clients > files.clients {
        tracing::warn!(
            clients,
            open_files,
            clients_files = files.clients,
            "this process may not open as many files as `limits.clients` needs: the clients beyond \
             `clients_files` are refused. Raise LimitNOFILE= or `ulimit -n`, or lower limits.clients"
        );
    }
    files
}

async fn open_plugins(
    config: &Config,
    registry: &Arc<Registry>,
    mesh: Option<Arc<Mesh>>,
    files: usize,
    view: &View,
    former: FormerNode,
) -> anyhow::Result<Arc<Plugins>> {
    let registry = registry.clone();
    if config.role == Role::Gateway {
        let mesh = mesh.context(
            "a gateway runs no plugins, other nodes do: say where they reach it with --mesh ADDR",
        )?;
        return Ok(Plugins::of_gateway(
            &config.plugins,
            &config.plugin,
            registry,
            mesh,
        ));
    }
    let services = open_services(config, files, former).await?;
    view.opened(services.clone());
    let defaults = config.plugin.clone();
    let compiler = CompilerOptions::new(&config.cache, &config.limits);
    let patience = match former {
        // The other node serves all of them meanwhile.
        FormerNode::Runs => Duration::MAX,
        FormerNode::None | FormerNode::Ended => Plugins::PATIENCE,
    };
    let folders = PluginFolders {
        plugins: &config.plugins,
        builds: &config.builds,
    };
    let opening = Plugins::open(
        folders, compiler, defaults, registry, mesh, services, patience,
    );
    opening.await
}

/// Opens the services of plugins. A process that has just ended may have the file of the state for
/// another moment.
async fn open_services(
    config: &Config,
    files: usize,
    former: FormerNode,
) -> anyhow::Result<Services> {
    let deadline = Instant::now() + FILE_RELEASE;
    loop {
        match Services::open(config, files).await {
            Err(_) if former == FormerNode::Ended && Instant::now() < deadline => {
                tokio::time::sleep(FILE_RELEASE / 50).await;
            }
            opened => return opened,
        }
    }
}

/// Marks a gateway as ready once it has had time to learn of all plugins. Until then, the gateway
/// refuses clients.
fn settle(mesh: Arc<Mesh>, view: Arc<View>) -> JoinHandle<()> {
    tokio::spawn(async move {
        mesh.settled().await;
        view.ready();
    })
}

/// The node that this one replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FormerNode {
    /// There is no such node.
    None,
    /// The other node runs until this one serves.
    Runs,
    /// The other node has ended already, since both need the same file.
    Ended,
}

/// The time in which the system releases the files of a process that has ended.
const FILE_RELEASE: Duration = Duration::from_secs(5);

/// The time for handshakes that are under way when another process has taken over.
const HANDSHAKES: Duration = Duration::from_secs(2);

/// The time for the collector to take the last spans.
const LAST_SPANS: Duration = Duration::from_secs(1);

/// The time for callers to read the last answers of the API.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// Joins the mesh, and returns the address where peers connect.
async fn join(
    config: &MeshConfig,
    registry: &Arc<Registry>,
    files: usize,
) -> anyhow::Result<(Arc<Mesh>, SocketAddr)> {
    let trust = trust(config)?;
    check_others(config)?;
    let listener = mesh::bind(&config.listen, &trust, "--mesh").await?;
    let address = listener.local_addr()?;
    let advertised = match &*config.advertise {
        "" => {
            anyhow::ensure!(
                !address.ip().is_unspecified(),
                "--mesh {address} is no address that others could dial: name one with --advertise \
                 HOST:PORT"
            );
            address.to_string()
        }
        advertised => advertised.to_owned(),
    };
    mesh::check_address("--advertise", &advertised)?;
    let mut others = config.registers.iter().chain(&config.peers);
    let is_elsewhere = !address.ip().is_loopback() || others.any(|other| mesh::is_elsewhere(other));
    if is_elsewhere && mesh::is_loopback(&advertised) {
        tracing::warn!(
            address = advertised,
            "this node advertises an address that leads nowhere from other machines: name one \
             that they reach with --advertise HOST:PORT"
        );
    }
    let mesh = Mesh::new(advertised, trust, registry.clone());
    mesh.start(listener, files);
    mesh.want(
        &Source::Listed("--peer".to_owned()),
        &config.peers.iter().cloned().collect(),
    );
    for register in &config.registers {
        mesh.join(register);
    }
    for source in &config.discover {
        mesh.discover(source)?;
    }
    Ok((mesh, address))
}

/// The length of the kernel's queue of new connections. When all clients of another node come here
/// at once, the usual length of 128 or 1,024 makes most of them wait a second for their next
/// attempt.
const BACKLOG: u32 = 4096;
