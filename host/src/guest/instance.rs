//! One live copy of a generation: a store, its bindings, and what one event may use.
//!
//! An instance handles one event at a time. After a trap it cannot be entered again; whoever
//! holds it drops it.

use std::sync::Arc;
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
use super::context::Context;
use super::event_client::EventClient;
use super::exports::Exports;
use super::http::{self, Outgoing};
use super::keyvalue::{CasHandles, KeyvalueView};
use super::log::{LogStream, Stream};
use super::settings::SettingsView;
use super::ticker::TICK;
use super::trap::Evidence;
use crate::registry::Client;

/// What a store carries: the guest's WASI, its limits, and the event it handles.
pub(super) struct Guest {
    wasi: WasiCtx,
    table: ResourceTable,
    memory: MemoryMeter,
    context: Arc<Context>,
    retired: CancellationToken,
    log: LogStream,
    event: Event,
    http: WasiHttpCtx,
    outgoing: Outgoing,
    cas_handles: CasHandles,
    /// `event_timeout`, in ticks.
    event_ticks: u64,
}

/// What one event may use, and has.
#[derive(Debug, Default)]
pub(super) struct Event {
    /// Whose event it is: mostly the client that a guest calls about, and then it need not be
    /// read from text and looked up.
    client: Option<EventClient<Arc<Client>>>,
    /// This is the client's `on-close`.
    pub(super) is_last: bool,
    /// Calls that sent.
    pub(super) sends: u32,
    /// How many calls deep it is: 0, but in `on-call`.
    pub(super) depth: u32,
    /// Ticks it may still run.
    ticks_left: u64,
    /// The event runs on, though its generation is retired: it is `on-stop`.
    pub(super) outlives_generation: bool,
}

/// Grants memory up to a limit, and remembers having refused.
struct MemoryMeter {
    limit_bytes: usize,
    /// What it had when it was made: some toolchains begin with a stack of 16 MiB.
    initial_bytes: usize,
    used_bytes: usize,
    refused_bytes: Option<usize>,
}

/// One live copy of a generation.
pub(super) struct Instance {
    pub(super) store: Store<Guest>,
    pub(super) plugin: Plugin,
    pub(super) lifecycle: Option<Arc<WithLifecycle>>,
    pub(super) call_handler: Option<Arc<WithCallHandler>>,
    pub(super) timer_handler: Option<Arc<WithTimerHandler>>,
    events: u32,
}

/// Tables, core instances and memories that one component instance may have: the toolchains
/// of other languages need several of each (Python: 14 core instances).
const CORE_INSTANCES: usize = 64;
const MEMORIES: usize = 4;
const TABLES: usize = 64;
const TABLE_ELEMENTS: usize = 20_000;

/// Resources of WASI that a guest may have open.
const HANDLES: usize = 1_000;
const RANDOM_BYTES: u64 = 64 << 10;

impl Instance {
    /// Instantiates, with the optional exports that the component has. `retired` ends what is
    /// under way.
    pub(super) async fn new(
        exports: &Exports<Guest>,
        context: &Arc<Context>,
        retired: &CancellationToken,
    ) -> wasmtime::Result<Instance> {
        let guest = Guest::new(context.clone(), retired.clone());
        let mut store = Store::new(exports.pre.engine(), guest);
        store.limiter(|guest| &mut guest.memory);
        let node = context.namespace().shared().limits();
        store.set_hostcall_fuel(context.limits.hostcall_bytes(node));
        store.set_max_component_handles(HANDLES);
        store.epoch_deadline_callback(|mut context| Ok(context.data_mut().tick()));
        store.data_mut().begin(None, false);
        store.set_epoch_deadline(1);
        let instance = exports.pre.instantiate_async(&mut store).await?;
        let plugin = exports.handler.load(&mut store, &instance)?;
        let lifecycle = exports.lifecycle.as_ref();
        let lifecycle = lifecycle.map(|found| found.load(&mut store, &instance));
        let call_handler = exports.call_handler.as_ref();
        let call_handler = call_handler.map(|found| found.load(&mut store, &instance));
        let timer_handler = exports.timer_handler.as_ref();
        let timer_handler = timer_handler.map(|found| found.load(&mut store, &instance));
        let memory = &mut store.data_mut().memory;
        memory.initial_bytes = memory.used_bytes;
        Ok(Instance {
            store,
            plugin,
            lifecycle: lifecycle.transpose()?.map(Arc::new),
            call_handler: call_handler.transpose()?.map(Arc::new),
            timer_handler: timer_handler.transpose()?.map(Arc::new),
            events: 0,
        })
    }

