//! Live traces: what happens to one client, to the clients of one uid, or to a share of the clients
//! that connect, for whoever watches. A recording is a live trace that has all that is needed to do the
//! same again.
//!
//! A client has a flag that says whether somebody watches it. Without one, each step costs a look at
//! that flag. A trace is read again and again; one that nobody reads any more ends by itself, since
//! its reader may be another node.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::id::{ClientId, Incarnation};

pub use self::generated::trace_step::Step;
pub use self::generated::{
    TraceClosed, TraceConnecting, TraceEvent, TraceFound, TracePair, TraceReceived, TraceSent,
    TraceStep,
};

/// The types of `proto/jackfield/trace/v1`, generated in advance; `tests/generated` checks that they
/// are current.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod generated {
    include!("../generated/jackfield.trace.v1.rs");
}

/// The most traces of a node at once.
const TRACES: usize = 16;

/// The most clients in one trace. Of a uid that has more, the others are left out.
const CLIENTS: usize = 1_000;

/// The most steps that wait for the reader of a trace, and their most bytes.
const STEPS: usize = 8_192;
const WAITING_BYTES: usize = 8 << 20;

/// The most bytes of a payload that a step has, unless it is one of a recording.
const PAYLOAD_BYTES: usize = 4_096;

/// How many bytes a step needs beside its encoded form, approximately.
const STEP_BYTES: usize = 256;

/// An answer with so many bytes has no further step.
const ANSWER_BYTES: usize = 256 << 10;

/// Of so many clients a share is drawn.
const SHARES: u32 = 10_000;

/// How long a read of a trace waits for steps.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// A trace that was not read for so long has ended.
const UNREAD: Duration = Duration::from_secs(10);

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

/// A node has as many traces as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{TRACES} traces are open on the node already")]
pub struct TooManyTraces;

/// The traces that are open on a node.
#[derive(Debug)]
pub struct LiveTraces {
    node: Incarnation,
    is_active: AtomicBool,
    open: Mutex<Vec<OpenTrace>>,
}

#[derive(Debug)]
struct OpenTrace {
    request: TraceRequest,
    plugin: Arc<str>,
    clients: BTreeSet<ClientId>,
    steps: VecDeque<TraceStep>,
    /// The bytes of the steps.
    bytes: usize,
    missed: u64,
    /// Whether nobody knows how many steps are missing before the first one.
    has_gap: bool,
    read_at: Instant,
    has_steps: Arc<Notify>,
}

