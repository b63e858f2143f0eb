//! The events of a plugin that are under way for other nodes' clients.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The time without events of other nodes' clients after which a removed plugin may end. A node
/// reports that it has no clients before it sends the last `on-close`.
const QUIET: Duration = Duration::from_secs(1);

/// The number of other nodes' events that are under way, and the time of the last one.
#[derive(Debug, Default)]
pub(super) struct PeerEvents {
    under_way: AtomicUsize,
    last: Mutex<Option<Instant>>,
}

impl PeerEvents {
    /// Returns whether no event is under way, and the last one was a while ago.
    pub(super) fn is_quiet(&self) -> bool {
        let last = *self.last.lock();
        self.under_way.load(Ordering::Relaxed) == 0
            && last.is_none_or(|last| last.elapsed() > QUIET)
    }

    /// Records that something happened, so that `is_quiet` is false for a while.
    pub(super) fn touch(&self) {
        *self.last.lock() = Some(Instant::now());
    }

    /// Begins an event. Returns how many events were under way before.
    pub(super) fn begin(&self) -> usize {
        self.under_way.fetch_add(1, Ordering::Relaxed)
    }

    /// Ends an event that `begin` has counted.
    pub(super) fn end(&self) {
        self.touch();
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
