//! Spans: what one client, timer or call of the API has led to, on all nodes, for a tracing backend.
//!
//! The spans go to a collector over OTLP (<https://opentelemetry.io/docs/specs/otlp/>). Their context
//! is that of W3C Trace Context (<https://www.w3.org/TR/trace-context/>). It comes with the header
//! `traceparent` of a handshake or of a call of the API, and goes on in questions to other nodes, in
//! calls of plugins and in the requests of plugins. A node without a collector has no spans, and a
//! client without spans costs one look at an empty pointer for each of its events.

mod client_trace;
mod collector;
mod export;
mod remote_context;
mod span;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};

pub use self::client_trace::ClientTrace;
pub use self::collector::Collector;
use self::export::{ExportTask, SpanQueue};
pub use self::remote_context::RemoteContext;
pub use self::span::{Span, within};
use self::span::{SpanMaker, fail, number, set};
use crate::counters::Counters;
use crate::id::Incarnation;

pub use opentelemetry::trace::SpanKind;

/// The attribute with the number of a plugin's generation.
pub const GENERATION: &str = "jackfield.generation";

/// The maker of a node's spans. Without a collector, it makes none.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Arc<TracerState>>);

#[derive(Debug)]
struct TracerState {
    maker: Arc<SpanMaker>,
    follow_clients: bool,
    export: ExportTask,
    /// The owner of the queue of spans.
    _provider: SdkTracerProvider,
}

impl Tracer {
    /// Starts to send spans to the collector. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// Returns an error when the client for the collector cannot be built.
    pub fn start(
        collector: Collector,
        incarnation: Incarnation,
        counters: Arc<Counters>,
    ) -> anyhow::Result<Tracer> {
        let resource = Resource::builder_empty()
            .with_service_name(collector.service_name.clone())
            .with_attributes([
                KeyValue::new("service.instance.id", incarnation.to_string()),
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            ])
            .build();
        let (sample_ratio, follow_clients) = (collector.sample_ratio, collector.follow_clients);
        let (queue, export) = SpanQueue::new(collector.exporter(&resource)?, counters);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(queue)
            .with_resource(resource)
            // A span without a parent is begun only for the configured share.
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .build();
        Ok(Tracer(Some(Arc::new(TracerState {
            maker: Arc::new(SpanMaker::new(provider.tracer("jackfield"), sample_ratio)),
            follow_clients,
            export,
            _provider: provider,
        }))))
    }

    /// Begins the trace of a client, from the headers of its handshake. Most clients have none.
    pub fn client(&self, headers: &HeaderMap) -> Option<Box<ClientTrace>> {
        let state = self.0.as_ref()?;
        let follows = state.follow_clients;
        let span = state
            .maker
            .begin("client", SpanKind::Server, headers, follows)?;
        Some(Box::new(ClientTrace::new(span)))
    }

    /// Begins the span of a call of the API, from the headers of its request.
    pub fn call(&self, name: impl FnOnce() -> String, headers: &HeaderMap) -> Option<Span> {
        let state = self.0.as_ref()?;
        state.maker.begin(name(), SpanKind::Server, headers, true)
    }

    /// Begins the span of an event that nobody outside has caused, for the configured share of them.
    pub fn event(&self, name: &'static str) -> Option<Span> {
        let state = self.0.as_ref()?;
        let nothing = HeaderMap::new();
        state.maker.begin(name, SpanKind::Internal, &nothing, false)
    }

    /// Begins the span of what another node has asked for, if that node has a span for it.
    pub fn remote(
        &self,
        name: &'static str,
        kind: SpanKind,
        from: Option<&RemoteContext>,
    ) -> Option<Span> {
        let (state, from) = (self.0.as_ref()?, from?);
        // What is none would begin a new trace.
        let from = from.context()?;
        Some(state.maker.start(name.into(), kind, &from))
    }

    /// Begins a span within the one in which the caller runs, if there is one.
    pub fn child(&self, name: impl Into<Cow<'static, str>>, kind: SpanKind) -> Option<Span> {
        let state = self.0.as_ref()?;
        let parent = Context::map_current(|current| {
            let is_traced = current.span().span_context().is_valid();
            is_traced.then(|| current.clone())
        })?;
        Some(state.maker.start(name.into(), kind, &parent))
    }

    /// Marks the span in which the caller runs as failed, if there is one.
    pub fn fail_current(&self, why: &str) {
        if self.0.is_some() {
            Context::map_current(|current| fail(current, why));
        }
    }

    /// Says in the span in which the caller runs which generation has the event.
    pub fn set_generation(&self, generation: u64) {
        if self.0.is_some() {
            Context::map_current(|current| set(current, GENERATION, number(generation)));
        }
    }

    /// The trace in which the caller runs, for log lines.
    pub fn current_trace(&self) -> Option<String> {
        self.0.as_ref()?;
        Context::map_current(|current| {
            let context = current.span().span_context().clone();
            context.is_sampled().then(|| context.trace_id().to_string())
        })
    }

    /// Sends what waits to the collector, `patience` at most. Spans that end later are dropped.
    pub async fn end(&self, patience: Duration) {
        if let Some(state) = &self.0 {
            state.export.end(patience).await;
        }
    }
}
