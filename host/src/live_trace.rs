//! Live traces: what happens to one client, to the clients of one uid, or to a share of the clients
//! that connect, for whoever watches. A recording is a live trace that has all that is needed to do the
//! same again.
//!
//! A client has a flag that says whether somebody watches it. Without one, each step costs a look at
//! that flag. A trace is read again and again; one that nobody reads any more ends by itself, since
//! its reader may be another node.

mod open_trace;
mod trace_step;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use self::open_trace::OpenTrace;
use crate::id::{ClientId, Incarnation};

pub use self::open_trace::{SHARES, TraceRequest, TraceTarget};
pub use self::trace_step::{
    Step, TraceClosed, TraceConnecting, TraceEvent, TraceFound, TracePair, TraceReceived,
    TraceSent, TraceStep,
};

/// The most traces of a node at once.
const TRACES: usize = 16;

/// How long a read of a trace waits for steps.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// A trace that was not read for so long has ended.
const UNREAD: Duration = Duration::from_secs(10);

/// A node has as many traces as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{TRACES} traces are open on the node already")]
pub struct TooManyTraces;

/// The traces that are open on a node.
#[derive(Debug)]
pub struct LiveTraces {
    node: Incarnation,
    is_active: AtomicBool,
    /// Whether any trace is about a share of the clients, so that each handshake has to look.
    has_shares: AtomicBool,
    open: Mutex<Vec<OpenTrace>>,
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
            has_shares: AtomicBool::new(false),
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
        open.push(OpenTrace::new(plugin.clone(), request.clone()));
        self.note(&open);
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
        if !self.has_shares.load(Ordering::Relaxed) {
            return;
        }
        let mut open = self.open.lock();
        self.forget_unread(&mut open);
        for open in open.iter_mut().filter(|open| &*open.plugin == plugin) {
            let falls_on = |share| rand::random_range(..SHARES) < share;
            if open.share().is_some_and(falls_on) && open.take_in(client) {
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
        let wanted = traces.iter().map(|open| open.wanted_bytes()).max();
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
        let before = open.len();
        open.retain(|open| open.read_at.elapsed() < UNREAD);
        if open.len() < before {
            self.note(open);
        }
    }

    /// Keeps the flags that say what is open.
    fn note(&self, open: &[OpenTrace]) {
        let has_shares = open.iter().any(|open| open.share().is_some());
        self.is_active.store(!open.is_empty(), Ordering::Relaxed);
        self.has_shares.store(has_shares, Ordering::Relaxed);
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
    use super::open_trace::{CLIENTS, PAYLOAD_BYTES, STEPS, WAITING_BYTES};
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
            is_recording: false,
            is_again: false,
        }
    }

