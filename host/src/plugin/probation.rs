//! The probation of a new generation: whether so many of its events fail that its build is to be
//! taken back.
//!
//! An event fails if it traps, or if `on-connect` chooses a subprotocol that was not offered. A good
//! event costs nothing here: the events are counted for the metrics already, and they are only looked
//! at when one fails.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::limits::PluginLimits;

/// The first pause of a plugin whose generation fails and has no build before it.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest pause of a plugin.
const PAUSE_MOST: Duration = Duration::from_secs(60);

/// The probation of one generation.
#[derive(Debug)]
pub(super) struct Probation {
    began: Mutex<Instant>,
    /// Whether it is judged for as long as it is a canary.
    is_canary: AtomicBool,
    failures: AtomicU64,
    /// The failures and events before the last pause, which are not counted again.
    before: (AtomicU64, AtomicU64),
    /// How many events in a thousand failed in the last generation that has passed.
    former_permille: AtomicU64,
    /// The phase of the generation, which is a `ProbationPhase`.
    phase: AtomicU8,
    /// Whether the build before was to be put back, and could not be loaded.
    has_none_before: AtomicBool,
    pauses: AtomicU32,
    /// The end of the last pause.
    paused_until: Mutex<Option<Instant>>,
}

/// Where a generation stands. Each event reads it, so it is one atomic number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum ProbationPhase {
    /// The events that fail are counted.
    Judged,
    /// The generation is not judged any more: it has passed, or its build has proven itself before.
    Passed,
    /// Too many events have failed, and something is to be done about that.
    Failed,
    /// Too many events have failed, and nothing is to be done about that.
    GoesOn,
    /// All events have failed, and none are to be handled for the moment.
    Paused,
}

impl Default for Probation {
    fn default() -> Probation {
        Probation {
            began: Mutex::new(Instant::now()),
            is_canary: AtomicBool::new(false),
            failures: AtomicU64::new(0),
            before: Default::default(),
            former_permille: AtomicU64::new(0),
            phase: AtomicU8::new(ProbationPhase::Judged as u8),
            has_none_before: AtomicBool::new(false),
            pauses: AtomicU32::new(0),
            paused_until: Mutex::default(),
        }
    }
}

