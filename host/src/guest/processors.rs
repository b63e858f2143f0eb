//! The processors, and the shares that plugins have of them.
//!
//! Most events end before they have run for a tick, and do not come by here. An event that runs
//! longer has to take turns with the others of its kind: it gets one slice of a tick, and waits for
//! the next one. A plugin whose events have run for a while of late is busy, and each of its events
//! takes turns from its beginning. So a plugin with many short events has no advantage over one
//! with few long ones. If no other plugin is busy, and all its events are short, they need no turns:
//! whatever else is ready comes between them soon enough.
//!
//! There are as many slots as the runtime has workers, so a plugin that is alone gets all of them.
//! Before a slice begins, the worker looks at its sockets and runs the other tasks that are ready.
//! So an event that does not take turns waits for about one slice, however many wait here. Those
//! who wait for a slot are no tasks that the runtime would have to run first.
//!
//! Slots go to plugins by weighted fair queueing: the next slot is for the plugin that has run
//! least, in proportion to its weight. The events of one plugin have their slices in order of
//! arrival. A plugin that comes back after a pause does not get what it has not used meanwhile.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{self, Poll, ready};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::identity::Identity;
use super::long_polls::LongPolls;
use super::ticker::{Running, Ticker};
use crate::log_throttle::LogThrottle;

/// A plugin is busy if its events have run for so many ticks in `BUSY_WINDOW`.
const BUSY_TICKS: u64 = 10;

/// The time over which the ticks of `BUSY_TICKS` are counted, in ticks.
const BUSY_WINDOW: u64 = 100;

/// The wait for one slice, in ticks, above which the log says that a plugin has to wait.
const LONG_WAIT: u64 = 100;

/// What one tick adds to the virtual time of a plugin whose weight is 1.
const TICK_COST: u64 = 1 << 20;

/// The slots of a node, and the events that wait for one.
pub(crate) struct Processors {
    pub(super) ticker: Arc<Ticker>,
    queue: Mutex<SlotQueue>,
}

/// The time that a plugin's events have run.
#[derive(Debug, Default)]
pub(super) struct ProcessorUsage {
    /// The plugin's virtual time: what it has run, divided by its weight. Written under the lock of
    /// the queue.
    virtual_time: AtomicU64,
    /// The tick until which the plugin is busy.
    busy_until: AtomicU64,
    /// The tick until which each event of the plugin takes turns.
    turns_until: AtomicU64,
    long_polls: LongPolls,
    is_known: AtomicBool,
    long_waits: LogThrottle,
}

/// The share of a guest's plugin, and who the guest is.
#[derive(Clone, Copy)]
pub(super) struct ProcessorShare<'a> {
    pub(super) processors: &'a Arc<Processors>,
    pub(super) usage: &'a Arc<ProcessorUsage>,
    /// The weight of the plugin, `cpu_weight`.
    pub(super) weight: u32,
    pub(super) identity: &'a Identity,
}

#[derive(Default)]
struct SlotQueue {
    /// The free slots, each as the tick in which its last slice began. Nobody waits if one is free.
    free: Vec<u64>,
    /// The plugins that have slots or wait for some.
    contenders: Vec<Contender>,
    /// The virtual time of the plugin that got the last slot.
    virtual_time: u64,
    /// How many plugins the node has had.
    known: usize,
    /// The two plugins that were busy last, by their address, and until when they are.
    busy: [(usize, u64); 2],
}

struct Contender {
    usage: Arc<ProcessorUsage>,
    waiting: VecDeque<oneshot::Sender<ProcessorSlot>>,
    /// How many slots the plugin has.
    slots: usize,
}

/// A slot that an event has. When it is dropped, it goes to the next event that waits.
pub(super) struct ProcessorSlot {
    processors: Arc<Processors>,
    usage: Arc<ProcessorUsage>,
    /// The tick in which the slot's last slice began.
    slice: u64,
}

/// What an event has of the processors, from one of its polls to the next.
#[derive(Default)]
pub(super) enum ProcessorTurn {
    /// The event needs no slot: it has not run for a tick since its beginning or its last wait.
    #[default]
    Free,
    /// The event waits for a slot, since that tick.
    Waiting(oneshot::Receiver<ProcessorSlot>, u64),
    /// The event has a slot, and lets other tasks run before it begins a slice.
    Yielding(ProcessorSlot, Pin<Box<dyn Future<Output = ()> + Send>>),
    /// The event runs in a slot.
    Running(ProcessorSlot),
}

