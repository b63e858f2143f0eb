//! The stand-in's timers, and its clock, which a test moves.

use std::collections::BTreeMap;
use std::time::Duration;

use super::current;
use crate::TimerScope;

/// Where the clock stands at first: 2026-01-01 00:00 UTC, in milliseconds since 1970. It is the
/// same in each run of a test.
const BEGIN_MS: u64 = 1_767_225_600_000;

type Key = (TimerScope, String);

#[derive(Default)]
pub(super) struct Timers {
    /// How far the test has moved the clock.
    now: Duration,
    timers: BTreeMap<Key, Timer>,
    /// How many have ever been set: of those due at the same time the first one fires first.
    sets: u64,
}

struct Timer {
    at: Duration,
    every: Option<Duration>,
    set: u64,
}

impl Timers {
    pub(super) fn now(&self) -> Duration {
        self.now
    }

    pub(super) fn count(&self) -> usize {
        self.timers.len()
    }

    pub(super) fn has(&self, scope: TimerScope, name: &str) -> bool {
        self.timers.contains_key(&(scope, name.to_owned()))
    }

    pub(super) fn set(
        &mut self,
        scope: TimerScope,
        name: &str,
        after: Duration,
        every: Option<Duration>,
    ) {
        self.sets += 1;
        let timer = Timer {
            at: self.now + after,
            every,
            set: self.sets,
        };
        self.timers.insert((scope, name.to_owned()), timer);
    }

    pub(super) fn cancel(&mut self, scope: TimerScope, name: &str) -> bool {
        self.timers.remove(&(scope, name.to_owned())).is_some()
    }

    /// Moves the clock to the next time up to `until` at which a timer is due, and answers its
    /// name; without one, to `until`.
    pub(super) fn take_due(&mut self, until: Duration) -> Option<String> {
        let due = self
            .timers
            .iter_mut()
            .filter(|(_, timer)| timer.at <= until);
        let Some((key, timer)) = due.min_by_key(|(_, timer)| (timer.at, timer.set)) else {
            self.now = until;
            return None;
        };
        self.now = timer.at;
        let key = key.clone();
        match timer.every {
            Some(every) => timer.at += every,
            None => drop(self.timers.remove(&key)),
        }
        Some(key.1)
    }
}

pub(crate) fn now_ms() -> u64 {
    let passed = current(|node| node.timers.now());
    BEGIN_MS + u64::try_from(passed.as_millis()).unwrap_or(u64::MAX - BEGIN_MS)
}
