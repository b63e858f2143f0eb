//! How long the events of a generation took.
//!
//! Each instance has histograms of its own, which no other thread writes, and a generation adds them
//! up when somebody asks. All events are counted. Of the messages that end at once, only a sample is
//! timed, since a clock costs more than all the rest: the first one in each tick of the ticker, and
//! one in `SAMPLE`. A message that is not timed counts like the last one that was. A message is always
//! timed if it does not end at once, since it waits, or runs for more than a tick.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::function::GuestFunction;
use super::trap::TrapKind;
use crate::histogram::{Histogram, HistogramSnapshot, Sample};

/// One message in so many is timed.
const SAMPLE: u32 = 16;

/// The histograms of one instance, for each function.
type InstanceTimes = [Histogram; GuestFunction::ALL.len()];

/// How long the events of one generation took.
#[derive(Debug, Default)]
pub(crate) struct EventTimes(Mutex<Recorded>);

#[derive(Debug, Default)]
struct Recorded {
    instances: Vec<Arc<InstanceTimes>>,
    /// The sum of the instances that are gone.
    former: [HistogramSnapshot; GuestFunction::ALL.len()],
    /// The events that did not end well.
    failed: BTreeMap<(GuestFunction, EventOutcome), HistogramSnapshot>,
}

/// The end of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EventOutcome {
    /// The event ended well.
    Ended,
    /// The event trapped, in this way.
    Trapped(TrapKind),
    /// Nobody waited for the end of the event any more.
    Cancelled,
}

impl EventOutcome {
    /// The name of the outcome in the metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            EventOutcome::Ended => "ok",
            EventOutcome::Trapped(kind) => kind.as_str(),
            EventOutcome::Cancelled => "cancelled",
        }
    }
}

/// The timer of one instance's events.
#[derive(Debug)]
pub(super) struct EventTimer {
    generation: Arc<EventTimes>,
    times: Arc<InstanceTimes>,
    function: GuestFunction,
    is_under_way: bool,
    /// When the event began, if it is timed.
    started: Option<Instant>,
    /// The tick in which a message was last timed.
    tick: u64,
    /// How many messages were not timed since then.
    untimed: u32,
    last: Sample,
    progress: Arc<EventProgress>,
}

/// What the poll of an event and the event itself know of each other.
#[derive(Debug)]
pub(super) struct EventProgress {
    /// How many messages of the turn have been begun.
    pub(super) begun: AtomicU32,
    created: Instant,
    /// When the event first did not end at once, in nanoseconds since `created`; 0 if it has not.
    pending_since: AtomicU64,
}

impl EventTimes {
    /// Returns how many events there were, apart from `on-start` and `on-stop`.
    pub(crate) fn count(&self) -> u64 {
        let all = self.by_function().into_iter();
        let is_counted = |function| !matches!(function, GuestFunction::Start | GuestFunction::Stop);
        let counted = all.filter(|(function, ..)| is_counted(*function));
        counted.map(|(.., times)| times.count()).sum()
    }

    /// Returns the durations of the events by their function and outcome, as far as there are any.
    pub(crate) fn by_function(&self) -> Vec<(GuestFunction, EventOutcome, HistogramSnapshot)> {
        let recorded = self.0.lock();
        let ended_well = GuestFunction::ALL
            .iter()
            .enumerate()
            .map(|(number, function)| {
                let mut sum = recorded.former[number].clone();
                for instance in &recorded.instances {
                    sum.merge(&instance[number].snapshot());
                }
                (*function, EventOutcome::Ended, sum)
            });
        let failed = recorded.failed.iter();
        let failed =
            failed.map(|((function, outcome), times)| (*function, *outcome, times.clone()));
        let all = ended_well.chain(failed);
        all.filter(|(.., times)| times.count() > 0).collect()
    }
}

impl EventTimer {
    /// The timer of a new instance.
    pub(super) fn new(generation: &Arc<EventTimes>) -> EventTimer {
        let times = Arc::<InstanceTimes>::default();
        generation.0.lock().instances.push(times.clone());
        EventTimer {
            generation: generation.clone(),
            times,
            function: GuestFunction::Start,
            is_under_way: false,
            started: None,
            tick: 0,
            untimed: SAMPLE,
            last: Sample::new(Duration::ZERO),
            progress: Arc::default(),
        }
    }

    /// The function of the event that is under way.
    pub(super) fn function(&self) -> GuestFunction {
        self.function
    }

    pub(super) fn progress(&self) -> &Arc<EventProgress> {
        &self.progress
    }

    /// Begins an event of this function, in this tick of the ticker.
    pub(super) fn begin(&mut self, function: GuestFunction, tick: u64) {
        self.function = function;
        self.is_under_way = true;
        let is_timed = function != GuestFunction::Message || self.is_sampled(tick);
        self.started = is_timed.then(Instant::now);
    }

    /// Returns whether a message that begins in this tick is timed.
    fn is_sampled(&mut self, tick: u64) -> bool {
        self.untimed += 1;
        let is_sampled = self.untimed >= SAMPLE || self.tick != tick;
        if is_sampled {
            self.tick = tick;
            self.untimed = 0;
        }
        is_sampled
    }

    /// Ends an event well, and begins the event of the turn's next message.
    pub(super) fn next_message(&mut self, tick: u64) {
        self.end();
        self.begin(GuestFunction::Message, tick);
    }

