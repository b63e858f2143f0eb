//! One live instance of a generation: a store, its bindings, and the state of the current event.
//!
//! An instance handles one event at a time. After a trap the instance cannot be entered again, and
//! its owner drops it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::bindings::call_handler::WithCallHandler;
use super::bindings::lifecycle::WithLifecycle;
use super::bindings::plugin::Plugin;
use super::bindings::timer_handler::WithTimerHandler;
use super::bindings::turn_handler::WithTurnHandler;
use super::clocks::set_clocks;
use super::context::Context;
use super::event_client::EventClient;
use super::event_times::{EventProgress, EventTimer};
use super::exports::Exports;
use super::function::GuestFunction;
use super::http::{self, OutgoingRequests};
use super::keyvalue::{CasHandles, KeyvalueView};
use super::log::{LogStream, OutputKind};
use super::memory::{MemoryLimit, MemoryUsedUp};
use super::randomness::set_randomness;
use super::settings::SettingsView;
use super::ticker::{TICK, end_slice};
use super::trap::{Evidence, RefusedMemory};
use super::turn_driver;
use crate::message_queue::MessageSpan;
use crate::registry::Client;

/// The data of a store: the guest's WASI, its limits, and the event that it handles.
pub(super) struct Guest {
    wasi: WasiCtx,
    table: ResourceTable,
    memory: MemoryMeter,
    context: Arc<Context>,
    retired: CancellationToken,
    log: LogStream,
    event: EventState,
    http: WasiHttpCtx,
    outgoing: OutgoingRequests,
    cas_handles: CasHandles,
    pub(super) timer: EventTimer,
    /// The limit `event_timeout`, in ticks.
    event_ticks: u64,
}

/// The state of one event, and what the event may still use.
#[derive(Debug, Default)]
pub(super) struct EventState {
    /// The client that the event belongs to. Most calls of a guest are about this client; for those
    /// calls its id need not be parsed and looked up.
    client: Option<EventClient<Arc<Client>>>,
    /// Whether the event is the client's `on-close`.
    pub(super) is_last: bool,
    /// How many sending calls the event has made.
    pub(super) sends: u32,
    /// The depth of the event in a chain of calls: 0, except in `on-call`.
    pub(super) depth: u32,
    /// How many ticks the event may still run.
    ticks_left: u64,
    /// The messages of the turn whose events have not begun.
    turn: VecDeque<MessageSpan>,
}

/// A meter that grants memory up to the limits, and records the last refusal. When it is dropped,
/// the plugin has so much less memory.
struct MemoryMeter {
    context: Arc<Context>,
    limit_bytes: usize,
    /// The memory of the instance after it was made, in bytes. Some toolchains begin with a stack
    /// of 16 MiB.
    initial_bytes: usize,
    used_bytes: usize,
    refused: Option<RefusedMemory>,
}

/// One live instance of a generation.
pub(super) struct Instance {
    pub(super) store: Store<Guest>,
    pub(super) plugin: Plugin,
    pub(super) lifecycle: Option<Arc<WithLifecycle>>,
    pub(super) call_handler: Option<Arc<WithCallHandler>>,
    pub(super) timer_handler: Option<Arc<WithTimerHandler>>,
    pub(super) turn_handler: Option<Arc<WithTurnHandler>>,
    /// The progress of the event, which the timer of `Guest` has, too.
    pub(super) progress: Arc<EventProgress>,
    events: u32,
}

/// The most core instances of one component instance. The toolchains of other languages need
/// several core instances, memories and tables (Python: 14 core instances).
const CORE_INSTANCES: usize = 64;
const MEMORIES: usize = 5;
const TABLES: usize = 64;
const TABLE_ELEMENTS: usize = 20_000;

/// The most resources that a guest may have open.
const HANDLES: usize = 1_000;
const RANDOM_BYTES: u64 = 64 << 10;

