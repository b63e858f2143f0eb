//! Timers of one plugin: those that are set, those that are due, and those that fire now. The
//! caller passes the time in, and runs the timers that are due.
//!
//! There may be as many timers as the plugin's limit `timers`. A timer has one event at a time: if
//! it comes due again meanwhile, this time is skipped, or waits if the timer was set again. Timers
//! outlive the generation that set them.
//!
//! Timers of the cluster are known to every node that runs the plugin. Each change has a version,
//! and the newest counts. The last `ENDED` timers that have ended are remembered, so that a node
//! that does not know this yet cannot bring them back.
//!
//! Long because half of it is tests.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::clock::{Clock, now_ms};
use super::refused::Refused;
use super::shared::NodeState;
use crate::id::Incarnation;

/// How many ended timers of the cluster are remembered.
const ENDED: usize = 1024;

/// How soon a node looks again at a due timer that another node should fire. The other node tells
/// when the timer has fired; if that node is lost before, this one may fire the timer.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The timers of one plugin on this node.
#[derive(Debug)]
pub struct Timers {
    plugin: Arc<str>,
    shared: Arc<NodeState>,
    state: Mutex<TimersState>,
    /// The time since which generations that handle timers run here, if one does. It is read while
    /// the state is locked.
    fires_since: Mutex<Option<tokio::time::Instant>>,
    changed: Notify,
}

/// The scope of a timer, which decides the node that fires it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The timer fires on the node where it was set.
    Node,
    /// The timer fires on one node of the cluster.
    Cluster,
}

/// The times at which a timer fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The first time at which it fires.
    pub at: Instant,
    /// The interval after the first time; `None` means that the timer does not repeat.
    pub every: Option<Duration>,
}

/// The version of a timer: when and where it was set or ended. Between two nodes the newest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The time of the change, in milliseconds since 1970.
    pub at_ms: u64,
    /// The node that made the change.
    pub node: Incarnation,
}

/// The record of a timer of the cluster that nodes send to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimerRecord {
    /// The name of the timer.
    pub name: Arc<str>,
    /// The version of its last change.
    pub version: Version,
    /// The times at which it fires; `None` means that it has ended.
    pub schedule: Option<Schedule>,
}

#[derive(Debug, Default)]
struct TimersState {
    timers: BTreeMap<TimerKey, Timer>,
    /// The timers that wait for their time. A timer that fires, or that waits for the event of its
    /// name to end, is not among them.
    due: BTreeSet<(Instant, TimerKey)>,
    /// The timers whose event is under way, or waits for an instance.
    firing: BTreeSet<TimerKey>,
    /// How many timers have ever been set.
    sets: u64,
    /// The newest generation whose timers have been ended, with those of all generations before it.
    ended: u64,
    /// The timers of the cluster that have ended; the last one is at the end.
    ended_timers: VecDeque<(Arc<str>, Version)>,
    /// The limit of the running generation. `None` means that no generation runs here, and that
    /// records of other nodes are ignored.
    limit: Option<usize>,
}

type TimerKey = (Scope, Arc<str>);

#[derive(Debug)]
struct Timer {
    /// A number that distinguishes the timer from earlier and later ones of the same name.
    number: u64,
    version: Version,
    at: Instant,
    every: Option<Duration>,
    /// The number of the generation that has set it; 0: it is one of the cluster.
    set_by: u64,
}

/// A timer that has come due. Until this value is dropped, no other timer of its name comes due.
#[derive(Debug)]
pub struct Firing {
    timers: Arc<Timers>,
    key: TimerKey,
    number: u64,
    set_by: u64,
}