impl Processors {
    /// The slots for so many workers of the runtime.
    pub(super) fn new(ticker: Arc<Ticker>, workers: usize) -> Arc<Processors> {
        let queue = SlotQueue {
            free: vec![0; workers.max(1)],
            ..SlotQueue::default()
        };
        Arc::new(Processors {
            ticker,
            queue: Mutex::new(queue),
        })
    }

    /// Tells of a plugin that will have events.
    pub(super) fn know(&self, usage: &ProcessorUsage) {
        if !usage.is_known.swap(true, Ordering::Relaxed) {
            self.queue.lock().known += 1;
        }
    }

    /// Asks for a slot. The slot that the event has goes to whoever is next.
    fn ask(
        self: &Arc<Self>,
        usage: &Arc<ProcessorUsage>,
        former: Option<ProcessorSlot>,
    ) -> ProcessorTurn {
        let mut queue = self.queue.lock();
        let free = queue.free.pop();
        let contender = queue.contender(usage);
        if let Some(slice) = free {
            contender.slots += 1;
            // Who has slots alone must not be behind whoever comes next.
            let virtual_time = usage.virtual_time();
            queue.virtual_time = queue.virtual_time.max(virtual_time);
            drop(queue);
            return ProcessorTurn::of(self.slot(usage.clone(), slice));
        }
        let (sender, receiver) = oneshot::channel();
        contender.waiting.push_back(sender);
        drop(queue);
        drop(former);
        ProcessorTurn::Waiting(receiver, self.ticker.now())
    }

    fn slot(self: &Arc<Self>, usage: Arc<ProcessorUsage>, slice: u64) -> ProcessorSlot {
        ProcessorSlot {
            processors: self.clone(),
            usage,
            slice,
        }
    }

    /// Charges a plugin with this weight for ticks that an event has run, which may be a long one.
    fn charge(&self, usage: &Arc<ProcessorUsage>, weight: u32, ticks: u64, is_long: bool) {
        let mut queue = self.queue.lock();
        if let Some(contender) = queue.find(usage) {
            let time = &contender.usage.virtual_time;
            let cost = ticks.saturating_mul(TICK_COST) / u64::from(weight.max(1));
            time.store(
                time.load(Ordering::Relaxed).saturating_add(cost),
                Ordering::Relaxed,
            );
        }
        // Where there is one plugin only, nobody else could have what it uses.
        if queue.known > 1 {
            let now = self.ticker.now();
            let busy_until = usage.ran(ticks, now);
            // A tick comes upon events in proportion to their time. So long ones are seen.
            if queue.is_another_busy(usage, busy_until, now) || is_long {
                usage.turns_until.store(busy_until, Ordering::Relaxed);
            }
        }
    }
}

impl SlotQueue {
    /// Records until when a plugin is busy. Returns whether another one is busy now.
    fn is_another_busy(&mut self, usage: &Arc<ProcessorUsage>, busy_until: u64, now: u64) -> bool {
        let own = Arc::as_ptr(usage).addr();
        let [latest, former] = &mut self.busy;
        if busy_until > now {
            if latest.0 != own {
                *former = std::mem::replace(latest, (own, busy_until));
            }
            latest.1 = busy_until;
        }
        let mut both = self.busy.iter();
        both.any(|(plugin, until)| *plugin != own && *until > now)
    }

    fn find(&mut self, usage: &Arc<ProcessorUsage>) -> Option<&mut Contender> {
        let mut contenders = self.contenders.iter_mut();
        contenders.find(|contender| Arc::ptr_eq(&contender.usage, usage))
    }

    /// The entry of a plugin, which begins at the virtual time of now at the earliest.
    fn contender(&mut self, usage: &Arc<ProcessorUsage>) -> &mut Contender {
        let found = self
            .contenders
            .iter()
            .position(|contender| Arc::ptr_eq(&contender.usage, usage));
        let index = found.unwrap_or_else(|| {
            let time = &usage.virtual_time;
            time.fetch_max(self.virtual_time, Ordering::Relaxed);
            self.contenders.push(Contender {
                usage: usage.clone(),
                waiting: VecDeque::new(),
                slots: 0,
            });
            self.contenders.len() - 1
        });
        &mut self.contenders[index]
    }

