//! The silence of a peer: when it was last heard, in each direction.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The times when a peer was last heard.
#[derive(Debug)]
pub(super) struct LastHeard(Mutex<Times>);

#[derive(Clone, Copy, Debug)]
struct Times {
    /// The time of the last batch that the peer sent.
    batch: Instant,
    /// The time of the peer's last acknowledgement of this node's frames.
    acknowledgement: Instant,
}

/// The shortest time between a peer's last batch and a later acknowledgement that marks the peer as
/// one-way. A peer acknowledges frames every half second, and sends something itself as often.
const ONE_WAY: Duration = Duration::from_secs(2);

impl LastHeard {
    /// The times of a peer that is heard just now.
    pub(super) fn now() -> LastHeard {
        LastHeard(Mutex::new(Times::now()))
    }

    /// Records that the peer has sent a batch.
    pub(super) fn batch(&self) {
        self.0.lock().batch = Instant::now();
    }

    /// Records that the peer has acknowledged frames of this node.
    pub(super) fn acknowledgement(&self) {
        self.0.lock().acknowledgement = Instant::now();
    }

    /// Counts the peer as heard just now. This process itself was stopped for a while, so the
    /// silence was not the peer's.
    pub(super) fn excuse(&self) {
        *self.0.lock() = Times::now();
    }

    /// Returns how long the peer has been silent, in the direction that has been silent longer.
    pub(super) fn silent_for(&self) -> Duration {
        let times = *self.0.lock();
        times.batch.min(times.acknowledgement).elapsed()
    }

    /// Returns whether the peer acknowledges frames of this node, but has sent nothing itself.
    pub(super) fn is_one_way(&self) -> bool {
        let times = *self.0.lock();
        times.batch + ONE_WAY < times.acknowledgement
    }
}

impl Times {
    fn now() -> Times {
        let now = Instant::now();
        Times {
            batch: now,
            acknowledgement: now,
        }
    }
}
