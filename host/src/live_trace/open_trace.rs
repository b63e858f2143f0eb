//! A trace that is open on a node: its clients, and the steps that wait for its reader.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::trace_step::{Step, TraceFound, TraceStep};
use crate::id::{ClientId, Incarnation};

/// The most clients in one trace at a time. Others are left out.
pub(super) const CLIENTS: usize = 1_000;

/// The most steps that wait for the reader of a trace, and their most bytes.
pub(super) const STEPS: usize = 8_192;
pub(super) const WAITING_BYTES: usize = 8 << 20;

/// The most bytes of a payload that a step has, unless it is one of a recording.
pub(super) const PAYLOAD_BYTES: usize = 4_096;

/// How many bytes a step needs beside its encoded form, approximately.
const STEP_BYTES: usize = 256;

/// An answer with so many bytes has no further step.
const ANSWER_BYTES: usize = 256 << 10;

/// Of so many clients a share is drawn.
pub const SHARES: u32 = 10_000;

/// The clients that a trace is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceTarget {
    /// The one client with this id.
    Client(ClientId),
    /// All clients that have this uid, also those that get it later.
    Uid(String),
    /// So many of 10,000 clients that connect.
    Share(u32),
}

/// A trace, as its reader names it.
#[derive(Clone, Debug)]
pub struct TraceRequest {
    /// A random number, which stays the same for all reads.
    pub trace: u64,
    /// The clients that the trace is about.
    pub target: TraceTarget,
    /// Whether the steps have the payloads of messages.
    pub with_payloads: bool,
    /// Whether the steps have all that is needed to do the same again.
    pub is_recording: bool,
    /// Whether the trace was read before. If it has ended meanwhile, its reader has missed some steps.
    pub is_again: bool,
}

/// A trace that is open.
#[derive(Debug)]
pub(super) struct OpenTrace {
    pub(super) request: TraceRequest,
    pub(super) plugin: Arc<str>,
    pub(super) clients: BTreeSet<ClientId>,
    steps: VecDeque<TraceStep>,
    /// The bytes of the steps.
    bytes: usize,
    missed: u64,
    /// Whether nobody knows how many steps are missing before the first one.
    has_gap: bool,
    pub(super) read_at: Instant,
    pub(super) has_steps: Arc<Notify>,
}

impl OpenTrace {
    /// Opens a trace of clients of a plugin, without clients yet.
    pub(super) fn new(plugin: Arc<str>, request: TraceRequest) -> OpenTrace {
        OpenTrace {
            plugin,
            clients: BTreeSet::new(),
            steps: VecDeque::new(),
            bytes: 0,
            missed: 0,
            has_gap: request.is_again,
            read_at: Instant::now(),
            has_steps: Arc::default(),
            request,
        }
    }

    /// Whether it is about the clients of this uid.
    pub(super) fn is_of_uid(&self, plugin: &str, uid: &str) -> bool {
        let is_of = |target: &TraceTarget| matches!(target, TraceTarget::Uid(of) if of == uid);
        &*self.plugin == plugin && is_of(&self.request.target)
    }

    /// Adds a client, and sets its flag. A recording begins with what the client has.
    pub(super) fn add(
        &mut self,
        node: Incarnation,
        client: ClientId,
        is_traced: &AtomicBool,
        found: impl FnOnce() -> TraceFound,
    ) {
        if self.take_in(client) && self.request.is_recording {
            self.push(TraceStep::now(
                node,
                client.to_string(),
                Step::Found(found()),
            ));
        }
        is_traced.store(true, Ordering::Relaxed);
    }

    /// Takes a client into the trace, if there is room. Returns whether it is in it only now.
    pub(super) fn take_in(&mut self, client: ClientId) -> bool {
        self.clients.len() < CLIENTS && self.clients.insert(client)
    }

    /// The share of the clients that it is about, if it is about one.
    pub(super) fn share(&self) -> Option<u32> {
        match self.request.target {
            TraceTarget::Share(share) => Some(share),
            TraceTarget::Client(_) | TraceTarget::Uid(_) => None,
        }
    }

    /// How many bytes of the next payload can be used. No payload is copied that would be thrown away.
    pub(super) fn wanted_bytes(&self) -> usize {
        let room = WAITING_BYTES.saturating_sub(self.bytes);
        self.request.payload_bytes().min(room)
    }

    /// Adds a step, unless too many wait.
    pub(super) fn push(&mut self, mut step: TraceStep) {
        let wanted = self.request.payload_bytes();
        let mut is_whole = true;
        if let Some((payload, whole)) = payload_in(&mut step) {
            *payload = payload
                .take()
                .filter(|_| wanted > 0)
                // A part of it would keep the whole.
                .map(|payload| match payload.len() <= wanted {
                    true => payload,
                    false => Bytes::copy_from_slice(&payload[..wanted]),
                });
            let length = payload.as_ref().map_or(0, Bytes::len);
            is_whole = !self.request.is_recording || length as u64 == whole;
        }
        let bytes = step.encoded_len() + STEP_BYTES;
        if !is_whole || self.steps.len() >= STEPS || self.bytes + bytes > WAITING_BYTES {
            self.missed += 1;
            return;
        }
        self.bytes += bytes;
        self.steps.push_back(step);
        self.has_steps.notify_one();
    }

    /// Takes as many steps as go into one answer. Those that were missed come after the ones that
    /// were there before them.
    pub(super) fn take(&mut self, node: Incarnation) -> Vec<TraceStep> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        let missed = |steps| TraceStep::now(node, String::new(), Step::Missed(steps));
        if std::mem::take(&mut self.has_gap) {
            taken.push(missed(0));
        }
        while bytes < ANSWER_BYTES
            && let Some(step) = self.steps.pop_front()
        {
            bytes += step.encoded_len() + STEP_BYTES;
            taken.push(step);
        }
        self.bytes = self.bytes.saturating_sub(bytes);
        if self.steps.is_empty() && self.missed > 0 {
            taken.push(missed(std::mem::take(&mut self.missed)));
        }
        taken
    }
}

impl TraceRequest {
    /// How many bytes of each payload the steps have.
    fn payload_bytes(&self) -> usize {
        match (self.is_recording, self.with_payloads) {
            (true, _) => usize::MAX,
            (false, true) => PAYLOAD_BYTES,
            (false, false) => 0,
        }
    }
}

/// The payload of a step, if it is one of a message, and the bytes of the message.
fn payload_in(step: &mut TraceStep) -> Option<(&mut Option<Bytes>, u64)> {
    match &mut step.step {
        Some(Step::Received(received)) => Some((&mut received.payload, received.bytes)),
        Some(Step::Sent(sent)) => Some((&mut sent.payload, sent.bytes)),
        _ => None,
    }
}