impl Instance {
    /// Instantiates a component, with the optional exports that it has. The memory of a driver of
    /// turns is not the guest's. The token `retired` ends an event that is under way.
    pub(super) async fn new(
        exports: &Exports<Guest>,
        has_driver: bool,
        context: &Arc<Context>,
        retired: &CancellationToken,
    ) -> wasmtime::Result<Instance> {
        let mut guest = Guest::new(context.clone(), retired.clone());
        if has_driver {
            guest.memory.limit_bytes += turn_driver::MEMORY_BYTES;
        }
        let progress = guest.timer.progress().clone();
        let mut store = Store::new(exports.pre.engine(), guest);
        store.limiter(|guest| &mut guest.memory);
        let hostcall_bytes = {
            let node = context.namespace().shared().limits();
            context.limits.hostcall_bytes(&node)
        };
        store.set_hostcall_fuel(hostcall_bytes);
        store.set_max_component_handles(HANDLES);
        store.epoch_deadline_callback(|mut context| Ok(context.data_mut().tick()));
        store.data_mut().renew();
        store.set_epoch_deadline(1);
        let instance = exports.pre.instantiate_async(&mut store).await;
        let instance = instance.map_err(|error| match store.data().memory.refused {
            Some(RefusedMemory { limit, .. }) if limit != MemoryLimit::Instance => {
                MemoryUsedUp(limit).into()
            }
            _ => error,
        })?;
        let plugin = exports.handler.load(&mut store, &instance)?;
        let lifecycle = exports.lifecycle.as_ref();
        let lifecycle = lifecycle.map(|found| found.load(&mut store, &instance));
        let call_handler = exports.call_handler.as_ref();
        let call_handler = call_handler.map(|found| found.load(&mut store, &instance));
        let timer_handler = exports.timer_handler.as_ref();
        let timer_handler = timer_handler.map(|found| found.load(&mut store, &instance));
        let turn_handler = exports.turn_handler.as_ref();
        let turn_handler = turn_handler.map(|found| found.load(&mut store, &instance));
        let memory = &mut store.data_mut().memory;
        memory.initial_bytes = memory.used_bytes;
        Ok(Instance {
            store,
            plugin,
            lifecycle: lifecycle.transpose()?.map(Arc::new),
            call_handler: call_handler.transpose()?.map(Arc::new),
            timer_handler: timer_handler.transpose()?.map(Arc::new),
            turn_handler: turn_handler.transpose()?.map(Arc::new),
            progress,
            events: 0,
        })
    }

    /// Lets the next events run on, although the generation is retired.
    pub(super) fn outlive_generation(&mut self) {
        self.store.data_mut().retired = CancellationToken::new();
    }

    /// Prepares the instance for its next event, a call of this function.
    pub(super) fn begin(
        &mut self,
        function: GuestFunction,
        client: Option<EventClient<&Arc<Client>>>,
    ) {
        self.events += 1;
        self.store.data_mut().begin(function, client);
        self.store.set_epoch_deadline(1);
    }

    /// Begins a turn: the event that has begun is that of the first of these messages.
    pub(super) fn begin_turn(&mut self, messages: VecDeque<MessageSpan>) {
        self.progress.begun.store(0, Ordering::Relaxed);
        self.store.data_mut().event.turn = messages;
    }

    /// Ends a turn. Returns the number of its messages whose events have begun, and the others.
    pub(super) fn end_turn(&mut self) -> (u32, VecDeque<MessageSpan>) {
        let begun = self.progress.begun.load(Ordering::Relaxed);
        // The first one has been counted by `begin`.
        self.events = self.events.saturating_add(begun.saturating_sub(1));
        (begun, std::mem::take(&mut self.store.data_mut().event.turn))
    }

    /// Ends the instance's event: drops its client, and writes the rest of the guest's log.
    pub(super) fn rest(&mut self) {
        let guest = self.store.data_mut();
        guest.event.client = None;
        guest.log.flush();
    }

    /// Whether the instance should be replaced: some runtimes leak, and memory never shrinks.
    pub(super) fn is_worn(&self) -> bool {
        let guest = self.store.data();
        let grown = guest.memory.used_bytes - guest.memory.initial_bytes;
        let Context {
            limits,
            memory,
            usage,
            ..
        } = &*guest.context;
        self.events >= limits.recycle_after_events
            || grown > limits.recycle_above_bytes
            || (grown > 0 && memory.is_short(&usage.memory, limits.total_memory_bytes))
    }

    /// The memory of the instance after it was made, in bytes.
    pub(super) fn initial_bytes(&self) -> usize {
        self.store.data().memory.initial_bytes
    }
}

impl Guest {
    fn new(context: Arc<Context>, retired: CancellationToken) -> Guest {
        let lines = context.limits.log_lines_per_event;
        let log = LogStream::new(context.identity.clone(), lines);
        let outgoing = OutgoingRequests::new(context.clone());
        let mut wasi = WasiCtx::builder();
        wasi.stdout(log.of(OutputKind::Stdout))
            .stderr(log.of(OutputKind::Stderr))
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(RANDOM_BYTES);
        let clock = context.namespace().shared().clock();
        set_clocks(&mut wasi, clock);
        set_randomness(&mut wasi, clock);
        let timer = EventTimer::new(&context.times);
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        let memory = MemoryMeter {
            context: context.clone(),
            limit_bytes: context.limits.memory_bytes,
            initial_bytes: 0,
            used_bytes: 0,
            refused: None,
        };
        Guest {
            event_ticks: ticks(context.limits.event_timeout),
            wasi: wasi.build(),
            table,
            memory,
            context,
            retired,
            log,
            event: EventState::default(),
            http: http::context(),
            outgoing,
            cas_handles: CasHandles::default(),
            timer,
        }
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// The settings that the guest can read by `wasi:config`.
    pub(super) fn settings(&mut self) -> SettingsView<'_> {
        SettingsView(&self.context.settings)
    }

