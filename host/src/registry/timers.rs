//! Timers: which of a plugin's are set, which are due, and which are firing. Time is handed in,
//! and whoever takes what is due runs it.
//!
//! As many as the plugin's limit `timers`. Of one timer one event at a time: what comes due
//! meanwhile is left out, or waits if it was set anew. They outlive the generation that set them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Refused;

/// A plugin's timers.
#[derive(Debug, Default)]
pub struct Timers {
    state: Mutex<State>,
    changed: Notify,
}

/// Which node fires a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The one where it was set.
    Node,
    /// One of the cluster.
    Cluster,
}

/// When a timer fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The first time.
    pub at: Instant,
    /// How often from then on, if at all.
    pub every: Option<Duration>,
}

#[derive(Debug, Default)]
struct State {
    timers: BTreeMap<Key, Timer>,
    /// Those that wait for their time. One that is firing, or waits for its name's event to
    /// end, is not among them.
    due: BTreeSet<(Instant, Key)>,
    /// Of these an event is under way, or waits for an instance.
    firing: BTreeSet<Key>,
    /// How many have ever been set.
    sets: u64,
    /// Timers of this generation and those before have ended.
    ended: u64,
}

type Key = (Scope, Arc<str>);

#[derive(Debug)]
struct Timer {
    /// Tells it from one of the same name, set before or after it.
    number: u64,
    at: Instant,
    every: Option<Duration>,
}

/// A timer that has come due. Until it is dropped, no other one of its name does.
#[derive(Debug)]
pub struct Firing {
    timers: Arc<Timers>,
    key: Key,
    number: u64,
}

impl Timers {
    /// Sets a timer, or sets it anew, for an event of this generation. There may be `limit`.
    pub fn set(
        &self,
        generation: u64,
        scope: Scope,
        name: &str,
        schedule: Schedule,
        limit: usize,
    ) -> Result<(), Refused> {
        let mut state = self.state.lock();
        if generation <= state.ended {
            return Ok(());
        }
        let key = (scope, name.into());
        if state.timers.len() >= limit && !state.timers.contains_key(&key) {
            return Err(Refused::LimitExceeded {
                what: "the plugin's timers",
                limit,
                name: "timers",
            });
        }
        state.set(key, schedule);
        drop(state);
        self.look_again();
        Ok(())
    }

    /// Ends a timer; whether there was one.
    pub fn cancel(&self, scope: Scope, name: &str) -> bool {
        self.state.lock().remove(&(scope, name.into()))
    }

    /// Ends all of them, and what this generation, or one before it, sets from here on.
    pub fn end(&self, generation: u64) {
        let mut state = self.state.lock();
        state.timers.clear();
        state.due.clear();
        state.ended = generation;
    }

    /// When the next one is due, if one is.
    pub fn next_due(&self) -> Option<Instant> {
        self.state.lock().due.first().map(|(at, _)| *at)
    }

    /// What is due at `now`: each of them is to begin, and to be dropped when it has ended.
    pub fn take_due(self: &Arc<Self>, now: Instant) -> Vec<Firing> {
        let due = self.state.lock().take_due(now).into_iter();
        due.map(|(key, number)| Firing {
            timers: self.clone(),
            key,
            number,
        })
        .collect()
    }

    /// Has whoever waits for timers look again.
    pub fn look_again(&self) {
        self.changed.notify_one();
    }

    /// Waits until there may be something new to see.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl State {
    fn set(&mut self, key: Key, Schedule { at, every }: Schedule) {
        self.remove(&key);
        self.sets += 1;
        let number = self.sets;
        self.due.insert((at, key.clone()));
        self.timers.insert(key, Timer { number, at, every });
    }

    fn remove(&mut self, key: &Key) -> bool {
        let Some(timer) = self.timers.remove(key) else {
            return false;
        };
        self.due.remove(&(timer.at, key.clone()));
        true
    }

    fn take_due(&mut self, now: Instant) -> Vec<(Key, u64)> {
        let mut taken = Vec::new();
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.due.pop_first() else {
                break;
            };
            // Set anew by its own event, which has not ended: it comes back when that has.
            if self.firing.contains(&key) {
                continue;
            }
            if let Some(timer) = self.timers.get(&key) {
                self.firing.insert(key.clone());
                taken.push((key, timer.number));
            }
        }
        taken
    }

    fn begin(&mut self, key: &Key, number: u64) -> bool {
        let Some(timer) = self.timers.get(key).filter(|timer| timer.number == number) else {
            return false;
        };
        if timer.every.is_none() {
            self.timers.remove(key);
        }
        true
    }

    fn over(&mut self, key: &Key, number: u64, now: Instant) {
        self.firing.remove(key);
        let Some(timer) = self.timers.get_mut(key) else {
            return;
        };
        if let Some(every) = timer.every.filter(|_| timer.number == number) {
            timer.at = next(timer.at, every, now);
        }
        self.due.insert((timer.at, key.clone()));
    }
}

