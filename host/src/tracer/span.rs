//! A span: where it begins, what is said about it, and what runs within it.

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderMap;
use opentelemetry::context::{FutureExt as _, WithContext};
use opentelemetry::trace::{
    Link, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::SdkTracer;

use super::remote_context::{self, RemoteContext};

/// The longest text of an attribute or a status, in bytes. Some texts are those of guests.
const TEXT_BYTES: usize = 1024;

/// The longest name of a span, in bytes.
const NAME_BYTES: usize = 128;

/// The maker of spans, which they have to begin others within them.
#[derive(Debug)]
pub(super) struct SpanMaker {
    tracer: SdkTracer,
    sample_ratio: f64,
}

/// A span, which ends when it is dropped.
#[derive(Debug)]
pub struct Span {
    context: Context,
    maker: Arc<SpanMaker>,
}

impl SpanMaker {
    pub(super) fn new(tracer: SdkTracer, sample_ratio: f64) -> SpanMaker {
        SpanMaker {
            tracer,
            sample_ratio,
        }
    }

    /// Begins a span. With `follows`, it is recorded if the headers say so; without, or where they
    /// say nothing, the configured share decides. A context that comes from outside is passed on in
    /// any case.
    pub(super) fn begin(
        self: &Arc<Self>,
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
        headers: &HeaderMap,
        follows: bool,
    ) -> Option<Span> {
        let from = remote_context::read(headers);
        let is_sampled = match &from {
            Some(from) if follows => from.is_sampled(),
            _ => self.draw(),
        };
        let parent = match from {
            None if !is_sampled => return None,
            None => Context::new(),
            Some(from) => {
                let flags = from.trace_flags().with_sampled(is_sampled);
                let (trace, span) = (from.trace_id(), from.span_id());
                let state = from.trace_state().clone();
                let from = SpanContext::new(trace, span, flags, true, state);
                Context::new().with_remote_span_context(from)
            }
        };
        Some(self.start(name.into(), kind, &parent))
    }

    pub(super) fn start(
        self: &Arc<Self>,
        name: Cow<'static, str>,
        kind: SpanKind,
        parent: &Context,
    ) -> Span {
        let name = match name.len() > NAME_BYTES {
            true => shortened(&name, NAME_BYTES).into(),
            false => name,
        };
        let span = SpanBuilder::from_name(name).with_kind(kind);
        Span {
            context: parent.with_span(self.tracer.build_with_context(span, parent)),
            maker: self.clone(),
        }
    }

    /// Decides whether one more trace is recorded.
    fn draw(&self) -> bool {
        // 32 bits are exact enough for a share.
        let drawn = getrandom::u32().unwrap_or(u32::MAX);
        f64::from(drawn) < self.sample_ratio * (f64::from(u32::MAX) + 1.0)
    }
}

impl Span {
    /// Whether the span is recorded. If it is not, its context is only passed on.
    pub fn is_recorded(&self) -> bool {
        self.context.span().is_recording()
    }

    /// Begins a span within this one.
    pub fn child(&self, name: &'static str) -> Span {
        self.maker
            .start(name.into(), SpanKind::Internal, &self.context)
    }

    /// Begins a span of a new trace, which is linked to this one.
    pub(super) fn next_trace(&self, name: &'static str) -> Span {
        let next = Context::new();
        let link = Link::with_context(self.context.span().span_context().clone());
        let span = SpanBuilder::from_name(name).with_links(vec![link]);
        Span {
            context: next.with_span(self.maker.tracer.build_with_context(span, &next)),
            maker: self.maker.clone(),
        }
    }

    /// Says something about the span. A long text is cut.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        set(&self.context, key, value);
    }

    /// Says a number about the span.
    pub fn set_number(&self, key: &'static str, value: impl TryInto<i64>) {
        self.set(key, number(value));
    }

    /// Marks the span as failed.
    pub fn fail(&self, why: &str) {
        fail(&self.context, why);
    }

    /// Writes the context of the span into the headers of a request, unless they have one.
    pub fn write_to(&self, headers: &mut HeaderMap) {
        remote_context::write(&self.context, headers);
    }

    /// The context of the span, for another node.
    pub fn remote_context(&self) -> Option<RemoteContext> {
        RemoteContext::of(&self.context)
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        // Others may have its context for longer.
        self.context.span().end();
    }
}

/// Runs `future` within a span, if there is one.
pub fn within<F: Future>(span: Option<&Span>, future: F) -> WithContext<F> {
    future.with_context(span.map_or_else(Context::current, |span| span.context.clone()))
}

pub(super) fn set(context: &Context, key: &'static str, value: impl Into<Value>) {
    let value = match value.into() {
        Value::String(text) if text.as_str().len() > TEXT_BYTES => {
            Value::from(shortened(text.as_str(), TEXT_BYTES))
        }
        value => value,
    };
    context.span().set_attribute(KeyValue::new(key, value));
}

pub(super) fn fail(context: &Context, why: &str) {
    context
        .span()
        .set_status(Status::error(shortened(why, TEXT_BYTES)));
}

pub(super) fn number(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

fn shortened(text: &str, bytes: usize) -> String {
    let end = text.floor_char_boundary(bytes);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
    use parking_lot::Mutex;

    use super::*;

    /// The spans that have ended.
    #[derive(Clone, Debug, Default)]
    struct Ended(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Ended {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().extend(batch);
            Ok(())
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let ended = Ended::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(ended.clone())
            .build();
        let maker = Arc::new(SpanMaker::new(provider.tracer("test"), 1.0));
        // The last character would be cut in two.
        let long = |bytes: usize| format!("{}é", "x".repeat(bytes - 1));
        let span = maker.start(long(NAME_BYTES).into(), SpanKind::Internal, &Context::new());
        span.set("text", long(TEXT_BYTES));
        span.fail(&long(TEXT_BYTES));
        drop(span);
        let span = ended.0.lock().pop().expect("a span");
        let shown = |bytes: usize| "x".repeat(bytes - 1);
        assert_eq!(span.name, shown(NAME_BYTES));
        assert_eq!(span.attributes, [KeyValue::new("text", shown(TEXT_BYTES))]);
        assert_eq!(span.status, Status::error(shown(TEXT_BYTES)));
    }
}