    fn received(wanted: usize) -> Step {
        Step::Received(TraceReceived {
            is_text: true,
            bytes: 5,
            payload: payload_of(b"hello", wanted),
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
            traces.add(trace, client(number), &flag, TraceFound::default);
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
        traces.add(2, client(1), &flag, TraceFound::default);
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
        traces.add_bound("chat", "somebody", client(1), &flag, TraceFound::default);
        traces.add_bound("other", "u3", client(1), &flag, TraceFound::default);
        assert!(!flag.load(Ordering::Relaxed));
        traces.add_bound("chat", "u3", client(1), &flag, TraceFound::default);
        assert!(flag.load(Ordering::Relaxed));
        traces.step(client(1), &flag, received);
        assert_eq!(traces.read(3, Duration::ZERO).await.len(), 1);
        assert_eq!(traces.read(4, Duration::ZERO).await.len(), 0);
        // Who has the uid no more, or has left, is watched no more.
        traces.remove_bound("chat", "u3", client(1));
        traces.step(client(1), &flag, |_| panic!("it has lost the uid"));
        for number in 0..CLIENTS as u64 + 5 {
            traces.add_bound("chat", "u3", client(number), &flag, TraceFound::default);
            traces.forget(client(number));
        }
        traces.add_bound("chat", "u3", client(7), &flag, TraceFound::default);
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

    #[tokio::test(start_paused = true)]
    async fn a_recording_has_whole_messages_and_begins_with_what_a_client_has() {
        let (traces, plugin) = (LiveTraces::new(node()), Arc::<str>::from("chat"));
        let long = vec![7; PAYLOAD_BYTES + 1];
        let recording = TraceRequest {
            is_recording: true,
            ..request(2, TraceTarget::Uid("ada".to_owned()))
        };
        let trace = request(1, TraceTarget::Client(client(1)));
        let flag = AtomicBool::default();
        for request in [&recording, &trace] {
            assert_eq!(traces.open(&plugin, request), Ok(true));
            traces.add(request.trace, client(1), &flag, || TraceFound {
                groups: vec!["tea".to_owned()],
                ..TraceFound::default()
            });
        }
        let received = |wanted| {
            Step::Received(TraceReceived {
                is_text: false,
                bytes: long.len() as u64,
                payload: payload_of(&long, wanted),
            })
        };
        // Who is in it already is not found once more.
        traces.add_bound("chat", "ada", client(1), &flag, TraceFound::default);
        traces.step(client(1), &flag, received);
        let bytes = |steps: &[TraceStep]| match &steps.last().expect("a step").step {
            Some(Step::Received(received)) => received.payload.as_ref().map(Bytes::len),
            other => panic!("{other:?}"),
        };
        let steps = traces.read(2, Duration::ZERO).await;
        assert!(matches!(&steps[0].step, Some(Step::Found(found)) if found.groups == ["tea"]));
        assert_eq!((steps.len(), bytes(&steps)), (2, Some(long.len())));
        let steps = traces.read(1, Duration::ZERO).await;
        assert_eq!((steps.len(), bytes(&steps)), (1, Some(PAYLOAD_BYTES)));
        // What waits is bounded in bytes, too.
        let huge = vec![0; WAITING_BYTES / 2];
        for _ in 0..3 {
            traces.step(client(1), &flag, |wanted| {
                Step::Received(TraceReceived {
                    is_text: false,
                    bytes: huge.len() as u64,
                    payload: payload_of(&huge, wanted),
                })
            });
        }
        let first = traces.read(2, Duration::ZERO).await;
        assert_eq!((first.len(), bytes(&first[..1])), (2, Some(huge.len())));
        assert_eq!(first[1].step, Some(Step::Missed(2)));
        traces.step(client(1), &flag, received);
        assert_eq!(
            traces.read(2, Duration::ZERO).await.len(),
            1,
            "there is room again"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_lot_falls_on_a_share_of_those_that_connect() {
        let (traces, plugin) = (LiveTraces::new(node()), Arc::<str>::from("chat"));
        for (trace, share) in [(1, SHARES), (2, SHARES / 10)] {
            let recording = TraceRequest {
                is_recording: true,
                ..request(trace, TraceTarget::Share(share))
            };
            assert_eq!(traces.open(&plugin, &recording), Ok(true));
        }
        let flags: Vec<_> = (0..CLIENTS as u64).map(|_| AtomicBool::default()).collect();
        for (number, flag) in flags.iter().enumerate() {
            let connecting = TraceConnecting::default;
            traces.add_connecting("other", client(number as u64), flag, connecting);
            assert!(!flag.load(Ordering::Relaxed));
            traces.add_connecting("chat", client(number as u64), flag, connecting);
            assert!(flag.load(Ordering::Relaxed));
        }
        let count = async |trace| {
            let mut count = 0;
            loop {
                match traces.read(trace, Duration::ZERO).await.len() {
                    0 => return count,
                    read => count += read,
                }
            }
        };
        assert_eq!(count(1).await, CLIENTS);
        // Six standard deviations on either side.
        assert!((43..=157).contains(&count(2).await));
        // There is no room for one more, and whoever leaves makes some.
        let flag = AtomicBool::default();
        traces.add_connecting("chat", client(9_999), &flag, TraceConnecting::default);
        assert_eq!(count(1).await, 0);
        traces.forget(client(0));
        traces.add_connecting("chat", client(9_999), &flag, TraceConnecting::default);
        assert_eq!(count(1).await, 1);
    }
}