    /// Ends an event well.
    pub(super) fn end(&mut self) {
        self.is_under_way = false;
        let pending = self.progress.take_pending();
        let sample = match self
            .started
            .take()
            .map(|started| started.elapsed())
            .or(pending)
        {
            None => self.last,
            Some(duration) => {
                let sample = Sample::new(duration);
                if pending.is_none() && self.function == GuestFunction::Message {
                    self.last = sample;
                }
                sample
            }
        };
        self.times[self.function as usize].record_alone(sample);
    }

    /// Ends an event that trapped.
    pub(super) fn trapped(&mut self, kind: TrapKind) {
        self.failed(EventOutcome::Trapped(kind));
    }

    /// Ends an event badly. A message that was not timed, and did so at once, counts as one
    /// millisecond: it took no longer.
    fn failed(&mut self, outcome: EventOutcome) {
        self.is_under_way = false;
        let pending = self.progress.take_pending();
        let timed = self.started.take().map(|started| started.elapsed());
        let duration = timed.or(pending).unwrap_or(Duration::from_millis(1));
        let mut recorded = self.generation.0.lock();
        let times = recorded.failed.entry((self.function, outcome));
        times.or_default().record(duration);
    }
}

impl Drop for EventTimer {
    fn drop(&mut self) {
        if self.is_under_way {
            self.failed(EventOutcome::Cancelled);
        }
        let mut recorded = self.generation.0.lock();
        let Recorded {
            instances, former, ..
        } = &mut *recorded;
        instances.retain(|instance| !Arc::ptr_eq(instance, &self.times));
        for (former, times) in former.iter_mut().zip(&*self.times) {
            former.merge(&times.snapshot());
        }
    }
}

impl Default for EventProgress {
    fn default() -> EventProgress {
        EventProgress {
            begun: AtomicU32::new(0),
            created: Instant::now(),
            pending_since: AtomicU64::new(0),
        }
    }
}

impl EventProgress {
    /// Records that the event has not ended at once.
    pub(super) fn is_pending(&self) {
        let since = u64::try_from(self.created.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.pending_since.store(since.max(1), Ordering::Relaxed);
    }

    /// Returns for how long the event has not ended, if it did not end at once.
    fn take_pending(&self) -> Option<Duration> {
        let since = self.pending_since.load(Ordering::Relaxed);
        if since == 0 {
            return None;
        }
        self.pending_since.store(0, Ordering::Relaxed);
        Some(
            self.created
                .elapsed()
                .saturating_sub(Duration::from_nanos(since)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(times: &EventTimes) -> Vec<(GuestFunction, EventOutcome, u64)> {
        let all = times.by_function().into_iter();
        all.map(|(function, outcome, times)| (function, outcome, times.count()))
            .collect()
    }

    #[test]
    fn every_event_counts_also_those_of_instances_that_are_gone() {
        let generation = Arc::<EventTimes>::default();
        let (mut one, mut other) = (EventTimer::new(&generation), EventTimer::new(&generation));
        for timer in [&mut one, &mut other] {
            timer.begin(GuestFunction::Message, 7);
            for _ in 0..99 {
                timer.next_message(7);
            }
            timer.end();
        }
        one.begin(GuestFunction::Timer, 8);
        one.trapped(TrapKind::Panic);
        drop(one);
        let trapped = (
            GuestFunction::Timer,
            EventOutcome::Trapped(TrapKind::Panic),
            1,
        );
        let expected = [(GuestFunction::Message, EventOutcome::Ended, 200), trapped];
        assert_eq!(counts(&generation), expected);
        other.begin(GuestFunction::Close, 9);
        drop(other);
        let cancelled = (GuestFunction::Close, EventOutcome::Cancelled, 1);
        assert_eq!(counts(&generation), [expected[0], cancelled, expected[1]]);
        assert!(generation.0.lock().instances.is_empty());
    }

    #[test]
    fn of_messages_that_end_at_once_a_sample_is_timed() {
        let mut timer = EventTimer::new(&Arc::default());
        let mut is_timed = |tick| {
            timer.begin(GuestFunction::Message, tick);
            let is_timed = timer.started.is_some();
            timer.end();
            is_timed
        };
        assert!(is_timed(1), "the first one");
        let timed = (0..160).filter(|_| is_timed(1)).count();
        assert_eq!(timed, 10);
        assert!(is_timed(2), "the first one in a tick");
        assert!(!is_timed(2));
    }

    #[test]
    fn a_message_that_does_not_end_at_once_is_timed() {
        let generation = Arc::<EventTimes>::default();
        let mut timer = EventTimer::new(&generation);
        let progress = timer.progress().clone();
        for _ in 0..3 {
            timer.begin(GuestFunction::Message, 1);
            timer.end();
        }
        timer.begin(GuestFunction::Message, 1);
        assert!(timer.started.is_none());
        progress.is_pending();
        let pending = Instant::now();
        while pending.elapsed() < Duration::from_millis(3) {
            std::thread::yield_now();
        }
        timer.next_message(1);
        timer.end();
        let times = &generation.by_function()[0].2;
        let long = times
            .buckets()
            .filter(|(bound, _)| bound.is_none_or(|bound| bound > Duration::from_micros(2_500)));
        let long: u64 = long.map(|(_, count)| count).sum();
        assert_eq!((times.count(), long), (5, 1));
    }
}
