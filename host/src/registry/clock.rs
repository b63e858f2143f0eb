//! The time in milliseconds since 1970, which nodes and operators are told.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

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