thread_local! {
    /// Who sends what this thread sends now.
    static SENDER: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Says who sends, until it is dropped.
#[derive(Debug)]
pub struct SenderGuard {
    former: String,
}

impl Drop for SenderGuard {
    fn drop(&mut self) {
        SENDER.replace(std::mem::take(&mut self.former));
    }
}

impl LiveTraces {
    /// The traces of a node, none yet.
    pub fn new(node: Incarnation) -> LiveTraces {
        LiveTraces {
            node,
            is_active: AtomicBool::new(false),
            open: Mutex::default(),
        }
    }

    /// Whether there are any traces.
    pub fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Relaxed)
    }

    /// Says who sends what this thread sends next, while there are traces.
    pub fn sends_as(&self, by: impl FnOnce() -> String) -> Option<SenderGuard> {
        self.is_active().then(|| SenderGuard {
            former: SENDER.replace(by()),
        })
    }

    /// Opens a trace of clients of a plugin, if it is not open yet. Returns whether it was opened.
    ///
    /// # Errors
    ///
    /// There are too many traces.
    pub fn open(&self, plugin: &Arc<str>, request: &TraceRequest) -> Result<bool, TooManyTraces> {
        let mut open = self.open.lock();
        self.forget_unread(&mut open);
        if open.iter().any(|open| open.request.trace == request.trace) {
            return Ok(false);
        }
        if open.len() >= TRACES {
            return Err(TooManyTraces);
        }
        open.push(OpenTrace {
            request: request.clone(),
            plugin: plugin.clone(),
            clients: BTreeSet::new(),
            steps: VecDeque::new(),
            bytes: 0,
            missed: 0,
            has_gap: request.is_again,
            read_at: Instant::now(),
            has_steps: Arc::default(),
        });
        self.is_active.store(true, Ordering::Relaxed);
        Ok(true)
    }

    /// Adds a client to a trace that is open, and sets the client's flag. A recording begins with what the
    /// client has.
    pub fn add(
        &self,
        trace: u64,
        client: ClientId,
        is_traced: &AtomicBool,
        found: impl FnOnce() -> TraceFound,
    ) {
        let mut open = self.open.lock();
        if let Some(open) = open.iter_mut().find(|open| open.request.trace == trace) {
            open.add(self.node, client, is_traced, found);
        }
    }

    /// Adds a client that has got a uid to the traces of that uid, and sets the client's flag if there
    /// are any.
    pub fn add_bound(
        &self,
        plugin: &str,
        uid: &str,
        client: ClientId,
        is_traced: &AtomicBool,
        found: impl Fn() -> TraceFound,
    ) {
        if !self.is_active() {
            return;
        }
        let mut open = self.open.lock();
        for open in open.iter_mut().filter(|open| open.is_of_uid(plugin, uid)) {
            open.add(self.node, client, is_traced, &found);
        }
    }

    /// Adds a client that asks to come in to the traces of a share of the clients for which the lot falls
    /// on it, and sets the client's flag if there are any.
    pub fn add_connecting(
        &self,
        plugin: &str,
        client: ClientId,
        is_traced: &AtomicBool,
        handshake: impl Fn() -> TraceConnecting,
    ) {
        if !self.is_active() {
            return;
        }
        let mut open = self.open.lock();
        self.forget_unread(&mut open);
        for open in open.iter_mut().filter(|open| &*open.plugin == plugin) {
            let share = match open.request.target {
                TraceTarget::Share(share) => share,
                TraceTarget::Client(_) | TraceTarget::Uid(_) => continue,
            };
            if rand::random_range(..SHARES) < share && open.take_in(client) {
                is_traced.store(true, Ordering::Relaxed);
                if open.request.is_recording {
                    let step = Step::Connecting(handshake());
                    open.push(TraceStep::now(self.node, client.to_string(), step));
                }
            }
        }
    }

    /// Takes a client that has lost a uid out of the traces of that uid.
    pub fn remove_bound(&self, plugin: &str, uid: &str, client: ClientId) {
        if !self.is_active() {
            return;
        }
        let mut open = self.open.lock();
        for open in open.iter_mut().filter(|open| open.is_of_uid(plugin, uid)) {
            open.clients.remove(&client);
        }
    }

    /// Takes a client that has left out of all traces.
    pub fn forget(&self, client: ClientId) {
        if self.is_active() {
            for open in self.open.lock().iter_mut() {
                open.clients.remove(&client);
            }
        }
    }

    /// Adds a step to all traces of the client. `step` gets how many bytes of payloads are wanted. If the
    /// client is in no trace, this clears its flag.
    pub fn step(&self, client: ClientId, is_traced: &AtomicBool, step: impl FnOnce(usize) -> Step) {
        let mut open = self.open.lock();
        self.forget_unread(&mut open);
        let of_client = |open: &&mut OpenTrace| open.clients.contains(&client);
        let mut traces: Vec<_> = open.iter_mut().filter(of_client).collect();
        if traces.is_empty() {
            is_traced.store(false, Ordering::Relaxed);
            return;
        }
        let wanted = traces.iter().map(|open| open.request.payload_bytes()).max();
        let step = step(wanted.unwrap_or_default());
        let step = TraceStep::now(self.node, client.to_string(), step);
        for open in &mut traces {
            open.push(step.clone());
        }
    }

    /// Waits until a trace has ended, since nobody reads it any more. Without this, a trace whose
    /// client has left would stay.
    pub async fn ended(&self, trace: u64) {
        loop {
            tokio::time::sleep(UNREAD).await;
            let mut open = self.open.lock();
            self.forget_unread(&mut open);
            if !open.iter().any(|open| open.request.trace == trace) {
                return;
            }
        }
    }

    /// Reads the steps that wait, or waits for some, `patience` at most.
    pub async fn read(&self, trace: u64, patience: Duration) -> Vec<TraceStep> {
        let until = Instant::now() + patience;
        loop {
            let has_steps = {
                let mut open = self.open.lock();
                let Some(open) = open.iter_mut().find(|open| open.request.trace == trace) else {
                    return Vec::new();
                };
                open.read_at = Instant::now();
                let steps = open.take(self.node);
                if !steps.is_empty() {
                    return steps;
                }
                open.has_steps.clone()
            };
            if tokio::time::timeout_at(until, has_steps.notified())
                .await
                .is_err()
            {
                return Vec::new();
            }
        }
    }

    fn forget_unread(&self, open: &mut Vec<OpenTrace>) {
        open.retain(|open| open.read_at.elapsed() < UNREAD);
        if open.is_empty() {
            self.is_active.store(false, Ordering::Relaxed);
        }
    }
}

