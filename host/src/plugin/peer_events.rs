//! What of a plugin is under way for other nodes' clients.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long other nodes' clients must have been gone, and their ends told, for a plugin whose
/// file was removed to end: a node says that it has none before the last ones' `on-close`.
const QUIET: Duration = Duration::from_secs(1);

/// The events of other nodes' clients that are under way.
#[derive(Debug, Default)]
pub(super) struct PeerEvents {
    under_way: AtomicUsize,
    last: Mutex<Option<Instant>>,
}

impl PeerEvents {
    /// Whether none is under way, and the last one was a while ago.
    pub(super) fn is_quiet(&self) -> bool {
        let last = *self.last.lock();
        self.under_way.load(Ordering::Relaxed) == 0
            && last.is_none_or(|last| last.elapsed() > QUIET)
    }

    /// Something happened: it is not quiet for a while.
    pub(super) fn touch(&self) {
        *self.last.lock() = Some(Instant::now());
    }

    /// An event begins; answers how many were under way before.
    pub(super) fn begin(&self) -> usize {
        self.under_way.fetch_add(1, Ordering::Relaxed)
    }

    /// An event has ended.
    pub(super) fn end(&self) {
        self.touch();
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
