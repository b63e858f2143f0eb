//! The queue of spans that have ended, and the task that sends them to the collector.
//!
//! No event waits for the collector: beyond the queue, spans are dropped and counted, and so are
//! those that the collector does not take.

use std::sync::Arc;
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
}

/// The task that sends spans to the collector.
#[derive(Debug)]
pub(super) struct ExportTask {
    ending: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl SpanQueue {
    /// Creates a queue, and starts the task that empties it.
    pub(super) fn new(exporter: SpanExporter, counters: Arc<Counters>) -> (SpanQueue, ExportTask) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let ending = CancellationToken::new();
        let task = export(exporter, receiver, ending.clone(), counters.clone());
        let task = ExportTask {
            ending,
            task: Mutex::new(Some(tokio::spawn(task))),
        };
        (SpanQueue { sender, counters }, task)
    }
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.sender.try_send(span).is_err() {
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
    /// Sends what waits, `patience` at most, and ends.
    pub(super) async fn end(&self, patience: Duration) {
        self.ending.cancel();
        let task = self.task.lock().take();
        if let Some(mut task) = task
            && tokio::time::timeout(patience, &mut task).await.is_err()
        {
            task.abort();
        }
    }
}

async fn export(
    exporter: SpanExporter,
    mut spans: mpsc::Receiver<SpanData>,
    ending: CancellationToken,
    counters: Arc<Counters>,
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
        match exporter.export(std::mem::take(&mut batch)).await {
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