    /// Takes a slot back from a plugin. Returns who gets it, and keeps it if nobody waits.
    fn pass_on(
        &mut self,
        usage: &Arc<ProcessorUsage>,
        slice: u64,
    ) -> Option<(oneshot::Sender<ProcessorSlot>, Arc<ProcessorUsage>)> {
        if let Some(contender) = self.find(usage) {
            contender.slots -= 1;
        }
        let next = self.next();
        if next.is_none() {
            self.free.push(slice);
        }
        self.contenders
            .retain(|contender| contender.slots > 0 || !contender.waiting.is_empty());
        next
    }

    fn next(&mut self) -> Option<(oneshot::Sender<ProcessorSlot>, Arc<ProcessorUsage>)> {
        loop {
            let waiting = self.contenders.iter_mut();
            let next = waiting
                .filter(|contender| !contender.waiting.is_empty())
                .min_by_key(|contender| contender.usage.virtual_time())?;
            // The events of some have ended while they waited.
            while let Some(sender) = next.waiting.pop_front() {
                if !sender.is_closed() {
                    next.slots += 1;
                    self.virtual_time = self.virtual_time.max(next.usage.virtual_time());
                    return Some((sender, next.usage.clone()));
                }
            }
        }
    }
}

impl Drop for ProcessorSlot {
    fn drop(&mut self) {
        let next = self
            .processors
            .queue
            .lock()
            .pass_on(&self.usage, self.slice);
        if let Some((sender, usage)) = next {
            // If its event has ended just now, the slot is dropped, and goes to the next one.
            let _ = sender.send(self.processors.slot(usage, self.slice));
        }
    }
}

impl ProcessorUsage {
    fn virtual_time(&self) -> u64 {
        self.virtual_time.load(Ordering::Relaxed)
    }

    /// Whether each event of the plugin has to take turns.
    fn needs_turns(&self, now: u64) -> bool {
        now < self.turns_until.load(Ordering::Relaxed)
    }

    /// Whether the plugin has run much of late.
    fn is_busy(&self, now: u64) -> bool {
        now < self.busy_until.load(Ordering::Relaxed)
    }

    /// Records that the plugin's events have run for so many ticks, and returns the tick until which
    /// the plugin is busy. This is a leaky bucket: it holds what was run, and `BUSY_TICKS` leave it in
    /// each `BUSY_WINDOW`.
    fn ran(&self, ticks: u64, now: u64) -> u64 {
        let emptied = self.busy_until.load(Ordering::Relaxed) + BUSY_WINDOW;
        let emptied = emptied.max(now) + ticks.saturating_mul(BUSY_WINDOW / BUSY_TICKS);
        // So that it is not long busy after the others have gone.
        let emptied = emptied.min(now + 2 * BUSY_WINDOW);
        let busy_until = emptied.saturating_sub(BUSY_WINDOW);
        self.busy_until.store(busy_until, Ordering::Relaxed);
        busy_until
    }
}

impl ProcessorTurn {
    fn of(slot: ProcessorSlot) -> ProcessorTurn {
        if slot.slice == slot.processors.ticker.now() {
            return ProcessorTurn::Running(slot);
        }
        // Tokio looks at its timers and sockets before it goes on with a task that yields so. If the
        // task were woken at once, tokio would look at them only after 61 polls.
        ProcessorTurn::Yielding(slot, Box::pin(tokio::task::yield_now()))
    }

    /// Polls the call of a guest when it may run. A call inside another plugin's call runs in the
    /// turn of that one.
    pub(super) fn poll_guest<T>(
        &mut self,
        share: ProcessorShare<'_>,
        call: Pin<&mut impl Future<Output = T>>,
        context: &mut task::Context<'_>,
    ) -> Poll<T> {
        let processors = share.processors;
        let running = processors.ticker.run();
        if running.is_nested {
            return call.poll(context);
        }
        if matches!(self, ProcessorTurn::Free) && share.usage.needs_turns(Running::began()) {
            *self = processors.ask(share.usage, None);
        }
        ready!(self.poll_slot(share, context));
        // The clock is read for busy plugins only.
        let polls = &share.usage.long_polls;
        let is_busy = share.usage.is_busy(Running::began());
        let started = is_busy.then(|| polls.start(Running::began())).flatten();
        let polled = call.poll(context);
        let now = processors.ticker.now();
        let ticks = now - Running::began();
        if ticks > 0 {
            let is_long = started.is_some_and(|started| polls.was_long(started, now));
            processors.charge(share.usage, share.weight, ticks, is_long);
        }
        let former = match std::mem::take(self) {
            ProcessorTurn::Running(slot) => Some(slot),
            _ => None,
        };
        // An event that waits for something else lets others have its slot.
        if Running::take_slice_used_up() && polled.is_pending() {
            *self = processors.ask(share.usage, former);
            // Asked once, so that it is woken.
            if self.poll_slot(share, context).is_ready() {
                context.waker().wake_by_ref();
            }
        }
        polled
    }

