//! The rates that the clients of a uid, or of an address, share.
//!
//! They live as long as a client has them, and then until nothing of them is used up: a client that
//! comes back gets no new burst. `KEPT` bounds those that no client has.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::rates::{RateLimits, Rates};

/// The most rates that are kept while no client has them. Beyond that, half of them go at least,
/// those of which the least is used up.
const KEPT: usize = 1 << 16;

/// The number of rates from which those that are not needed are looked for.
const FEW: usize = 64;

/// The rates of names, all with the same limits.
#[derive(Debug)]
pub(crate) struct SharedRates<K> {
    limits: RateLimits,
    known: Mutex<KnownRates<K>>,
}

#[derive(Debug)]
struct KnownRates<K> {
    rates: HashMap<K, Arc<Rates>>,
    /// The number of rates at which those that are not needed are looked for.
    tidy_at: usize,
}

impl<K: Eq + Hash> SharedRates<K> {
    /// Creates rates with these limits, and no names yet.
    pub(crate) fn new(limits: RateLimits) -> SharedRates<K> {
        SharedRates {
            limits,
            known: Mutex::new(KnownRates {
                rates: HashMap::new(),
                tidy_at: FEW,
            }),
        }
    }

    /// The rates of a name, if there are any limits.
    pub(crate) fn of(&self, name: K, now: Instant) -> Option<Arc<Rates>> {
        if self.limits == RateLimits::default() {
            return None;
        }
        let mut known = self.known.lock();
        if known.rates.len() >= known.tidy_at {
            known.tidy(now);
        }
        let new = || Arc::new(Rates::new(self.limits, now));
        Some(known.rates.entry(name).or_insert_with(new).clone())
    }
}

impl<K: Eq + Hash> KnownRates<K> {
    /// Forgets those that no client has and of which nothing is used up, and some more if these are
    /// too many.
    fn tidy(&mut self, now: Instant) {
        let is_unused = |rates: &Arc<Rates>| Arc::strong_count(rates) == 1;
        self.rates
            .retain(|_, rates| !is_unused(rates) || !rates.full_in(now).is_zero());
        let unused = self.rates.values().filter(|rates| is_unused(rates));
        let mut times: Vec<_> = unused.map(|rates| rates.full_in(now)).collect();
        if times.len() > KEPT {
            let at = times.len() - KEPT / 2;
            let (_, &mut middle, _) = times.select_nth_unstable(at);
            self.rates
                .retain(|_, rates| !is_unused(rates) || rates.full_in(now) > middle);
        }
        self.rates.shrink_to(self.rates.len() * 2);
        self.tidy_at = (self.rates.len() * 2).max(FEW);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMITS: RateLimits = RateLimits {
        connects: 0,
        messages: 2,
        bytes: 0,
    };

    fn count(shared: &SharedRates<usize>) -> usize {
        shared.known.lock().rates.len()
    }

    #[test]
    fn who_comes_back_finds_what_is_left() {
        let start = Instant::now();
        let shared = SharedRates::new(LIMITS);
        let take = |name, at| {
            let rates = shared.of(name, at).expect("there is a limit");
            rates.take_message(1, at).is_ok()
        };
        assert!(take(1, start) && take(1, start) && !take(1, start));
        assert!(take(2, start));
        // Many others come and go.
        for name in 10..1_000 {
            take(name, start + Duration::from_millis(100));
        }
        assert!(!take(1, start + Duration::from_millis(100)));
        let later = start + Duration::from_secs(2);
        let held = shared.of(3, later);
        for name in 1_000..1_100 {
            shared.of(name, later);
        }
        assert!(count(&shared) < 300, "{} are kept", count(&shared));
        let found = shared.of(3, later);
        assert!(Arc::ptr_eq(
            &held.expect("there is a limit"),
            &found.expect("there is a limit")
        ));
    }

    #[test]
    fn those_that_nobody_has_are_bounded() {
        let now = Instant::now();
        let shared = SharedRates::new(LIMITS);
        let held = shared.of(0, now);
        let used_up = shared.of(1, now).expect("there is a limit");
        assert!(used_up.take_message(1, now).is_ok() && used_up.take_message(1, now).is_ok());
        drop(used_up);
        for name in 2..5 * KEPT {
            let rates = shared.of(name, now).expect("there is a limit");
            assert_eq!(rates.take_message(1, now), Ok(()));
        }
        assert!(count(&shared) <= 3 * KEPT, "{} are kept", count(&shared));
        let again = shared.of(1, now).expect("there is a limit");
        assert!(again.take_message(1, now).is_err(), "the most is used up");
        assert!(held.is_some());
    }

    #[test]
    fn without_limits_there_are_none() {
        let shared = SharedRates::new(RateLimits::default());
        assert!(shared.of(1, Instant::now()).is_none());
        assert_eq!(count(&shared), 0);
    }
}