impl Timers {
    pub(super) fn new(plugin: &Arc<str>, shared: &Arc<NodeState>) -> Arc<Timers> {
        Arc::new(Timers {
            plugin: plugin.clone(),
            shared: shared.clone(),
            state: Mutex::default(),
            fires_since: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Sets a timer, or replaces it, for an event of `generation`. There may be `limit` timers. If
    /// the timers of that generation have been ended, nothing is set.
    ///
    /// # Errors
    ///
    /// There are too many timers already.
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
        if !state.has_room(&key, limit) {
            return Err(Refused::LimitExceeded {
                what: "the plugin's timers",
                limit,
                name: "timers",
            });
        }
        let version = state.next_version(&key, self.shared.incarnation());
        // Another node may fire one of the cluster, which does not know this generation.
        let set_by = match scope {
            Scope::Node => generation,
            Scope::Cluster => 0,
        };
        state.set(key.clone(), schedule, version, set_by);
        drop(state);
        self.tell(&key);
        self.look_again();
        Ok(())
    }

    /// Ends a timer; true if there was one.
    pub fn cancel(&self, scope: Scope, name: &str) -> bool {
        let key = (scope, name.into());
        let mut state = self.state.lock();
        if !state.timers.contains_key(&key) {
            return false;
        }
        let version = state.next_version(&key, self.shared.incarnation());
        state.end(&key, version);
        drop(state);
        self.tell(&key);
        true
    }

    /// Notes that a generation runs, with its limit; `fires` means that it handles timers.
    pub fn open(&self, limit: usize, fires: bool) {
        self.state.lock().limit = Some(limit);
        let mut since = self.fires_since.lock();
        // A new build goes on with what the last one has announced.
        *since = fires.then(|| since.unwrap_or_else(tokio::time::Instant::now));
        drop(since);
        self.tell_fires();
        self.look_again();
    }

    /// Ends all timers on this node, and ignores those that `generation` or an earlier one sets
    /// later. Timers of the cluster go on at other nodes.
    pub fn end(&self, generation: u64) {
        let mut state = self.state.lock();
        let (sets, firing) = (state.sets, std::mem::take(&mut state.firing));
        *state = TimersState {
            sets,
            firing,
            ended: generation,
            ..TimersState::default()
        };
        drop(state);
        *self.fires_since.lock() = None;
        self.tell_fires();
    }

    /// Whether a generation runs here that handles timers.
    pub fn fires(&self) -> bool {
        self.fires_since().is_some()
    }

    /// The time since which this node handles timers without a break, if it does.
    pub fn fires_since(&self) -> Option<tokio::time::Instant> {
        *self.fires_since.lock()
    }

    /// The clock by which the timers fire.
    pub fn clock(&self) -> &Clock {
        self.shared.clock()
    }

    /// Whether a timer is due, or its event is under way.
    pub fn is_busy(&self) -> bool {
        let now = self.clock().now();
        let state = self.state.lock();
        let is_due = state.due.first().is_some_and(|(at, _)| *at <= now);
        is_due || !state.firing.is_empty()
    }

    /// The time when the next timer is due, if there is one.
    pub fn next_due(&self) -> Option<Instant> {
        self.state.lock().due.first().map(|(at, _)| *at)
    }

    /// The timers that are due at `now`. The caller begins each of them, and drops it when its
    /// event has ended. `is_ours` decides whether this node fires a timer of the cluster.
    pub fn take_due(self: &Arc<Self>, now: Instant, is_ours: impl Fn(&str) -> bool) -> Vec<Firing> {
        let mut state = self.state.lock();
        let due = state.take_due(now, is_ours).into_iter();
        due.map(|(key, number)| Firing {
            timers: self.clone(),
            number,
            set_by: state.timers.get(&key).map_or(0, |timer| timer.set_by),
            key,
        })
        .collect()
    }

    /// Wakes the task that waits for timers, so that it looks again.
    pub fn look_again(&self) {
        self.changed.notify_one();
    }

    /// Waits until the timers may have changed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    // What nodes tell each other.

    /// The record of a timer of the cluster, if it is known.
    pub fn known(&self, name: &str) -> Option<TimerRecord> {
        self.state.lock().known(name, self.clock().now())
    }

    /// The records of all timers of the cluster.
    pub fn all_known(&self) -> Vec<TimerRecord> {
        let now = self.clock().now();
        let state = self.state.lock();
        let ended = state.ended_timers.iter().map(|(name, _)| name);
        let timers = state.timers.keys().map(|(_, name)| name);
        let names: BTreeSet<_> = ended.chain(timers).collect();
        names
            .into_iter()
            .filter_map(|name| state.known(name, now))
            .collect()
    }

    /// The timers that this node knows and that come after `after`, up to `limit`, and whether there
    /// are more. Those of the cluster may fire on another node.
    pub fn all_after(
        &self,
        after: Option<&(Scope, Arc<str>)>,
        limit: usize,
    ) -> (Vec<(Scope, Arc<str>, Schedule)>, bool) {
        let state = self.state.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut timers = state.timers.range((from, Bound::Unbounded));
        let page = timers.by_ref().take(limit);
        let page = page.map(|((scope, name), timer)| {
            let schedule = Schedule {
                at: timer.at,
                every: timer.every,
            };
            (*scope, name.clone(), schedule)
        });
        (page.collect(), timers.next().is_some())
    }

    /// Takes the record that another node gives of a timer; false if there is no room for it.
    pub fn note(&self, known: TimerRecord) -> bool {
        let noted = self.state.lock().note(known);
        self.look_again();
        noted
    }

    fn tell(&self, (scope, name): &TimerKey) {
        if let (Scope::Cluster, Some(changes)) = (scope, self.shared.changes()) {
            changes.add_timer(&self.plugin, name);
        }
    }

    /// Records that this node's firing rank for the plugin may have changed.
    pub fn tell_fires(&self) {
        if let Some(changes) = self.shared.changes() {
            changes.add_fires(&self.plugin);
        }
    }
}

impl TimersState {
    fn has_room(&self, key: &TimerKey, limit: usize) -> bool {
        self.timers.len() < limit || self.timers.contains_key(key)
    }

    fn set(
        &mut self,
        key: TimerKey,
        Schedule { at, every }: Schedule,
        version: Version,
        set_by: u64,
    ) {
        self.remove(&key);
        self.sets += 1;
        let timer = Timer {
            number: self.sets,
            version,
            at,
            every,
            set_by,
        };
        self.due.insert((at, key.clone()));
        self.timers.insert(key, timer);
    }

    fn remove(&mut self, key: &TimerKey) {
        if let Some(timer) = self.timers.remove(key) {
            self.due.remove(&(timer.at, key.clone()));
        }
    }

    fn end(&mut self, key: &TimerKey, version: Version) {
        self.remove(key);
        if key.0 == Scope::Cluster {
            self.ended_timers.retain(|(name, _)| *name != key.1);
            self.ended_timers.push_back((key.1.clone(), version));
            if self.ended_timers.len() > ENDED {
                self.ended_timers.pop_front();
            }
        }
    }

    fn version(&self, key: &TimerKey) -> Option<Version> {
        if let Some(timer) = self.timers.get(key) {
            return Some(timer.version);
        }
        let mut ended = self.ended_timers.iter();
        let ended = ended.find(|(name, _)| key.0 == Scope::Cluster && *name == key.1);
        ended.map(|(_, version)| *version)
    }

    /// A version that is newer than all before, even if the clock of another node is ahead.
    fn next_version(&self, key: &TimerKey, node: Incarnation) -> Version {
        let last = self.version(key).map_or(0, |version| version.at_ms);
        let at_ms = now_ms().max(last.saturating_add(1));
        Version { at_ms, node }
    }

    /// Takes the record of a timer. Several nodes may reach the limit at the same time, and the
    /// node that fires must know all timers, so records of other nodes may be twice as many.
    fn note(&mut self, known: TimerRecord) -> bool {
        let Some(limit) = self.limit else { return true };
        let key = (Scope::Cluster, known.name);
        if Some(known.version) <= self.version(&key) {
            return true;
        }
        match known.schedule {
            Some(_) if !self.has_room(&key, 2 * limit) => return false,
            Some(schedule) => self.set(key, schedule, known.version, 0),
            None => self.end(&key, known.version),
        }
        true
    }

    fn known(&self, name: &str, now: Instant) -> Option<TimerRecord> {
        let key: TimerKey = (Scope::Cluster, name.into());
        let version = self.version(&key)?;
        let schedule = self.timers.get(&key).map(|timer| Schedule {
            at: match timer.every {
                // This time it fires here.
                Some(every) if self.firing.contains(&key) => next(timer.at, every, now),
                _ => timer.at,
            },
            every: timer.every,
        });
        Some(TimerRecord {
            name: key.1,
            version,
            schedule,
        })
    }

    fn take_due(&mut self, now: Instant, is_ours: impl Fn(&str) -> bool) -> Vec<(TimerKey, u64)> {
        let mut taken = Vec::new();
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.due.pop_first() else {
                break;
            };
            // Set anew by its own event, which has not ended: it comes back when that has.
            if self.firing.contains(&key) {
                continue;
            }
            let Some(timer) = self.timers.get_mut(&key) else {
                continue;
            };
            if key.0 == Scope::Cluster && !is_ours(&key.1) {
                timer.at = match timer.every {
                    Some(every) => next(timer.at, every, now),
                    None => now + LOOK_AGAIN,
                };
                self.due.insert((timer.at, key));
                continue;
            }
            self.firing.insert(key.clone());
            taken.push((key, timer.number));
        }
        taken
    }

    fn begin(&mut self, key: &TimerKey, number: u64, own: Incarnation) -> Begun {
        match self.timers.get(key) {
            Some(timer) if timer.number != number => Begun::No,
            None => Begun::No,
            Some(timer) if timer.every.is_some() => Begun::Yes,
            Some(_) => {
                let version = self.next_version(key, own);
                self.end(key, version);
                Begun::ForTheLastTime
            }
        }
    }

    fn over(&mut self, key: &TimerKey, number: u64, now: Instant) {
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

/// Whether the event of a due timer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    /// The timer has been ended, or set again, since it came due.
    No,
    Yes,
    /// The event begins, and the timer ends with it, since it does not repeat.
    ForTheLastTime,
}

/// The first time later than `now` of a timer that fires at `at` and then at each `every`. Times
/// that were missed are skipped.
fn next(at: Instant, every: Duration, now: Instant) -> Instant {
    let since = now.saturating_duration_since(at);
    let past = since.as_nanos() % every.as_nanos().max(1);
    now.max(at) + every - Duration::from_nanos(u64::try_from(past).unwrap_or_default())
}

impl Firing {
    /// The name of the timer.
    pub fn name(&self) -> &str {
        &self.key.1
    }

    /// The number of the generation that has set the timer; 0: it is one of the cluster.
    pub fn set_by(&self) -> u64 {
        self.set_by
    }

    /// Begins the timer's event; false if the timer has been ended, or set again, since it came
    /// due.
    pub fn begin(&self) -> bool {
        let own = self.timers.shared.incarnation();
        let begun = self.timers.state.lock().begin(&self.key, self.number, own);
        if begun == Begun::ForTheLastTime {
            self.timers.tell(&self.key);
        }
        begun != Begun::No
    }
}

impl Drop for Firing {
    fn drop(&mut self) {
        let now = self.timers.clock().now();
        let mut state = self.timers.state.lock();
        state.over(&self.key, self.number, now);
        drop(state);
        self.timers.look_again();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::tracer::Tracer;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(name: &str) -> TimerKey {
        (Scope::Node, name.into())
    }

    fn node() -> Incarnation {
        Incarnation::from_u64(1).expect("a node")
    }

    fn version(at_ms: u64) -> Version {
        let node = node();
        Version { at_ms, node }
    }

    fn set(state: &mut TimersState, key: &TimerKey, at: Instant, every: Option<Duration>) {
        state.set(key.clone(), schedule(at, every), version(1), 1);
    }

    fn take_due(state: &mut TimersState, now: Instant) -> Vec<(TimerKey, u64)> {
        state.take_due(now, |_| true)
    }

    fn begin(state: &mut TimersState, key: &TimerKey, number: u64) -> bool {
        state.begin(key, number, node()) != Begun::No
    }

    fn schedule(at: Instant, every: Option<Duration>) -> Schedule {
        Schedule { at, every }
    }

    fn names(taken: &[(TimerKey, u64)]) -> Vec<&str> {
        taken.iter().map(|((_, name), _)| &**name).collect()
    }

    #[test]
    fn they_come_due_in_order_and_once() {
        let (start, mut state) = (Instant::now(), TimersState::default());
        for (name, after) in [("c", 3), ("a", 1), ("b", 2)] {
            set(&mut state, &key(name), start + SECOND * after, None);
        }
        assert!(take_due(&mut state, start).is_empty());
        assert_eq!(names(&take_due(&mut state, start + SECOND * 2)), ["a", "b"]);
        assert_eq!(names(&take_due(&mut state, start + SECOND * 9)), ["c"]);
        assert!(take_due(&mut state, start + SECOND * 9).is_empty());
    }

    #[test]
    fn one_that_does_not_repeat_is_gone_once_it_has_begun() {
        let (start, mut state) = (Instant::now(), TimersState::default());
        set(&mut state, &key("a"), start, None);
        let (key, number) = take_due(&mut state, start).remove(0);
        assert!(begin(&mut state, &key, number) && !state.timers.contains_key(&key));
        state.over(&key, number, start);
        assert!(state.timers.is_empty() && state.due.is_empty() && state.firing.is_empty());
    }

    #[test]
    fn what_a_long_event_overlaps_is_left_out() {
        let (start, mut state) = (Instant::now(), TimersState::default());
        set(&mut state, &key("a"), start, Some(SECOND));
        let (key, number) = take_due(&mut state, start).remove(0);
        assert!(begin(&mut state, &key, number));
        let late = start + SECOND * 7 / 2;
        assert!(take_due(&mut state, late).is_empty(), "one event at a time");
        state.over(&key, number, late);
        assert!(
            take_due(&mut state, late).is_empty(),
            "nothing has piled up"
        );
        assert_eq!(names(&take_due(&mut state, start + SECOND * 4)), ["a"]);
    }

    #[test]
    fn one_set_anew_by_its_own_event_waits_for_the_end_of_it() {
        for every in [None, Some(SECOND)] {
            let (start, mut state) = (Instant::now(), TimersState::default());
            set(&mut state, &key("a"), start, every);
            let (key, number) = take_due(&mut state, start).remove(0);
            assert!(begin(&mut state, &key, number));
            set(&mut state, &key, start + SECOND, every);
            assert!(take_due(&mut state, start + SECOND * 2).is_empty());
            state.over(&key, number, start + SECOND * 2);
            let (again, other) = take_due(&mut state, start + SECOND * 2).remove(0);
            assert!(again == key && other != number);
        }
    }

    #[test]
    fn one_that_was_ended_or_set_anew_does_not_begin() {
        let (start, mut state) = (Instant::now(), TimersState::default());
        for name in ["ended", "anew"] {
            set(&mut state, &key(name), start, None);
        }
        let taken = take_due(&mut state, start);
        state.end(&key("ended"), version(2));
        set(&mut state, &key("anew"), start + SECOND, None);
        for (key, number) in &taken {
            assert!(!begin(&mut state, key, *number), "{key:?}");
            state.over(key, *number, start);
        }
        assert_eq!(names(&take_due(&mut state, start + SECOND)), ["anew"]);
    }

    #[test]
    fn what_a_generation_sets_after_the_end_is_not_set() {
        let shared = NodeState::new(
            node(),
            Limits::default(),
            Arc::default(),
            Tracer::default(),
            1,
            false,
            Clock::default(),
        );
        let (now, timers) = (Instant::now(), Timers::new(&"p".into(), &Arc::new(shared)));
        let set = |generation| {
            let set = timers.set(generation, Scope::Node, "a", schedule(now, None), 1);
            assert_eq!(set, Ok(()));
        };
        set(1);
        let firing = timers.take_due(now, |_| true).remove(0);
        timers.end(1);
        assert!(!firing.begin());
        set(1);
        assert_eq!(timers.next_due(), None);
        set(2);
        assert_eq!(timers.next_due(), Some(now));
    }

    #[test]
    fn anothers_stay_until_it_says_that_they_have_fired() {
        let (start, mut state) = (Instant::now(), TimersState::default());
        let (once, often) = (
            (Scope::Cluster, "once".into()),
            (Scope::Cluster, "often".into()),
        );
        set(&mut state, &once, start, None);
        set(&mut state, &often, start, Some(SECOND * 10));
        assert!(state.take_due(start, |_| false).is_empty());
        // It has gone.
        let ours = state.take_due(start + LOOK_AGAIN, |_| true);
        assert_eq!(names(&ours), ["once"]);
        let ours = state.take_due(start + SECOND * 10, |_| true);
        assert_eq!(names(&ours), ["often"]);
    }

    #[test]
    fn the_newest_word_on_a_timer_counts() {
        let now = Instant::now();
        let mut state = TimersState {
            limit: Some(1),
            ..TimersState::default()
        };
        let mut note = |name: &str, at_ms, is_set: bool| {
            let noted = state.note(TimerRecord {
                name: name.into(),
                version: version(at_ms),
                schedule: is_set.then_some(schedule(now, None)),
            });
            (noted, state.timers.len())
        };
        assert_eq!(note("a", 5, true), (true, 1));
        assert_eq!(note("b", 5, true), (true, 2));
        assert_eq!(note("c", 5, true), (false, 2), "beyond twice the limit");
        assert_eq!(note("a", 4, false), (true, 2), "older");
        assert_eq!(note("a", 6, false), (true, 1));
        assert_eq!(note("a", 6, true), (true, 1), "it has not heard of the end");
        assert_eq!(note("a", 7, true), (true, 2));
        let known = state.known("a", now).expect("known");
        assert_eq!(known.version, version(7));
        for number in 0..2 * ENDED {
            let key = (Scope::Cluster, number.to_string().into());
            state.end(&key, version(1));
        }
        assert_eq!(state.ended_timers.len(), ENDED);
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
