//! The context of a span, as it comes from elsewhere and goes elsewhere: the headers `traceparent`
//! and `tracestate` of W3C Trace Context.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";

/// The longest `tracestate` that is passed on, in bytes. The specification asks for no more.
const STATE_BYTES: usize = 512;

/// The context of a span of another node, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteContext {
    /// The trace, the span and the flags: `00-TRACE-SPAN-FLAGS`.
    pub traceparent: String,
    /// What tracing systems have added, or an empty text.
    pub tracestate: String,
}

impl RemoteContext {
    /// The context of a span, if it has one.
    pub(super) fn of(context: &Context) -> Option<RemoteContext> {
        let mut text = RemoteContext::default();
        TraceContextPropagator::new().inject_context(context, &mut text);
        (!text.traceparent.is_empty()).then_some(text)
    }

    /// The context, if the text is one.
    pub(super) fn context(&self) -> Option<Context> {
        let read = TraceContextPropagator::new().extract_with_context(&Context::new(), self);
        read.span().span_context().is_valid().then_some(read)
    }
}

impl Injector for RemoteContext {
    fn set(&mut self, key: &str, value: String) {
        match key {
            PARENT => self.traceparent = value,
            STATE => self.tracestate = value,
            _ => {}
        }
    }
}

impl Extractor for RemoteContext {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            PARENT => Some(&self.traceparent),
            STATE if self.tracestate.len() <= STATE_BYTES => Some(&self.tracestate),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![PARENT, STATE]
    }
}

/// Reads the context that the headers of a request have. Two of them count as none.
pub(super) fn read(headers: &HeaderMap) -> Option<SpanContext> {
    let mut parents = headers.get_all(PARENT).iter();
    let parent = parents.next().filter(|_| parents.next().is_none())?;
    let text = |value: &HeaderValue| value.to_str().map(str::to_owned).unwrap_or_default();
    // A list that stands in several headers is one list.
    let states = headers.get_all(STATE).iter().map(text);
    let context = RemoteContext {
        traceparent: text(parent),
        tracestate: states.collect::<Vec<_>>().join(","),
    };
    let context = context.context()?;
    Some(context.span().span_context().clone())
}

/// Writes the context of a span into the headers of a request, unless they have one.
pub(super) fn write(context: &Context, headers: &mut HeaderMap) {
    if headers.contains_key(PARENT) {
        return;
    }
    let Some(text) = RemoteContext::of(context) else {
        return;
    };
    headers.remove(STATE);
    for (name, value) in [(PARENT, text.traceparent), (STATE, text.tracestate)] {
        if let Ok(value) = HeaderValue::try_from(value)
            && !value.is_empty()
        {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_is_too_long_is_not_passed_on_and_the_trace_is() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for (bytes, is_passed_on) in [(STATE_BYTES, true), (STATE_BYTES + 1, false)] {
            // Of two headers, which are one list. A member has 256 bytes at most.
            let first = format!("a={},b={}", "x".repeat(200), "y".repeat(200));
            let second = format!("c={}", "z".repeat(bytes - first.len() - ",c=".len()));
            let mut headers = HeaderMap::new();
            headers.insert(PARENT, HeaderValue::from_static(parent));
            for state in [&first, &second] {
                let state = HeaderValue::try_from(state).expect("a header");
                headers.append(STATE, state);
            }
            let span = read(&headers).expect("a context");
            let mut sent = HeaderMap::new();
            write(&Context::new().with_remote_span_context(span), &mut sent);
            assert_eq!(sent.get(PARENT), headers.get(PARENT));
            let state = is_passed_on.then(|| format!("{first},{second}"));
            let sent = sent.get(STATE).and_then(|state| state.to_str().ok());
            assert_eq!(sent, state.as_deref());
        }
    }
}
