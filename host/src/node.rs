//! The node: builds the rooms bottom-up from the configuration, and drains them top-down.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client;
use crate::config::Config;
use crate::counters::Counters;
use crate::id::Incarnation;
use crate::plugin::Plugins;
use crate::registry::Registry;

/// A running node.
///
/// ```no_run
/// # async fn run() -> anyhow::Result<()> {
/// use jackfield::config::Config;
/// use jackfield::node::Node;
///
/// let config = Config { listen: "127.0.0.1:0".parse()?, ..Config::default() };
/// let node = Node::start(&config, Default::default()).await?;
/// println!("{}", node.address());
/// node.drain().await;
/// # Ok(()) }
/// ```
pub struct Node {
    address: SocketAddr,
    incarnation: Incarnation,
    plugins: Arc<Plugins>,
    close: watch::Sender<bool>,
    serving: JoinHandle<()>,
    drain_timeout: Duration,
}

impl Node {
    /// Binds, loads the plugins, and serves; `counters` tell what happens, also meanwhile.
    pub async fn start(config: &Config, counters: Arc<Counters>) -> anyhow::Result<Node> {
        let listen = config.listen;
        let listener = bind(listen).with_context(|| {
            format!(
                "cannot listen on {listen}: name a free address with --listen (port 0 takes one)"
            )
        })?;
        let address = listener.local_addr()?;
        let incarnation = Incarnation::draw()?;
        let registry = Registry::new(
            incarnation,
            config.limits.clone(),
            counters,
            tokio::runtime::Handle::current().metrics().num_workers(),
        );
        let cache = Some(&*config.cache).filter(|path| !path.as_os_str().is_empty());
        let defaults = config.plugin.clone();
        let plugins = Plugins::open(&config.plugins, cache, defaults, registry.clone()).await?;
        let (close, closed) = watch::channel(false);
        let serving = tokio::spawn(client::serve(listener, plugins.clone(), registry, closed));
        Ok(Node {
            address,
            incarnation,
            plugins,
            close,
            serving,
            drain_timeout: config.limits.drain_timeout,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// This run of it.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Its plugins.
    pub fn plugins(&self) -> &Plugins {
        &self.plugins
    }

    /// Accepts no more, closes every client with 1012, tells the plugins, and ends, within
    /// `drain_timeout`.
    pub async fn drain(self) {
        let _ = self.close.send(true);
        let _ = self.serving.await;
        let drained = tokio::time::timeout(self.drain_timeout, self.plugins.drain());
        if drained.await.is_err() {
            tracing::warn!("the node was not drained within drain_timeout");
        }
    }
}

/// Connections that the kernel holds for us. When all clients of another node come here at
/// once, the usual 128 or 1,024 make most of them wait a second for their next attempt.
const BACKLOG: u32 = 4096;

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restarted node must not wait for the last connections of the one before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
