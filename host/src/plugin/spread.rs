//! Times that differ for each client, so that not all of them come at once.

use std::time::Duration;

/// Returns the part of `range` that belongs to a number. Consecutive numbers fall evenly over the
/// range.
pub(super) fn spread(number: u64, range: Duration) -> Duration {
    // Multiples of the golden ratio's fraction fall evenly, however many there are.
    let fraction = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let part = (range.as_nanos() * u128::from(fraction)) >> 32;
    Duration::from_nanos(u64::try_from(part).unwrap_or_default())
}
