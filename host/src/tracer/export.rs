//! The queue of spans that have ended, and the task that sends them to the collector.
//!
//! No event waits for the collector: beyond the queue, spans are dropped and counted, and so are
//! those that the collector does not take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter as _, SpanProcessor};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::counters::Counters;
use crate::log_throttle::LogThrottle;

/// The most spans that wait for the collector.
const WAITING: usize = 4096;

/// The most spans in one request to the collector.
const BATCH: usize = 512;

/// How long a request waits for more spans.
const BATCH_TIME: Duration = Duration::from_secs(1);

/// The queue of spans that have ended.
#[derive(Debug)]
pub(super) struct SpanQueue {
    sender: mpsc::Sender<SpanData>,
    counters: Arc<Counters>,
    waiting: Arc<AtomicU64>,
}

/// The task that sends spans to the collector.
#[derive(Debug)]
pub(super) struct ExportTask {
    ending: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
    counters: Arc<Counters>,
    /// The spans that were neither sent nor dropped yet.
    waiting: Arc<AtomicU64>,
}

impl SpanQueue {
    /// Creates a queue, and starts the task that empties it.
    pub(super) fn new(exporter: SpanExporter, counters: Arc<Counters>) -> (SpanQueue, ExportTask) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let ending = CancellationToken::new();
        let waiting = Arc::<AtomicU64>::default();
        let (ends, counts) = (ending.clone(), (counters.clone(), waiting.clone()));
        let task = export(exporter, receiver, ends, counts);
        let task = ExportTask {
            ending,
            task: Mutex::new(Some(tokio::spawn(task))),
            counters: counters.clone(),
            waiting: waiting.clone(),
        };
        let queue = SpanQueue {
            sender,
            counters,
            waiting,
        };
        (queue, task)
    }
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        // Before the task that empties the queue can take it.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if self.sender.try_send(span).is_err() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counters.spans_dropped.add_one();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl ExportTask {
    /// Sends what waits, `patience` at most, and ends. The rest is dropped and counted.
    pub(super) async fn end(&self, patience: Duration) {
        self.ending.cancel();
        let task = self.task.lock().take();
        if let Some(mut task) = task
            && tokio::time::timeout(patience, &mut task).await.is_err()
        {
            task.abort();
            // Ended, so that it counts nothing twice.
            let _ = task.await;
            let dropped = self.waiting.load(Ordering::Relaxed);
            self.counters.spans_dropped.add(dropped);
            tracing::warn!(
                dropped,
                "the collector has not taken all spans before the node ends"
            );
        }
    }
}

async fn export(
    exporter: SpanExporter,
    mut spans: mpsc::Receiver<SpanData>,
    ending: CancellationToken,
    (counters, waiting): (Arc<Counters>, Arc<AtomicU64>),
) {
    let throttle = LogThrottle::default();
    let mut batch = Vec::new();
    loop {
        let received = tokio::select! {
            received = spans.recv_many(&mut batch, BATCH) => received,
            () = ending.cancelled() => {
                spans.close();
                spans.recv_many(&mut batch, BATCH).await
            }
        };
        if received == 0 {
            return;
        }
        fill(&mut batch, &mut spans, &ending).await;
        let count = batch.len() as u64;
        let exported = exporter.export(std::mem::take(&mut batch)).await;
        waiting.fetch_sub(count, Ordering::Relaxed);
        match exported {
            Ok(()) => counters.spans_sent.add(count),
            Err(error) => {
                counters.spans_dropped.add(count);
                if let Some(unsaid) = throttle.happened() {
                    tracing::warn!(%error, unsaid, "the collector does not take spans, which are dropped");
                }
            }
        }
    }
}

/// Waits a while for more spans, so that one request has many of them.
async fn fill(
    batch: &mut Vec<SpanData>,
    spans: &mut mpsc::Receiver<SpanData>,
    ending: &CancellationToken,
) {
    let more = async {
        while batch.len() < BATCH && spans.recv_many(batch, BATCH - batch.len()).await > 0 {}
    };
    tokio::select! {
        // What waits already comes before the end.
        biased;
        () = more => {}
        () = tokio::time::sleep(BATCH_TIME) => {}
        () = ending.cancelled() => {}
    }
}
