//! The state that the tasks of new connections share, with the limits for these connections.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use super::admission::Admission;
use super::handshakes::Handshakes;
use super::resumable::ResumableSessions;
use crate::config::ProxyConfig;
use crate::log_throttle::LogThrottle;
use crate::plugin::Plugins;
use crate::rate_limiter::SharedRates;
use crate::registry::Registry;

/// The shared state that every client's task needs.
pub(super) struct Acceptor {
    pub(super) plugins: Arc<Plugins>,
    pub(super) registry: Arc<Registry>,
    pub(super) admission: Arc<Admission>,
    pub(super) handshakes: Arc<Handshakes>,
    /// The sessions whose clients may come back.
    pub(super) resumable: Arc<ResumableSessions>,
    /// The rates at which addresses may begin with TLS.
    pub(super) tls_rates: SharedRates<IpAddr>,
    pub(super) proxies: Arc<ArcSwap<ProxyConfig>>,
    /// The permits for the open files of clients.
    pub(super) files: Arc<Semaphore>,
    /// The permits for further connections, which are accepted only to tell the client that the
    /// node is full.
    pub(super) refusals: Arc<Semaphore>,
    /// The handshakes under way.
    pub(super) shaking_hands: TaskTracker,
    pub(super) refused: LogThrottle,
    /// The log of trusted proxies that have not begun with a header of the PROXY protocol.
    pub(super) headerless: LogThrottle,
}

/// The permits for the open files of an accepted connection.
pub(super) struct ConnectionFiles {
    /// The permit for the connection itself. The client keeps this permit.
    pub(super) connection: Arc<OwnedSemaphorePermit>,
    /// The permit for the file of a page, in case the request asks for a page.
    page: Mutex<Option<OwnedSemaphorePermit>>,
}

impl ConnectionFiles {
    pub(super) fn take(files: &Arc<Semaphore>) -> Option<ConnectionFiles> {
        let mut both = files.clone().try_acquire_many_owned(2).ok()?;
        Some(ConnectionFiles {
            page: Mutex::new(Some(both.split(1)?)),
            connection: Arc::new(both),
        })
    }

    /// Gives the file of a page back before the answer goes out, since whoever has the answer may
    /// take it for room for the next client.
    pub(super) fn asks_for_no_page(&self) {
        self.page.lock().take();
    }
}