    /// Waits for a slot and for the other tasks, if the event needs a slot.
    fn poll_slot(
        &mut self,
        share: ProcessorShare<'_>,
        context: &mut task::Context<'_>,
    ) -> Poll<()> {
        loop {
            match self {
                ProcessorTurn::Free | ProcessorTurn::Running(_) => return Poll::Ready(()),
                ProcessorTurn::Waiting(receiver, since) => {
                    let slot = ready!(Pin::new(receiver).poll(context));
                    share.has_waited(share.processors.ticker.now() - *since);
                    // No sender is dropped before its receiver, but for the end of the process.
                    *self = slot.map_or(ProcessorTurn::Free, ProcessorTurn::of);
                }
                ProcessorTurn::Yielding(slot, yielded) => {
                    ready!(yielded.as_mut().poll(context));
                    slot.slice = slot.processors.ticker.now();
                    let ProcessorTurn::Yielding(slot, _) = std::mem::take(self) else {
                        return Poll::Ready(());
                    };
                    *self = ProcessorTurn::Running(slot);
                }
            }
        }
    }
}

impl ProcessorShare<'_> {
    /// Records that an event has waited so many ticks for a slot.
    fn has_waited(self, ticks: u64) {
        self.identity.counters.processor_wait_ms.add(ticks);
        if ticks > LONG_WAIT
            && let Some(unsaid) = self.usage.long_waits.happened()
        {
            let (plugin, weight) = (&*self.identity.plugin, self.weight);
            tracing::warn!(
                plugin,
                weight,
                unsaid,
                "events of a plugin wait for a processor: its guests run all the time"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct TestEvent {
        usage: Arc<ProcessorUsage>,
        weight: u32,
        turn: ProcessorTurn,
        slices: u64,
    }

    impl TestEvent {
        fn new(
            processors: &Arc<Processors>,
            usage: &Arc<ProcessorUsage>,
            weight: u32,
        ) -> TestEvent {
            TestEvent {
                usage: usage.clone(),
                weight,
                turn: processors.ask(usage, None),
                slices: 0,
            }
        }

        /// Runs a slice and asks for the next one, if the event has a slot.
        fn run(&mut self, processors: &Arc<Processors>) {
            let slot = match std::mem::take(&mut self.turn) {
                ProcessorTurn::Waiting(mut receiver, since) => match receiver.try_recv() {
                    Ok(slot) => slot,
                    Err(_) => {
                        self.turn = ProcessorTurn::Waiting(receiver, since);
                        return;
                    }
                },
                ProcessorTurn::Yielding(slot, _) | ProcessorTurn::Running(slot) => slot,
                ProcessorTurn::Free => return,
            };
            self.slices += 1;
            processors.charge(&self.usage, self.weight, 1, true);
            self.turn = processors.ask(&self.usage, Some(slot));
        }
    }

    fn processors(slots: usize) -> Arc<Processors> {
        Processors::new(Arc::default(), slots)
    }

    fn with_two_plugins() -> (Arc<Processors>, Arc<ProcessorUsage>, Arc<ProcessorUsage>) {
        let (processors, one, other) = (processors(1), Arc::default(), Arc::default());
        processors.know(&one);
        processors.know(&other);
        (processors, one, other)
    }

    fn has_slot(turn: &mut ProcessorTurn) -> bool {
        match turn {
            ProcessorTurn::Waiting(receiver, _) => !receiver.is_empty(),
            ProcessorTurn::Free => false,
            ProcessorTurn::Yielding(..) | ProcessorTurn::Running(_) => true,
        }
    }

    #[test]
    fn slots_go_to_plugins_by_weight_and_to_their_events_in_order() {
        let processors = processors(2);
        let (heavy, light) = (Arc::default(), Arc::default());
        let of = |usage: &Arc<ProcessorUsage>, weight, number| {
            (0..number)
                .map(|_| TestEvent::new(&processors, usage, weight))
                .collect::<Vec<_>>()
        };
        // Many events are of no advantage.
        let mut events = of(&light, 100, 40);
        events.extend(of(&heavy, 300, 4));
        while events.iter().map(|event| event.slices).sum::<u64>() < 4_000 {
            for event in &mut events {
                event.run(&processors);
            }
        }
        let slices = |usage| {
            let of_one = events
                .iter()
                .filter(|event| Arc::ptr_eq(&event.usage, usage));
            of_one.map(|event| event.slices).collect::<Vec<_>>()
        };
        let (heavy, light) = (slices(&heavy), slices(&light));
        let (of_heavy, of_light) = (heavy.iter().sum::<u64>(), light.iter().sum::<u64>());
        assert!(
            of_heavy.abs_diff(3 * of_light) < 100,
            "{of_heavy} {of_light}"
        );
        assert!(light.iter().max() <= light.iter().min().map(|least| least + 2).as_ref());
        assert!(heavy.iter().max() <= heavy.iter().min().map(|least| least + 2).as_ref());
    }

    #[test]
    fn a_plugin_that_was_idle_gets_nothing_for_that() {
        for slots in [1, 2, 4] {
            let processors = processors(slots);
            let (former, latter) = (Arc::default(), Arc::default());
            let mut first = TestEvent::new(&processors, &former, 100);
            for _ in 0..1_000 {
                first.run(&processors);
            }
            let mut second = TestEvent::new(&processors, &latter, 100);
            let before = first.slices;
            for _ in 0..100 {
                second.run(&processors);
                first.run(&processors);
            }
            assert!(
                second.slices.abs_diff(first.slices - before) <= 2,
                "{slots}"
            );
            let queue = processors.queue.lock();
            let behind = queue.virtual_time.abs_diff(former.virtual_time());
            assert!(behind <= 2 * TICK_COST, "{slots} slots: {behind}");
        }
    }

    #[test]
    fn a_slot_passes_over_an_event_that_has_ended() {
        let processors = processors(1);
        let usage = Arc::default();
        let held = processors.ask(&usage, None);
        let ended = [processors.ask(&usage, None), processors.ask(&usage, None)];
        let mut waiting = processors.ask(&usage, None);
        let [ended, mut granted] = ended;
        drop(ended);
        assert!(!has_slot(&mut granted));
        drop(held);
        assert!(has_slot(&mut granted));
        // It has its slot, and has not looked yet.
        drop(granted);
        assert!(has_slot(&mut waiting));
        drop(waiting);
        let queue = processors.queue.lock();
        assert_eq!((queue.free.len(), queue.contenders.len()), (1, 0));
    }

    #[test]
    fn a_plugin_is_busy_that_runs_for_more_than_a_tenth_of_the_time() {
        let usage = ProcessorUsage::default();
        for now in (1_000..2_000).step_by(10) {
            usage.ran(1, now);
            assert!(!usage.is_busy(now), "{now}");
        }
        for now in 2_000..2_020 {
            usage.ran(1, now);
        }
        assert!(usage.is_busy(2_020));
        assert!(!usage.is_busy(2_130));
        // However long it was.
        for now in 3_000..9_000 {
            usage.ran(1, now);
        }
        assert!(usage.is_busy(9_000));
        assert!(!usage.is_busy(9_110));
    }

    #[test]
    fn short_events_take_turns_only_if_another_plugin_is_busy() {
        let (processors, short, other) = with_two_plugins();
        let run = |usage, is_long| {
            for _ in 0..100 {
                processors.charge(usage, 100, 1, is_long);
            }
        };
        run(&short, false);
        assert!(short.is_busy(0) && !short.needs_turns(0));
        run(&other, false);
        assert!(other.needs_turns(0), "the first one is busy");
        run(&short, false);
        assert!(short.needs_turns(0));
    }

    #[test]
    fn a_long_event_makes_all_events_of_its_plugin_take_turns() {
        let (processors, mixed, _idle) = with_two_plugins();
        for number in 0..100 {
            processors.charge(&mixed, 100, 1, number == 50);
        }
        assert!(mixed.needs_turns(0));
    }
}
