//! What the tasks of new connections share, and the room that there is for them.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::admission::Admission;
use crate::log_throttle::LogThrottle;
use crate::plugin::Plugins;
use crate::registry::Registry;

/// What every client's task needs.
pub(super) struct Acceptor {
    pub(super) plugins: Arc<Plugins>,
    pub(super) registry: Arc<Registry>,
    pub(super) admission: Arc<Admission>,
    pub(super) handshakes: Arc<Semaphore>,
    /// Clients may have so many files open.
    pub(super) files: Arc<Semaphore>,
    /// So many connections more are let in, to be told that there is no room.
    pub(super) refusals: Arc<Semaphore>,
    pub(super) refused: LogThrottle,
}

/// The open files of a connection that is accepted.
pub(super) struct ConnectionFiles {
    /// The connection itself is one, which its client keeps.
    pub(super) connection: Arc<OwnedSemaphorePermit>,
    /// It may turn out to ask for a page, which is another one.
    _page: OwnedSemaphorePermit,
}

impl ConnectionFiles {
    pub(super) fn take(files: &Arc<Semaphore>) -> Option<ConnectionFiles> {
        let mut both = files.clone().try_acquire_many_owned(2).ok()?;
        Some(ConnectionFiles {
            _page: both.split(1)?,
            connection: Arc::new(both),
        })
    }
}
