//! The time: in milliseconds since 1970, which nodes and operators are told, and the clock of plugins.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

/// The clock by which timers fire, and which guests read: that of the system, or one that stands still
/// until somebody moves it. The two kinds are one type, so that nothing else depends on the kind.
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// let clock = jackfield::registry::Clock::standing(SystemTime::UNIX_EPOCH);
/// let before = clock.now();
/// clock.advance(Duration::from_secs(30));
/// assert_eq!(clock.now() - before, Duration::from_secs(30));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<StandingClock>);

/// A clock that stands still. All its clones are moved together.
#[derive(Clone, Debug)]
struct StandingClock {
    began: Instant,
    began_at: SystemTime,
    /// The time by which the clock was moved since then.
    moved: watch::Sender<Duration>,
    /// How many seeds were given out.
    seeds: Arc<AtomicU64>,
}

impl Clock {
    /// A clock that stands at this time until it is moved.
    pub fn standing(at: SystemTime) -> Clock {
        Clock(Some(StandingClock {
            began: Instant::now(),
            began_at: at,
            moved: watch::Sender::new(Duration::ZERO),
            seeds: Arc::default(),
        }))
    }

    /// The current time by this clock.
    pub fn now(&self) -> Instant {
        match &self.0 {
            None => Instant::now(),
            Some(clock) => clock.began + *clock.moved.borrow(),
        }
    }

    /// The time by which the clock was moved, and the time of day that it shows now; `None` for the clock
    /// of the system.
    pub fn moved(&self) -> Option<(Duration, SystemTime)> {
        let clock = self.0.as_ref()?;
        let moved = *clock.moved.borrow();
        Some((moved, clock.began_at + moved))
    }

    /// The next seed for the randomness of a guest, which is the same in each run; `None` for the clock
    /// of the system.
    pub fn next_seed(&self) -> Option<u64> {
        let clock = self.0.as_ref()?;
        Some(clock.seeds.fetch_add(1, Ordering::Relaxed))
    }

    /// Moves the clock, unless it is that of the system.
    pub fn advance(&self, by: Duration) {
        if let Some(clock) = &self.0 {
            clock.moved.send_modify(|moved| *moved += by);
        }
    }

    /// Waits until this time has come.
    pub async fn wait_until(&self, time: Instant) {
        let Some(clock) = &self.0 else {
            return tokio::time::sleep_until(time.into()).await;
        };
        let mut moved = clock.moved.subscribe();
        // An error is not possible: the sender is in `self`.
        let _ = moved.wait_for(|moved| clock.began + *moved >= time).await;
    }
}

/// The current time, in milliseconds since 1970.
pub fn now_ms() -> u64 {
    ms_since_1970(SystemTime::now())
}

/// A time, in milliseconds since 1970.
pub fn ms_since_1970(time: SystemTime) -> u64 {
    in_ms(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// A duration in milliseconds, for where a number says it.
pub fn in_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The current time, in milliseconds since 1970, from a clock that is a few milliseconds late and
/// costs a fifth of an exact one.
pub(super) fn coarse_now_ms() -> u64 {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    (now.tv_sec * 1_000 + now.tv_nsec / 1_000_000).cast_unsigned()
}