impl Probation {
    /// Counts an event that has failed, among all `events` of the generation. Returns whether too
    /// many have failed now. Only the first such event gets this answer.
    pub(super) fn event_failed(&self, limits: &PluginLimits, events: impl FnOnce() -> u64) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let failures = failures.saturating_sub(self.before.0.load(Ordering::Relaxed));
        if failures < u64::from(limits.probation_failures) || !self.is_in(ProbationPhase::Judged) {
            return false;
        }
        let events = events();
        if self.is_over(limits, events) {
            self.pass();
            return false;
        }
        let events = events.saturating_sub(self.before.1.load(Ordering::Relaxed));
        let permille = permille(failures, events);
        let limit = 10 * u64::from(limits.probation_failure_percent);
        let is_worse = permille > 2 * self.former_permille.load(Ordering::Relaxed);
        permille > limit && is_worse && self.change(ProbationPhase::Judged, ProbationPhase::Failed)
    }

    fn is_in(&self, phase: ProbationPhase) -> bool {
        self.phase.load(Ordering::Relaxed) == phase as u8
    }

    /// Goes from one phase to another. Returns whether the generation was in the first one.
    fn change(&self, from: ProbationPhase, to: ProbationPhase) -> bool {
        let (from, to) = (from as u8, to as u8);
        let phase = &self.phase;
        phase
            .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Returns whether the generation has passed, after so many events.
    pub(super) fn has_passed(&self, limits: &PluginLimits, events: u64) -> bool {
        self.is_in(ProbationPhase::Passed)
            || (self.is_in(ProbationPhase::Judged) && self.is_over(limits, events))
    }

    /// Returns whether the generation is still judged, after so many events.
    pub(super) fn is_under_way(&self, limits: &PluginLimits, events: u64) -> bool {
        self.is_in(ProbationPhase::Judged) && !self.is_over(limits, events)
    }

    fn is_over(&self, limits: &PluginLimits, events: u64) -> bool {
        if limits.probation.is_zero() {
            return true;
        }
        let events = events.saturating_sub(self.before.1.load(Ordering::Relaxed));
        let is_long_enough = self.began.lock().elapsed() >= limits.probation;
        !self.is_canary.load(Ordering::Relaxed)
            && is_long_enough
            && events > limits.probation_events
    }

    /// Judges the generation for as long as it is a canary, whether it has passed before or not.
    pub(super) fn begin_canary(&self) {
        self.is_canary.store(true, Ordering::Relaxed);
        self.change(ProbationPhase::Passed, ProbationPhase::Judged);
    }

    /// Judges the events of a canary in periods, each as long as a probation: what went well for a day
    /// must not hide what fails now. `events` are all those up to now.
    pub(super) fn begin_period(&self, limits: &PluginLimits, events: u64) {
        let mut began = self.began.lock();
        let in_period = events.saturating_sub(self.before.1.load(Ordering::Relaxed));
        if began.elapsed() >= limits.probation && in_period > limits.probation_events {
            *began = Instant::now();
            self.count_from(events);
        }
    }

    /// Begins the probation again, after so many `events`: the generation is no canary any more.
    pub(super) fn begin_again(&self, events: u64) {
        *self.began.lock() = Instant::now();
        self.count_from(events);
        self.is_canary.store(false, Ordering::Relaxed);
    }

    /// Does not count the failures and the `events` up to now any more.
    fn count_from(&self, events: u64) {
        self.before.0.store(self.failures(), Ordering::Relaxed);
        self.before.1.store(events, Ordering::Relaxed);
    }

    /// Returns whether too many events have failed.
    pub(super) fn has_failed(&self) -> bool {
        !self.is_in(ProbationPhase::Judged) && !self.is_in(ProbationPhase::Passed)
    }

    /// Records that the build before could not be loaded.
    pub(super) fn has_none_before(&self) {
        self.has_none_before.store(true, Ordering::Relaxed);
    }

    /// Returns whether there may be a build to go back to.
    pub(super) fn may_be_taken_back(&self) -> bool {
        !self.has_none_before.load(Ordering::Relaxed)
    }

    /// Ends the probation, since the build has proven itself before.
    pub(super) fn pass(&self) {
        self.change(ProbationPhase::Judged, ProbationPhase::Passed);
    }

    /// Lets the generation go on for good, although it fails.
    pub(super) fn go_on(&self) {
        self.change(ProbationPhase::Failed, ProbationPhase::GoesOn);
    }

    /// Returns whether something is to be done about the generation's failures now.
    pub(super) fn is_due(&self) -> bool {
        self.is_in(ProbationPhase::Failed)
    }

    /// Returns how many events have failed.
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Takes over from a generation that has had so many `events`. A build that fails as often as the
    /// last one that has passed is no reason to go back to that one.
    pub(super) fn follow(&self, former: &Probation, limits: &PluginLimits, events: u64) {
        let permille = match former.has_passed(limits, events) {
            true => permille(former.failures(), events),
            false => former.former_permille.load(Ordering::Relaxed),
        };
        self.former_permille.store(permille, Ordering::Relaxed);
    }

    /// Returns whether nothing works: all events have failed since the last pause. As long as anything
    /// does, a pause would only serve those whose messages make the plugin fail. `failures` must have
    /// been read before `events`.
    pub(super) fn has_nothing_worked(&self, failures: u64, events: u64) -> bool {
        let (failures_before, events_before) = &self.before;
        let failures = failures.saturating_sub(failures_before.load(Ordering::Relaxed));
        failures >= events.saturating_sub(events_before.load(Ordering::Relaxed))
    }

    /// Returns for how long no events are to be handled, if so.
    pub(super) fn paused_for(&self) -> Option<Duration> {
        // Each event asks.
        if !self.is_in(ProbationPhase::Paused) {
            return None;
        }
        let until = *self.paused_until.lock();
        until.map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// Begins a pause, and returns how long it takes: each is twice as long as the one before.
    pub(super) fn pause(&self) -> Duration {
        let pauses = self.pauses.fetch_add(1, Ordering::Relaxed);
        let pause = PAUSE.saturating_mul(1 << pauses.min(6)).min(PAUSE_MOST);
        *self.paused_until.lock() = Some(Instant::now() + pause);
        self.change(ProbationPhase::Failed, ProbationPhase::Paused);
        pause
    }

    /// Ends a pause. The `events` up to now are not counted again.
    pub(super) fn resume(&self, events: u64) {
        self.count_from(events);
        self.change(ProbationPhase::Paused, ProbationPhase::Judged);
    }
}

fn permille(failures: u64, events: u64) -> u64 {
    failures.saturating_mul(1_000) / events.max(failures).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> PluginLimits {
        PluginLimits {
            probation: Duration::from_secs(60),
            probation_events: 1_000,
            probation_failures: 5,
            probation_failure_percent: 5,
            ..PluginLimits::default()
        }
    }

    /// How many events there are when it fails, if each event of this number fails.
    fn fails_at(probation: &Probation, every: u64, most: u64) -> Option<u64> {
        (1..=most).find(|event| event % every == 0 && probation.event_failed(&limits(), || *event))
    }

    #[test]
    fn a_build_fails_whose_share_of_failures_is_too_large() {
        assert_eq!(fails_at(&Probation::default(), 10, 10_000), Some(50));
        assert_eq!(fails_at(&Probation::default(), 1, 10_000), Some(5));
        assert_eq!(fails_at(&Probation::default(), 20, 10_000), None);
        assert_eq!(fails_at(&Probation::default(), 1, 4), None, "too few");
    }

    #[test]
    fn it_fails_once() {
        let probation = Probation::default();
        let failed = (1..100).filter(|event| probation.event_failed(&limits(), || *event));
        assert_eq!(failed.count(), 1);
    }

    #[test]
    fn probation_is_over_after_its_time_and_its_events() {
        let long_ago = Instant::now().checked_sub(Duration::from_secs(61));
        let began = long_ago.expect("the machine has run for a minute");
        let fails = |events| {
            let probation = Probation {
                began: Mutex::new(began),
                ..Probation::default()
            };
            (0..10).any(|_| probation.event_failed(&limits(), || events))
        };
        assert!(!fails(1_001));
        assert!(fails(100), "it has had few events");
        let off = PluginLimits {
            probation: Duration::ZERO,
            ..limits()
        };
        let probation = Probation::default();
        assert!((0..100).all(|event| !probation.event_failed(&off, || event)));
    }

    #[test]
    fn a_build_that_fails_like_the_last_good_one_is_not_taken_back() {
        let [good, bad, next] = [(); 3].map(|()| Probation::default());
        for _ in 0..100 {
            good.event_failed(&limits(), || 1_000_000);
        }
        good.pass();
        bad.follow(&good, &limits(), 1_000);
        assert_eq!(fails_at(&bad, 10, 900), None);
        assert!(fails_at(&bad, 3, 900).is_some());
        // Whatever the bad one did, the next one is compared with the good one.
        next.follow(&bad, &limits(), 1_000);
        assert!(fails_at(&next, 3, 900).is_some());
    }

    #[test]
    fn a_build_that_has_proven_itself_is_not_judged() {
        let probation = Probation::default();
        probation.pass();
        assert_eq!(fails_at(&probation, 1, 100), None);
        assert!(probation.has_passed(&limits(), 0));
    }

    #[test]
    fn a_canary_is_judged_in_periods_for_as_long_as_it_is_one() {
        let long_ago = || Instant::now().checked_sub(Duration::from_secs(61));
        let probation = Probation::default();
        probation.begin_canary();
        *probation.began.lock() = long_ago().expect("the machine has run for a minute");
        assert!(probation.is_under_way(&limits(), 1_000_000));
        // What went well before hides nothing.
        probation.begin_period(&limits(), 1_000_000);
        let fails = |from: u64| {
            (from + 1..=from + 5).filter(|at| probation.event_failed(&limits(), || *at))
        };
        assert_eq!(fails(1_000_000).count(), 1);

        let probation = Probation::default();
        probation.begin_canary();
        probation.begin_period(&limits(), 1_000_000);
        assert_eq!(
            probation.before.1.load(Ordering::Relaxed),
            0,
            "the period goes on"
        );
        probation.begin_again(1_000_000);
        assert!(probation.is_under_way(&limits(), 1_001_000));
        *probation.began.lock() = long_ago().expect("the machine has run for a minute");
        assert!(probation.has_passed(&limits(), 1_001_001));
    }

    #[test]
    fn each_pause_is_longer_and_counts_anew() {
        let probation = Probation::default();
        let mut pauses = Vec::new();
        let mut events = 0;
        for _ in 0..8 {
            let until = (0..100).find(|_| {
                events += 1;
                probation.event_failed(&limits(), || events)
            });
            assert_eq!(until, Some(4));
            assert!(probation.has_nothing_worked(probation.failures(), events));
            assert!(!probation.has_nothing_worked(probation.failures(), events + 1));
            pauses.push(probation.pause().as_secs());
            assert!(probation.paused_for().is_some());
            probation.resume(events);
            assert!(probation.paused_for().is_none() && !probation.has_failed());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
