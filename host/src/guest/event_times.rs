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
    trapped: BTreeMap<(GuestFunction, TrapKind), HistogramSnapshot>,
}

/// The end of an event: `None` if it ended well.
pub(crate) type EventOutcome = Option<TrapKind>;

/// The timer of one instance's events.
#[derive(Debug)]
pub(super) struct EventTimer {
    generation: Arc<EventTimes>,
    times: Arc<InstanceTimes>,
    function: GuestFunction,
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
    /// Returns how many events there were.
    pub(crate) fn count(&self) -> u64 {
        let all = self.by_function();
        all.iter().map(|(.., times)| times.count()).sum()
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
                (*function, None, sum)
            });
        let trapped = recorded.trapped.iter();
        let trapped =
            trapped.map(|((function, kind), times)| (*function, Some(*kind), times.clone()));
        let all = ended_well.chain(trapped);
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
            started: None,
            tick: 0,
            untimed: SAMPLE,
            last: Sample::new(Duration::ZERO),
            progress: Arc::default(),
        }
    }

    pub(super) fn progress(&self) -> &Arc<EventProgress> {
        &self.progress
    }

    /// Begins an event of this function, in this tick of the ticker.
    pub(super) fn begin(&mut self, function: GuestFunction, tick: u64) {
        self.function = function;
        self.untimed += 1;
        let is_timed =
            function != GuestFunction::Message || self.untimed >= SAMPLE || self.tick != tick;
        if is_timed {
            self.tick = tick;
            self.untimed = 0;
        }
        self.started = is_timed.then(Instant::now);
    }

    /// Ends an event well, and begins the event of the turn's next message.
    pub(super) fn next_message(&mut self, tick: u64) {
        self.end();
        self.begin(GuestFunction::Message, tick);
    }

    /// Ends an event well.
    pub(super) fn end(&mut self) {
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
                if pending.is_none() {
                    self.last = sample;
                }
                sample
            }
        };
        self.times[self.function as usize].record_alone(sample);
    }

    /// Ends an event that trapped. A message that was not timed, and trapped at once, counts as one
    /// millisecond: it took no longer.
    pub(super) fn trapped(&mut self, kind: TrapKind) {
        let pending = self.progress.take_pending();
        let timed = self.started.take().map(|started| started.elapsed());
        let duration = timed.or(pending).unwrap_or(Duration::from_millis(1));
        let mut recorded = self.generation.0.lock();
        let times = recorded.trapped.entry((self.function, kind)).or_default();
        times.record(duration);
    }
}

impl Drop for EventTimer {
    fn drop(&mut self) {
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
        let trapped = (GuestFunction::Timer, Some(TrapKind::Panic), 1);
        let expected = [(GuestFunction::Message, None, 200), trapped];
        assert_eq!(counts(&generation), expected);
        drop(other);
        assert_eq!(counts(&generation), expected);
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