    /// Gives the next event its allowance; `is_last`: it is the client's `on-close`.
    pub(super) fn begin(&mut self, client: Option<EventClient<&Arc<Client>>>, is_last: bool) {
        self.events += 1;
        self.store.data_mut().begin(client, is_last);
        self.store.set_epoch_deadline(1);
    }

    /// Its event has ended: lets go of the client, and writes what the guest's log still holds.
    pub(super) fn rest(&mut self) {
        let guest = self.store.data_mut();
        guest.event.client = None;
        guest.log.flush();
    }

    /// Whether it should be replaced: some runtimes leak, and memory never shrinks.
    pub(super) fn is_worn(&self) -> bool {
        let guest = self.store.data();
        let grown = guest.memory.used_bytes - guest.memory.initial_bytes;
        let limits = &guest.context.limits;
        self.events >= limits.recycle_after_events || grown > limits.recycle_above_bytes
    }

    /// Bytes of memory that it had when it was made.
    pub(super) fn initial_bytes(&self) -> usize {
        self.store.data().memory.initial_bytes
    }
}

impl Guest {
    fn new(context: Arc<Context>, retired: CancellationToken) -> Guest {
        let lines = context.limits.log_lines_per_event;
        let log = LogStream::new(context.identity.clone(), lines);
        let outgoing = Outgoing::new(context.clone());
        let mut wasi = WasiCtx::builder();
        wasi.stdout(log.of(Stream::Stdout))
            .stderr(log.of(Stream::Stderr))
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(RANDOM_BYTES);
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        let memory = MemoryMeter {
            limit_bytes: context.limits.memory_bytes,
            initial_bytes: 0,
            used_bytes: 0,
            refused_bytes: None,
        };
        Guest {
            event_ticks: ticks(context.limits.event_timeout),
            wasi: wasi.build(),
            table,
            memory,
            context,
            retired,
            log,
            event: Event::default(),
            http: http::context(),
            outgoing,
            cas_handles: CasHandles::default(),
        }
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// What it can read by `wasi:config`.
    pub(super) fn settings(&mut self) -> SettingsView<'_> {
        SettingsView(&self.context.settings)
    }

    /// What it can do by `wasi:keyvalue`.
    pub(super) fn keyvalue(&mut self) -> KeyvalueView<'_> {
        KeyvalueView {
            context: &self.context,
            table: &mut self.table,
            cas_handles: &mut self.cas_handles,
        }
    }

    /// The client whose event it is, if `id` is its.
    pub(super) fn own_client(&self, id: &str) -> Option<&EventClient<Arc<Client>>> {
        let client = self.event.client.as_ref();
        client.filter(|client| client.id_text() == id)
    }

    pub(super) fn event(&self) -> &Event {
        &self.event
    }

    pub(super) fn event_mut(&mut self) -> &mut Event {
        &mut self.event
    }

    /// From the contract's `log`.
    pub(super) fn log_lines(&self, level: tracing::Level, text: &str) {
        self.log.lines(level, text);
    }

    /// What is known of the event that has just ended badly. The last lines on stderr are not
    /// logged again.
    pub(super) fn evidence(&self) -> Evidence<'_> {
        Evidence {
            limits: &self.context.limits,
            refused_bytes: self.memory.refused_bytes,
            is_retired: self.is_retired(),
            last_words: self.log.take_last_words(),
        }
    }

    fn is_retired(&self) -> bool {
        !self.event.outlives_generation && self.retired.is_cancelled()
    }

    fn begin(&mut self, client: Option<EventClient<&Arc<Client>>>, is_last: bool) {
        // In a turn it is the same client again and again.
        let is_same = match (&client, &self.event.client) {
            (Some(client), Some(former)) => client.is(former),
            (None, None) => true,
            _ => false,
        };
        if !is_same {
            self.event.client = client.map(EventClient::owned);
        }
        self.event.is_last = is_last;
        self.event.outlives_generation = false;
        self.event.sends = 0;
        self.event.ticks_left = self.event_ticks;
        self.memory.refused_bytes = None;
        self.log.flush();
    }

    /// Called about once a millisecond while the guest runs: it steps aside for the other
    /// tasks of its thread, until its time is up. The plain yielding callback of wasmtime
    /// wakes its task at once, and tokio then looks at timers and sockets only after 61
    /// polls: a 1 ms timer came 69 ms late beside two looping guests.
    fn tick(&mut self) -> UpdateDeadline {
        if self.event.ticks_left == 0 || self.is_retired() {
            return UpdateDeadline::Interrupt;
        }
        self.event.ticks_left -= 1;
        UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))
    }
}

/// How often the ticker ticks in this time, at least once.
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

impl ResourceLimiter for MemoryMeter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let used = self.used_bytes + desired.saturating_sub(current);
        if used > self.limit_bytes {
            self.refused_bytes = Some(used);
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