/// The first of the times `at`, and then `every`, that is later than `now`: what has been missed
/// is left out.
fn next(at: Instant, every: Duration, now: Instant) -> Instant {
    let since = now.saturating_duration_since(at);
    let past = since.as_nanos() % every.as_nanos().max(1);
    now.max(at) + every - Duration::from_nanos(u64::try_from(past).unwrap_or_default())
}

impl Firing {
    /// The timer's name.
    pub fn name(&self) -> &str {
        &self.key.1
    }

    /// Its event begins; false if the timer has been ended, or set anew, since it came due.
    pub fn begin(&self) -> bool {
        self.timers.state.lock().begin(&self.key, self.number)
    }
}

impl Drop for Firing {
    fn drop(&mut self) {
        let mut state = self.timers.state.lock();
        state.over(&self.key, self.number, Instant::now());
        drop(state);
        self.timers.look_again();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(name: &str) -> Key {
        (Scope::Node, name.into())
    }

    fn schedule(at: Instant, every: Option<Duration>) -> Schedule {
        Schedule { at, every }
    }

    fn names(taken: &[(Key, u64)]) -> Vec<&str> {
        taken.iter().map(|((_, name), _)| &**name).collect()
    }

    #[test]
    fn they_come_due_in_order_and_once() {
        let (start, mut state) = (Instant::now(), State::default());
        for (name, after) in [("c", 3), ("a", 1), ("b", 2)] {
            state.set(key(name), schedule(start + SECOND * after, None));
        }
        assert!(state.take_due(start).is_empty());
        assert_eq!(names(&state.take_due(start + SECOND * 2)), ["a", "b"]);
        assert_eq!(names(&state.take_due(start + SECOND * 9)), ["c"]);
        assert!(state.take_due(start + SECOND * 9).is_empty());
    }

    #[test]
    fn one_that_does_not_repeat_is_gone_once_it_has_begun() {
        let (start, mut state) = (Instant::now(), State::default());
        state.set(key("a"), schedule(start, None));
        let (key, number) = state.take_due(start).remove(0);
        assert!(state.begin(&key, number) && !state.remove(&key));
        state.over(&key, number, start);
        assert!(state.timers.is_empty() && state.due.is_empty() && state.firing.is_empty());
    }

    #[test]
    fn what_a_long_event_overlaps_is_left_out() {
        let (start, mut state) = (Instant::now(), State::default());
        state.set(key("a"), schedule(start, Some(SECOND)));
        let (key, number) = state.take_due(start).remove(0);
        assert!(state.begin(&key, number));
        let late = start + SECOND * 7 / 2;
        assert!(state.take_due(late).is_empty(), "one event at a time");
        state.over(&key, number, late);
        assert!(state.take_due(late).is_empty(), "nothing has piled up");
        assert_eq!(names(&state.take_due(start + SECOND * 4)), ["a"]);
    }

    #[test]
    fn one_set_anew_by_its_own_event_waits_for_the_end_of_it() {
        for every in [None, Some(SECOND)] {
            let (start, mut state) = (Instant::now(), State::default());
            state.set(key("a"), schedule(start, every));
            let (key, number) = state.take_due(start).remove(0);
            assert!(state.begin(&key, number));
            state.set(key.clone(), schedule(start + SECOND, every));
            assert!(state.take_due(start + SECOND * 2).is_empty());
            state.over(&key, number, start + SECOND * 2);
            let (again, other) = state.take_due(start + SECOND * 2).remove(0);
            assert!(again == key && other != number);
        }
    }

    #[test]
    fn one_that_was_ended_or_set_anew_does_not_begin() {
        let (start, mut state) = (Instant::now(), State::default());
        for name in ["ended", "anew"] {
            state.set(key(name), schedule(start, None));
        }
        let taken = state.take_due(start);
        assert!(state.remove(&key("ended")));
        state.set(key("anew"), schedule(start + SECOND, None));
        for (key, number) in &taken {
            assert!(!state.begin(key, *number), "{key:?}");
            state.over(key, *number, start);
        }
        assert_eq!(names(&state.take_due(start + SECOND)), ["anew"]);
    }

    #[test]
    fn what_a_generation_sets_after_the_end_is_not_set() {
        let (now, timers) = (Instant::now(), Arc::new(Timers::default()));
        let set = |generation| {
            let set = timers.set(generation, Scope::Node, "a", schedule(now, None), 1);
            assert_eq!(set, Ok(()));
        };
        set(1);
        let firing = timers.take_due(now).remove(0);
        timers.end(1);
        assert!(!firing.begin());
        set(1);
        assert_eq!(timers.next_due(), None);
        set(2);
        assert_eq!(timers.next_due(), Some(now));
    }

    #[test]
    fn times_that_were_missed_are_left_out() {
        let start = Instant::now();
        for (now, then) in [(0, 10), (9, 10), (10, 20), (11, 20), (1005, 1010)] {
            let ms = Duration::from_millis;
            let next = next(start, ms(10), start + ms(now));
            assert_eq!(next, start + ms(then), "{now}");
        }
    }
}