impl TraceStep {
    /// What happens now on a node, to a client or, if the text is empty, to the trace itself.
    pub(crate) fn now(node: Incarnation, client: String, step: Step) -> TraceStep {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let at_us = since.unwrap_or_default().as_micros();
        TraceStep {
            at_us: u64::try_from(at_us).unwrap_or(u64::MAX),
            node: node.to_string(),
            client,
            step: Some(step),
        }
    }
}

impl OpenTrace {
    fn is_of_uid(&self, plugin: &str, uid: &str) -> bool {
        let is_of = |target: &TraceTarget| matches!(target, TraceTarget::Uid(of) if of == uid);
        &*self.plugin == plugin && is_of(&self.request.target)
    }

    fn add(
        &mut self,
        node: Incarnation,
        client: ClientId,
        is_traced: &AtomicBool,
        found: impl FnOnce() -> TraceFound,
    ) {
        if self.take_in(client) && self.request.is_recording {
            self.push(TraceStep::now(node, client.to_string(), Step::Found(found())));
        }
        is_traced.store(true, Ordering::Relaxed);
    }

    /// Takes a client into the trace, if there is room. Returns whether it is in it only now.
    fn take_in(&mut self, client: ClientId) -> bool {
        self.clients.len() < CLIENTS && self.clients.insert(client)
    }

    fn push(&mut self, mut step: TraceStep) {
        if let Some(payload) = payload_in(&mut step) {
            let wanted = self.request.payload_bytes();
            *payload = payload
                .take()
                .filter(|_| wanted > 0)
                .map(|payload| payload.slice(..payload.len().min(wanted)));
        }
        let bytes = step.encoded_len() + STEP_BYTES;
        if self.steps.len() >= STEPS || self.bytes + bytes > WAITING_BYTES {
            self.missed += 1;
            return;
        }
        self.bytes += bytes;
        self.steps.push_back(step);
        self.has_steps.notify_one();
    }

