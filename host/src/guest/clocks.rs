//! The clocks of guests on a node whose clock is moved by somebody.
//!
//! The time of day stands still, so that what a guest writes down is the same in each run. The monotonic
//! clock also runs: a guest that waits within an event looks at it until the time has passed, and would
//! wait for ever.

use std::time::{Duration, Instant, UNIX_EPOCH};

use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder};

use crate::registry::Clock;

/// Gives a guest the clocks of its node, if these are not the system's, which it has anyway.
pub(super) fn set_clocks(wasi: &mut WasiCtxBuilder, clock: &Clock) {
    if clock.moved().is_some() {
        wasi.wall_clock(StandingWallClock(clock.clone()));
        wasi.monotonic_clock(MovedMonotonicClock {
            clock: clock.clone(),
            made: Instant::now(),
        });
    }
}

/// The time of day, which somebody moves.
struct StandingWallClock(Clock);

impl HostWallClock for StandingWallClock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        let now = self.0.moved().map_or(UNIX_EPOCH, |(_, now)| now);
        now.duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

/// The time since the instance was made, and the time by which the node's clock was moved.
struct MovedMonotonicClock {
    clock: Clock,
    made: Instant,
}

impl HostMonotonicClock for MovedMonotonicClock {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        let moved = self
            .clock
            .moved()
            .map_or(Duration::ZERO, |(moved, _)| moved);
        u64::try_from((self.made.elapsed() + moved).as_nanos()).unwrap_or(u64::MAX)
    }
}
