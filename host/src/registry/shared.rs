//! The state of a node that all its namespaces share.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};

use super::changes::Changes;
use super::client::Client;
use super::clock::Clock;
use super::dirty::DirtyLists;
use super::events::Events;
use crate::counters::Counters;
use crate::id::{ClientId, Incarnation};
use crate::limits::Limits;
use crate::live_trace::{LiveTraces, Step, TraceConnecting, TraceReceived, payload_of};
use crate::message::Message;
use crate::outbox::OutboxBudget;
use crate::tracer::Tracer;

/// The state of the node that all its namespaces share: its limits, counters, changes and events.
#[derive(Debug)]
pub struct NodeState {
    incarnation: Incarnation,
    next: AtomicU64,
    random: RandomState,
    dirty: DirtyLists,
    outbox_budget: Arc<OutboxBudget>,
    limits: ArcSwap<Limits>,
    counters: Arc<Counters>,
    tracer: Tracer,
    /// The changes for the task that tells the other nodes, if there are any.
    changes: Option<Changes>,
    /// The events for whoever watches them.
    events: Arc<Events>,
    live_traces: LiveTraces,
    clock: Clock,
}

impl NodeState {
    pub(super) fn new(
        incarnation: Incarnation,
        limits: Limits,
        counters: Arc<Counters>,
        tracer: Tracer,
        sweepers: usize,
        is_meshed: bool,
        clock: Clock,
    ) -> NodeState {
        NodeState {
            incarnation,
            next: AtomicU64::new(1),
            random: RandomState::new(),
            dirty: DirtyLists::new(sweepers),
            outbox_budget: Arc::new(OutboxBudget::new(limits.outboxes_bytes)),
            limits: ArcSwap::from_pointee(limits),
            counters,
            tracer,
            changes: is_meshed.then(Changes::default),
            events: Arc::default(),
            live_traces: LiveTraces::new(incarnation),
            clock,
        }
    }

    /// The clock of the plugins.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The changes that other nodes must be told, if the node is part of a mesh.
    pub fn changes(&self) -> Option<&Changes> {
        self.changes.as_ref()
    }

    /// The events of the node, for whoever watches them.
    pub fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// The incarnation of this run of the node.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The current limits of the node. They are not for keeping: they may be replaced.
    pub fn limits(&self) -> Guard<Arc<Limits>> {
        self.limits.load()
    }

    /// Replaces the limits of the node.
    pub fn set_limits(&self, limits: Limits) {
        self.limits.store(Arc::new(limits));
    }

    /// The counters of the node.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The maker of the node's spans.
    pub fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// The live traces of clients on this node.
    pub fn live_traces(&self) -> &LiveTraces {
        &self.live_traces
    }

    /// Adds a step to the live traces of a client. `step` gets how many bytes of payloads are
    /// wanted, and is called only if somebody watches the client.
    pub fn trace(&self, client: &Client, step: impl FnOnce(usize) -> Step) {
        if client.is_traced() {
            self.live_traces
                .step(client.id(), client.traced_flag(), step);
        }
    }

    /// Adds a client that asks to come in to the live traces of a share of its plugin's clients, if the
    /// lot falls on it. Recordings get its handshake.
    pub fn trace_connecting(
        &self,
        plugin: &str,
        client: &Client,
        handshake: impl Fn() -> TraceConnecting,
    ) {
        let flag = client.traced_flag();
        self.live_traces
            .add_connecting(plugin, client.id(), flag, handshake);
    }

    /// Counts a message that a client has sent, and shows it to whoever watches the client. Only the
    /// client's own task may do so.
    pub fn received(&self, client: &Client, message: Message<'_>) {
        let payload = message.payload();
        client.received_message(payload.len());
        self.trace(client, |wanted| {
            Step::Received(TraceReceived {
                is_text: matches!(message, Message::Text(_)),
                bytes: payload.len() as u64,
                payload: payload_of(payload, wanted),
            })
        });
    }

    /// The lists of clients that have something to write.
    pub fn dirty(&self) -> &DirtyLists {
        &self.dirty
    }

    /// The bytes that wait for all clients together.
    pub fn outbox_budget(&self) -> &Arc<OutboxBudget> {
        &self.outbox_budget
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the random part is 25 bits"
    )]
    pub(super) fn next_id(&self) -> ClientId {
        let counter = self.next.fetch_add(1, Ordering::Relaxed);
        ClientId::new(
            self.incarnation,
            counter,
            self.random.hash_one(counter) as u32,
        )
    }
}