    /// The buckets that the guest can use by `wasi:keyvalue`.
    pub(super) fn keyvalue(&mut self) -> KeyvalueView<'_> {
        KeyvalueView {
            context: &self.context,
            table: &mut self.table,
            cas_handles: &mut self.cas_handles,
        }
    }

    /// The client of the current event, if the event is a client's.
    pub(super) fn event_client(&self) -> Option<&EventClient<Arc<Client>>> {
        self.event.client.as_ref()
    }

    /// The client of the current event, if `id` is the id of that client.
    pub(super) fn own_client(&self, id: &str) -> Option<&EventClient<Arc<Client>>> {
        let client = self.event.client.as_ref();
        client.filter(|client| client.id_text() == id)
    }

    pub(super) fn event(&self) -> &EventState {
        &self.event
    }

    pub(super) fn event_mut(&mut self) -> &mut EventState {
        &mut self.event
    }

    /// Writes lines of the contract's `log`.
    pub(super) fn log_lines(&self, level: tracing::Level, text: &str) {
        self.log.lines(level, text);
    }

    /// Collects the evidence about an event that has just ended badly. The last lines on stderr
    /// become part of it, and are not logged again.
    pub(super) fn evidence(&self) -> Evidence<'_> {
        Evidence {
            limits: &self.context.limits,
            refused: self.memory.refused,
            is_retired: self.is_retired(),
            last_words: self.log.take_last_words(),
        }
    }

    fn is_retired(&self) -> bool {
        self.retired.is_cancelled()
    }

    fn begin(&mut self, function: GuestFunction, client: Option<EventClient<&Arc<Client>>>) {
        // In a turn it is the same client again and again.
        let is_same = match (&client, &self.event.client) {
            (Some(client), Some(former)) => client.is(former),
            (None, None) => true,
            _ => false,
        };
        if !is_same {
            self.event.client = client.map(EventClient::owned);
        }
        self.event.is_last = function == GuestFunction::Close;
        self.renew();
        let tick = self.context.processors.ticker.now();
        self.timer.begin(function, tick);
    }

    /// Gives an event what it may use, and takes back what the event before has left of it.
    fn renew(&mut self) {
        self.event.sends = 0;
        self.event.ticks_left = self.event_ticks;
        self.memory.refused = None;
        self.log.flush();
    }

    /// Begins the event of the next message of the turn, if there is one. The last event of the
    /// turn has ended if there is none.
    pub(super) fn next_message(&mut self) -> Option<MessageSpan> {
        let progress = self.timer.progress();
        let begun = progress.begun.load(Ordering::Relaxed);
        // Nothing has been done for the first one yet that could end the turn.
        if begun > 0 && self.ends_turn() {
            return None;
        }
        let next = self.event.turn.pop_front()?;
        if begun > 0 {
            self.renew();
            let tick = self.context.processors.ticker.now();
            self.timer.next_message(tick);
        }
        let progress = self.timer.progress();
        progress.begun.store(begun + 1, Ordering::Relaxed);
        Some(next)
    }

    /// Whether what is left of the turn is not for this instance, or not for now.
    fn ends_turn(&self) -> bool {
        let client_ends = match &self.event.client {
            Some(EventClient::Local(client)) => {
                client.has_left() || client.outbox().wants_attention()
            }
            _ => false,
        };
        client_ends || self.context.is_superseded.load(Ordering::Acquire)
    }

    /// Is called about once a millisecond while the guest runs. Until its time is over, the guest
    /// lets others run after each slice.
    fn tick(&mut self) -> UpdateDeadline {
        if self.is_retired() {
            return UpdateDeadline::Interrupt;
        }
        // The ticks while the event has waited are not the guest's.
        if !self.context.processors.ticker.has_ticked() {
            return UpdateDeadline::Continue(1);
        }
        if self.event.ticks_left == 0 {
            return UpdateDeadline::Interrupt;
        }
        self.event.ticks_left -= 1;
        UpdateDeadline::YieldCustom(1, Box::pin(end_slice()))
    }
}

/// How often the ticker ticks in `time`, at least once.
fn ticks(time: Duration) -> u64 {
    let ticks = time.as_millis() / TICK.as_millis();
    u64::try_from(ticks).unwrap_or(u64::MAX).max(1)
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.outgoing,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

impl Drop for MemoryMeter {
    fn drop(&mut self) {
        let Context { memory, usage, .. } = &*self.context;
        memory.give_back(&usage.memory, self.used_bytes);
    }
}

impl ResourceLimiter for MemoryMeter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Wasmtime refuses this by itself, but only afterwards.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let more = desired.saturating_sub(current);
        let used = self.used_bytes.saturating_add(more);
        let granted = match used > self.limit_bytes {
            true => Err(MemoryLimit::Instance),
            false => {
                let Context { memory, usage, .. } = &*self.context;
                memory.take(&usage.memory, more, self.context.limits.total_memory_bytes)
            }
        };
        if let Err(limit) = granted {
            self.refused = Some(RefusedMemory { bytes: used, limit });
            return Ok(false);
        }
        self.used_bytes = used;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES
    }

    fn memories(&self) -> usize {
        MEMORIES
    }

    fn tables(&self) -> usize {
        TABLES
    }
}
