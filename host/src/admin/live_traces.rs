//! Live traces of clients, over gRPC and as server-sent events: the steps of all nodes where the
//! clients are, as they come.

use std::collections::{BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::api::Api;
use super::open_stream::{AnswerStream, OpenStream, StreamSource};
use super::problem::{Problem, Reason};
use super::tokens::{ApiCaller, TokenScope};
use super::wire;
use crate::id::Incarnation;
use crate::live_trace::{PATIENCE, Step, TraceRequest, TraceStep, TraceTarget};
use crate::router::{self, Router, RouterError};

/// How often nodes that have come, or that did not answer, are asked.
const LOOK: Duration = Duration::from_secs(1);

/// One reader of a live trace.
struct TraceWatch {
    open: OpenStream,
    router: Router,
    request: TraceRequest,
    reads: FuturesUnordered<Read>,
    /// The nodes that are being read.
    asked: BTreeSet<Incarnation>,
    /// The nodes that have been read before.
    known: BTreeSet<Incarnation>,
    /// The nodes that are known not to answer. Each is said once.
    unanswered: BTreeSet<Incarnation>,
    looks: Interval,
    ready: VecDeque<TraceStep>,
}

/// A read of one node, with its outcome.
type Read = Pin<Box<dyn Future<Output = (Incarnation, ReadOutcome)> + Send>>;
type ReadOutcome = Result<Vec<TraceStep>, RouterError>;

impl Api {
    /// Opens a live trace of the clients that the request names.
    pub(super) async fn trace(
        &self,
        caller: Arc<ApiCaller>,
        request: wire::TraceRequest,
    ) -> Result<AnswerStream<TraceStep>, Problem> {
        let plugin = self.plugin(&caller, TokenScope::Read, &request.plugin)?;
        if request.payloads || request.recording {
            caller.check(TokenScope::Inspect, &request.plugin)?;
        }
        let router = plugin.router().clone();
        let target = match (request.client, request.uid, request.percent) {
            (Some(client), None, None) => {
                let client = router::client_id(&client)?;
                if !router.is_online(client).await? {
                    let message = "the client is not connected";
                    return Err(Problem::new(Reason::NotFound, message));
                }
                TraceTarget::Client(client)
            }
            (None, Some(uid), None) => {
                router.check_name("uid", &uid)?;
                TraceTarget::Uid(uid)
            }
            (None, None, Some(percent)) => TraceTarget::Share(share(percent)?),
            _ => {
                let message = "the request must have one of `client`, `uid` and `percent`";
                return Err(Problem::invalid(message));
            }
        };
        let trace = getrandom::u64().map_err(|error| {
            let message = format!("the system gives no random number: {error}");
            Problem::new(Reason::Failed, message)
        })?;
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watch = TraceWatch {
            open: self.open_stream(caller)?,
            router,
            request: TraceRequest {
                trace,
                target,
                with_payloads: request.payloads,
                is_recording: request.recording,
                is_again: false,
            },
            reads: FuturesUnordered::new(),
            asked: BTreeSet::new(),
            known: BTreeSet::new(),
            unanswered: BTreeSet::new(),
            looks,
            ready: VecDeque::new(),
        };
        watch.look();
        if request.recording {
            watch.begin().await;
        }
        Ok(watch.into_stream())
    }
}

impl StreamSource for TraceWatch {
    type Item = TraceStep;

    async fn next(&mut self) -> Result<TraceStep, Problem> {
        loop {
            if let Some(step) = self.ready.pop_front() {
                return Ok(step);
            }
            let next = async {
                tokio::select! {
                    Some(read) = self.reads.next() => Some(read),
                    _ = self.looks.tick() => None,
                }
            };
            match self.open.next(next).await? {
                Some((node, outcome)) => {
                    let is_answer = outcome.is_ok();
                    self.take(node, outcome);
                    if is_answer {
                        self.read(node);
                    }
                }
                None => self.look(),
            }
        }
    }
}

impl TraceWatch {
    /// Waits until each node has begun, or is known not to answer: a recording has all of what comes
    /// afterwards.
    async fn begin(&mut self) {
        let nodes = self.asked.clone();
        let has_begun = |watch: &TraceWatch, node| {
            watch.known.contains(node) || watch.unanswered.contains(node)
        };
        while !nodes.iter().all(|node| has_begun(self, node))
            && let Some((node, outcome)) = self.reads.next().await
        {
            self.take(node, outcome);
        }
        self.look();
    }

    /// Reads the nodes that are not being read.
    fn look(&mut self) {
        let nodes = match &self.request.target {
            TraceTarget::Client(client) => vec![self.router.node_of(*client)],
            TraceTarget::Uid(_) | TraceTarget::Share(_) => self.router.nodes(),
        };
        for node in nodes {
            if !self.asked.contains(&node) {
                self.read(node);
            }
        }
    }

    fn read(&mut self, node: Incarnation) {
        self.asked.insert(node);
        let (router, mut request) = (self.router.clone(), self.request.clone());
        request.is_again = self.known.contains(&node);
        self.reads.push(Box::pin(async move {
            let began = Instant::now();
            let read = router.read_trace(node, &request).await;
            // A node without the plugin answers at once that there is nothing.
            if read.as_ref().is_ok_and(Vec::is_empty) && began.elapsed() < PATIENCE / 2 {
                tokio::time::sleep(PATIENCE).await;
            }
            (node, read)
        }));
    }

    fn take(&mut self, node: Incarnation, outcome: ReadOutcome) {
        match outcome {
            Ok(steps) => {
                self.unanswered.remove(&node);
                self.known.insert(node);
                self.ready.extend(steps);
                self.asked.remove(&node);
            }
            Err(error) => {
                // The next look tries again.
                self.asked.remove(&node);
                if self.unanswered.insert(node) {
                    let step = Step::Unanswered(error.to_string());
                    self.ready
                        .push_back(TraceStep::now(node, String::new(), step));
                }
            }
        }
    }
}

/// How many of 10,000 clients a share in percent is.
fn share(percent: f64) -> Result<u32, Problem> {
    let share = (percent * 100.0).round();
    match (1.0..=10_000.0).contains(&share) {
        // In this range nothing is lost.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        true => Ok(share as u32),
        false => Err(Problem::invalid(
            "`percent` must be above 0 and at most 100, in steps of 0.01",
        )),
    }
}
