//! Clients: how they connect, and how the node serves them until they leave.
//!
//! Each client has one task, so its events enter the plugin one at a time and in order. The next
//! frame is read only after the previous one has been handled. The messages of a client that sends
//! faster than its plugin handles them therefore wait in the client's own socket.

mod acceptor;
mod admission;
mod adoption;
mod away;
mod away_count;
mod connection;
mod conversation;
mod decoder;
mod delayed_message;
mod entry;
mod extensions;
mod forwarded;
mod handshake;
mod handshakes;
mod header_list;
mod keepalive;
mod new_connection;
mod outbox_guard;
mod pages;
mod proxy_protocol;
mod read_buffers;
mod reader;
mod refusal;
mod resumable;
mod sending_rates;
mod session;
mod session_end;
mod stream;
mod subprotocol;
mod sweep;
mod upgrade;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use self::acceptor::{Acceptor, ConnectionFiles};
use self::admission::Admission;
use self::handshakes::Handshakes;
use self::new_connection::NewConnection;
use self::resumable::ResumableSessions;
use crate::certificates::Certificates;
use crate::config::ProxyConfig;
use crate::limits::REFUSALS;
use crate::listener::ClientListener;
use crate::log_throttle::LogThrottle;
use crate::mesh::Mesh;
use crate::plugin::Plugins;
use crate::rate_limiter::{RateLimits, SharedRates};
use crate::registry::Registry;

/// A port where clients connect.
pub struct ClientPort {
    /// The listener of the port.
    pub listener: ClientListener,
    /// Whether clients connect with TLS. Then there are certificates.
    pub is_encrypted: bool,
    /// The certificates of the node, if any of its ports uses TLS.
    pub certificates: Option<Arc<Certificates>>,
}

/// Accepts clients until `closed` has a time, and writes the messages for them. The handshakes that
/// are under way then have this time. The clients have at most `files` open files.
pub async fn serve(
    ports: Vec<ClientPort>,
    plugins: Arc<Plugins>,
    registry: Arc<Registry>,
    mesh: Option<Arc<Mesh>>,
    proxies: Arc<ArcSwap<ProxyConfig>>,
    files: usize,
    closed: watch::Receiver<Option<Duration>>,
) {
    for list in registry.dirty().lists() {
        tokio::spawn(sweep::sweep(list.clone()));
    }
    tokio::spawn(outbox_guard::guard_outboxes(registry.clone()));
    let admission = Arc::new(Admission::new(&registry.limits()));
    let semaphore = |permits| Arc::new(Semaphore::new(permits));
    let acceptor = Arc::new(Acceptor {
        // A silent connection has two files: others must find some left.
        handshakes: Arc::new(Handshakes::new(
            registry.limits().handshakes.min(files / 4).max(1),
        )),
        tls_rates: SharedRates::new(RateLimits {
            connects: registry.limits().tls_handshakes_per_second_per_address,
            ..RateLimits::default()
        }),
        resumable: ResumableSessions::new(mesh.clone()),
        plugins,
        registry,
        admission,
        proxies,
        files: semaphore(files),
        refusals: semaphore(REFUSALS),
        shaking_hands: TaskTracker::new(),
        refused: LogThrottle::default(),
        headerless: LogThrottle::default(),
    });
    if let Some(mut requests) = mesh.and_then(|mesh| mesh.move_requests()) {
        let sessions = acceptor.resumable.clone();
        tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                let sessions = sessions.clone();
                // Its session may be in the middle of an event.
                tokio::spawn(async move { sessions.pass_on(request).await });
            }
        });
    }
    let ports = ports.into_iter();
    let mut accepting: JoinSet<()> = ports
        .map(|port| accept_at(port, acceptor.clone(), closed.clone()))
        .collect();
    while accepting.join_next().await.is_some() {}
    let time = closed.borrow().unwrap_or_default();
    acceptor.shaking_hands.close();
    let _ = tokio::time::timeout(time, acceptor.shaking_hands.wait()).await;
}

/// Accepts the clients of one port until `closed` has a time.
async fn accept_at(
    port: ClientPort,
    acceptor: Arc<Acceptor>,
    mut closed: watch::Receiver<Option<Duration>>,
) {
    let mut out_of_files = false;
    loop {
        let accepted = tokio::select! {
            accepted = port.listener.accept() => accepted,
            _ = closed.wait_for(Option::is_some) => return,
        };
        match accepted {
            Ok((read, write, peer)) => {
                out_of_files = false;
                let connection = NewConnection {
                    read,
                    write,
                    peer,
                    is_encrypted: port.is_encrypted,
                    certificates: port.certificates.clone(),
                };
                accept(acceptor.clone(), connection);
            }
            // A client that has gone already is none of our business.
            Err(error) if is_the_client_s(&error) => {}
            Err(error) => {
                acceptor.registry.counters().accepts_failed.add_one();
                if !std::mem::replace(&mut out_of_files, true) {
                    tracing::error!(%error, "clients cannot be accepted; is `ulimit -n` high enough?");
                }
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// Starts the handshake of a new connection, if the limits allow another one.
fn accept(acceptor: Arc<Acceptor>, connection: NewConnection) {
    let (permit, has_cut) = acceptor.handshakes.begin(connection.address());
    if has_cut {
        acceptor.registry.counters().handshakes_limited.add_one();
    }
    let files = ConnectionFiles::take(&acceptor.files);
    if files.is_none() {
        acceptor.registry.counters().files_limited.add_one();
        if let Some(unsaid) = acceptor.refused.happened() {
            tracing::warn!(
                unsaid,
                "clients are refused, since they have all the open files that they may have: \
                     raise LimitNOFILE= or `ulimit -n`"
            );
        }
    }
    let refusal = match files {
        Some(_) => None,
        None => match acceptor.refusals.clone().try_acquire_owned() {
            Ok(refusal) => Some(refusal),
            Err(_) => return,
        },
    };
    let tasks = acceptor.shaking_hands.clone();
    tasks.spawn(async move {
        handshake::shake_hands(acceptor, connection, files, permit).await;
        drop(refusal);
    });
}

/// The pause after a failed accept if the process has no file descriptor left. Without the pause,
/// each attempt would fail at once, in a loop.
const REST: Duration = Duration::from_millis(100);

fn is_the_client_s(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}
