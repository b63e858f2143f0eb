//! One live copy of a generation: a store, its bindings, and what one event may use.
//!
//! An instance handles one event at a time. After a trap it cannot be entered again; whoever
//! holds it drops it.

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::contract::{
    Host, Optional, Plugin, PluginPre, WithCallHandler, WithLifecycle, WithTimerHandler,
};
use super::http::{self, Outgoing};
use super::log::{LastWords, LogStream, Stream};
use super::trap::Cut;
use crate::id::{ClientId, ClientIdText};
use crate::registry::Client;

/// What a store carries: the guest's WASI, its limits, and the event it handles.
pub(super) struct Guest {
    wasi: WasiCtx,
    table: ResourceTable,
    memory: MemoryMeter,
    host: Arc<Host>,
    cut: Arc<Cut>,
    log: LogStream,
    event: Event,
    http: WasiHttpCtx,
    outgoing: Outgoing,
    /// Handles of `wasi:keyvalue` that hold a value.
    pub(super) cas_handles: usize,
}

/// Whose event it is: of a client of this node, or of one that is connected to another.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whose<C> {
    /// This node has it.
    Here(C),
    /// The node of its id has.
    There(ClientId, ClientIdText),
}

impl<C: AsRef<Client>> Whose<C> {
    pub(super) fn id(&self) -> ClientId {
        match self {
            Whose::Here(client) => client.as_ref().id(),
            Whose::There(id, _) => *id,
        }
    }

    pub(super) fn id_text(&self) -> &str {
        match self {
            Whose::Here(client) => client.as_ref().id_text(),
            Whose::There(_, text) => text,
        }
    }
}

impl Whose<&Arc<Client>> {
    /// A client of another node.
    pub(super) fn there(id: ClientId) -> Self {
        Whose::There(id, id.text())
    }

    fn is(&self, other: &Whose<Arc<Client>>) -> bool {
        match (self, other) {
            (Whose::Here(one), Whose::Here(other)) => Arc::ptr_eq(one, other),
            (Whose::There(one, _), Whose::There(other, _)) => one == other,
            _ => false,
        }
    }

    fn owned(self) -> Whose<Arc<Client>> {
        match self {
            Whose::Here(client) => Whose::Here(client.clone()),
            Whose::There(id, text) => Whose::There(id, text),
        }
    }
}

/// What one event may use, and has.
#[derive(Debug, Default)]
pub(super) struct Event {
    /// Whose event it is: mostly the client that a guest calls about, and then it need not be
    /// read from text and looked up.
    client: Option<Whose<Arc<Client>>>,
    /// This is the client's `on-close`.
    pub(super) is_last: bool,
    /// Calls that sent.
    pub(super) sends: u32,
    /// How many calls deep it is: 0, but in `on-call`.
    pub(super) depth: u32,
    /// Ticks it may still run.
    ticks_left: u64,
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
    pub(super) lifecycle: Option<WithLifecycle>,
    pub(super) call_handler: Option<WithCallHandler>,
    pub(super) timer_handler: Option<WithTimerHandler>,
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
    /// Instantiates, with the optional exports that the component has.
    pub(super) async fn new(
        pre: &PluginPre<Guest>,
        optional: Optional,
        host: &Arc<Host>,
        cut: &Arc<Cut>,
    ) -> wasmtime::Result<Instance> {
        let mut store = Store::new(pre.engine(), Guest::new(host.clone(), cut.clone()));
        store.limiter(|guest| &mut guest.memory);
        store.set_hostcall_fuel(host.hostcall_bytes);
        store.set_max_component_handles(HANDLES);
        store.epoch_deadline_callback(|mut context| Ok(context.data_mut().tick()));
        store.data_mut().begin(None, false);
        store.set_epoch_deadline(1);
        let instance = pre.instance_pre().instantiate_async(&mut store).await?;
        let plugin = Plugin::new(&mut store, &instance)?;
        let lifecycle = match optional.lifecycle {
            true => Some(WithLifecycle::new(&mut store, &instance)?),
            false => None,
        };
        let call_handler = match optional.call_handler {
            true => Some(WithCallHandler::new(&mut store, &instance)?),
            false => None,
        };
        let timer_handler = match optional.timer_handler {
            true => Some(WithTimerHandler::new(&mut store, &instance)?),
            false => None,
        };
        let memory = &mut store.data_mut().memory;
        memory.initial_bytes = memory.used_bytes;
        Ok(Instance {
            store,
            plugin,
            lifecycle,
            call_handler,
            timer_handler,
            events: 0,
        })
    }

    /// Gives the next event its allowance; `is_last`: it is the client's `on-close`.
    pub(super) fn begin(&mut self, client: Option<Whose<&Arc<Client>>>, is_last: bool) {
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
        self.events >= guest.host.limits.recycle_after_events
            || grown > guest.host.limits.recycle_above_bytes
    }

    /// Bytes of memory that it had when it was made.
    pub(super) fn initial_bytes(&self) -> usize {
        self.store.data().memory.initial_bytes
    }
}

impl Guest {
    fn new(host: Arc<Host>, cut: Arc<Cut>) -> Guest {
        let log = LogStream::new(host.clone());
        let outgoing = Outgoing::new(host.clone());
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
            limit_bytes: host.limits.memory_bytes,
            initial_bytes: 0,
            used_bytes: 0,
            refused_bytes: None,
        };
        Guest {
            wasi: wasi.build(),
            table,
            memory,
            host,
            cut,
            log,
            event: Event::default(),
            http: http::context(),
            outgoing,
            cas_handles: 0,
        }
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// The client whose event it is, if `id` is its.
    pub(super) fn own_client(&self, id: &str) -> Option<&Whose<Arc<Client>>> {
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

    /// Whether its generation ends what is under way.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.is_cut()
    }

    /// The last lines on stderr in this event: where a panic says what happened. They are not
    /// logged again.
    pub(super) fn take_last_words(&self) -> LastWords {
        self.log.take_last_words()
    }

    /// The bytes that this event was refused, if any.
    pub(super) fn refused_memory(&self) -> Option<usize> {
        self.memory.refused_bytes
    }

    fn begin(&mut self, client: Option<Whose<&Arc<Client>>>, is_last: bool) {
        // In a turn it is the same client again and again.
        let is_same = match (&client, &self.event.client) {
            (Some(client), Some(former)) => client.is(former),
            (None, None) => true,
            _ => false,
        };
        if !is_same {
            self.event.client = client.map(Whose::owned);
        }
        self.event.is_last = is_last;
        self.event.sends = 0;
        self.event.ticks_left = self.host.event_ticks;
        self.memory.refused_bytes = None;
        self.log.flush();
    }

    /// Called about once a millisecond while the guest runs: it steps aside for the other
    /// tasks of its thread, until its time is up. The plain yielding callback of wasmtime
    /// wakes its task at once, and tokio then looks at timers and sockets only after 61
    /// polls: a 1 ms timer came 69 ms late beside two looping guests.
    fn tick(&mut self) -> UpdateDeadline {
        if self.event.ticks_left == 0 || self.cut.is_cut() {
            return UpdateDeadline::Interrupt;
        }
        self.event.ticks_left -= 1;
        UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))
    }
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