    /// Takes as many steps as go into one answer. Those that were missed come after the ones that
    /// were there before them.
    fn take(&mut self, node: Incarnation) -> Vec<TraceStep> {
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

/// The payload of a step, if it is one of a message.
fn payload_in(step: &mut TraceStep) -> Option<&mut Option<Bytes>> {
    match &mut step.step {
        Some(Step::Received(received)) => Some(&mut received.payload),
        Some(Step::Sent(sent)) => Some(&mut sent.payload),
        _ => None,
    }
}

/// The beginning of a payload, if any bytes of it are wanted.
pub fn payload_of(payload: &[u8], wanted: usize) -> Option<Bytes> {
    (wanted > 0).then(|| Bytes::copy_from_slice(&payload[..payload.len().min(wanted)]))
}

/// Who sends what this thread sends now.
pub fn sender() -> String {
    SENDER.with_borrow(String::clone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(counter: u64) -> ClientId {
        ClientId::new(node(), counter, 0)
    }

    fn node() -> Incarnation {
        Incarnation::from_u64(7).expect("a node")
    }

    fn request(trace: u64, target: TraceTarget) -> TraceRequest {
        TraceRequest {
            trace,
            target,
            with_payloads: trace % 2 == 1,
            is_again: false,
        }
    }

    fn received(with_payload: bool) -> Step {
        Step::Received(TraceReceived {
            is_text: true,
            bytes: 5,
            payload: payload_of(b"hello", with_payload),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn each_reader_gets_the_steps_of_its_clients_and_its_payloads_only() {
        let (traces, plugin) = (LiveTraces::new(node()), Arc::<str>::from("chat"));
        let flag = AtomicBool::new(true);
        traces.step(client(1), &flag, |_| panic!("nobody watches"));
        assert!(!flag.load(Ordering::Relaxed), "it is not asked again");
        for (trace, number) in [(1, 1), (2, 1), (3, 2)] {
            let request = request(trace, TraceTarget::Client(client(number)));
            assert_eq!(traces.open(&plugin, &request), Ok(true));
            assert_eq!(traces.open(&plugin, &request), Ok(false), "it is open");
            traces.add(trace, client(number), &flag);
        }
        assert!(flag.load(Ordering::Relaxed));
        traces.step(client(1), &flag, received);
        assert!(flag.load(Ordering::Relaxed));
        traces.step(client(3), &AtomicBool::new(true), |_| {
            panic!("nobody watches")
        });
        let payloads = async |trace| {
            let steps = traces.read(trace, Duration::from_millis(1)).await;
            let payload = |step: TraceStep| match step.step {
                Some(Step::Received(received)) => received.payload,
                other => panic!("{other:?}"),
            };
            steps.into_iter().map(payload).collect::<Vec<_>>()
        };
        assert_eq!(payloads(1).await, [Some(Bytes::from_static(b"hello"))]);
        assert_eq!(payloads(2).await, [None]);
        assert_eq!(payloads(3).await, []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_told_what_it_has_missed_and_one_that_has_gone_costs_nothing() {
        let (traces, plugin) = (LiveTraces::new(node()), Arc::<str>::from("chat"));
        let request = request(2, TraceTarget::Client(client(1)));
        assert_eq!(traces.open(&plugin, &request), Ok(true));
        let flag = AtomicBool::default();
        traces.add(2, client(1), &flag);
        for _ in 0..STEPS + 3 {
            traces.step(client(1), &flag, received);
        }
        let mut steps = Vec::new();
        while steps.len() <= STEPS {
            steps.extend(traces.read(2, Duration::ZERO).await);
        }
        assert_eq!(steps.len(), STEPS + 1);
        assert_eq!(steps[STEPS].step, Some(Step::Missed(3)));
        assert!(traces.is_active());
        // Also if nothing happens to the client any more.
        traces.ended(2).await;
        assert!(!traces.is_active());
        traces.step(client(1), &flag, |_| panic!("nobody reads"));
        // A reader that comes too late is told that it does not know what it has missed.
        let again = TraceRequest {
            is_again: true,
            ..request
        };
        assert_eq!(traces.open(&plugin, &again), Ok(true));
        let steps = traces.read(2, Duration::ZERO).await;
        assert_eq!(steps[0].step, Some(Step::Missed(0)));
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_so_many_traces_and_those_of_a_uid_get_who_is_bound_later() {
        let (traces, plugin) = (LiveTraces::new(node()), Arc::<str>::from("chat"));
        for trace in 0..TRACES as u64 {
            let request = request(trace, TraceTarget::Uid(format!("u{trace}")));
            assert_eq!(traces.open(&plugin, &request), Ok(true));
        }
        let more = request(99, TraceTarget::Client(client(1)));
        assert_eq!(traces.open(&plugin, &more), Err(TooManyTraces));
        let flag = AtomicBool::default();
        traces.add_bound("chat", "somebody", client(1), &flag);
        traces.add_bound("other", "u3", client(1), &flag);
        assert!(!flag.load(Ordering::Relaxed));
        traces.add_bound("chat", "u3", client(1), &flag);
        assert!(flag.load(Ordering::Relaxed));
        traces.step(client(1), &flag, received);
        assert_eq!(traces.read(3, Duration::ZERO).await.len(), 1);
        assert_eq!(traces.read(4, Duration::ZERO).await.len(), 0);
        // Who has the uid no more, or has left, is watched no more.
        traces.remove_bound("chat", "u3", client(1));
        traces.step(client(1), &flag, |_| panic!("it has lost the uid"));
        for number in 0..CLIENTS as u64 + 5 {
            traces.add_bound("chat", "u3", client(number), &flag);
            traces.forget(client(number));
        }
        traces.add_bound("chat", "u3", client(7), &flag);
        traces.step(client(7), &flag, received);
        assert_eq!(
            traces.read(3, Duration::ZERO).await.len(),
            1,
            "there is room again"
        );
    }

    #[test]
    fn a_sender_is_named_as_long_as_its_guard_lives() {
        let traces = LiveTraces::new(node());
        assert!(traces.sends_as(|| panic!("nobody watches")).is_none());
        let request = request(1, TraceTarget::Client(client(1)));
        assert_eq!(traces.open(&"chat".into(), &request), Ok(true));
        let outer = traces.sends_as(|| "api backend".to_owned());
        {
            let _inner = traces.sends_as(|| "on-call".to_owned());
            assert_eq!(sender(), "on-call");
        }
        assert_eq!(sender(), "api backend");
        drop(outer);
        assert_eq!(sender(), "");
    }
}
