//! Requests of plugins: `wasi:http/outgoing-handler`, to the hosts that a manifest allows.
//!
//! ```toml
//! [http]
//! allow = ["https://api.example.com", "https://*.example.org", "http://127.0.0.1:9000"]
//! ```
//!
//! A request to any other host is denied. The host follows no redirect; a guest that follows one
//! makes a new request, which is checked like the first. An allowed name must not lead to an
//! address of this machine or its networks, unless `allow_private` names it. Each request has a
//! connection of its own, which ends after `http_timeout`, or earlier with the guest's handles. The
//! limits are `http_requests`, `http_request_bytes` and `http_response_bytes`.

mod address;
mod body;
mod error;
pub(super) mod grant;
pub(super) mod https;
mod sender;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::component::Linker;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{
    Error, RequestOptions, Result, WasiBody, WasiHttpCtx, WasiHttpHooks, WasiHttpView,
};

use self::error::internal_error;
use self::sender::{Exchange, HttpAnswer};
use super::context::Context;
use crate::limits::HTTP_FIELDS_BYTES;
use crate::manifest::RequestTarget;
use crate::tracer::{Span, SpanKind};

/// The package that a component imports to make requests.
pub(super) const PACKAGE: &str = "wasi:http";
pub(super) const INTERFACES: [&str; 2] = ["types", "outgoing-handler"];

/// The methods that give their names to spans.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];

/// The requests of one instance.
pub(super) struct OutgoingRequests(Arc<Context>);

/// Serves `wasi:http` to the guests of this linker.
pub(super) fn add_to_linker<T: WasiHttpView>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)
}

impl OutgoingRequests {
    pub(super) fn new(context: Arc<Context>) -> OutgoingRequests {
        OutgoingRequests(context)
    }

    /// Prepares the exchange for a request, or returns the error for which the request is not made.
    fn exchange(
        &self,
        request: &http::Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<Exchange> {
        let target = target(request)?;
        let grant = self.0.http.as_ref();
        let Some((grant, reach)) = grant.and_then(|g| Some((g, g.allowed.reach(&target)?))) else {
            return Err(self.deny(&target));
        };
        let limits = &self.0.limits;
        let of_plugin = grant.requests.clone().try_acquire_owned().map_err(|_| {
            let most = limits.http_requests;
            internal_error(format!(
                "{most} requests are under way already (http_requests)"
            ))
        })?;
        let of_node = self.0.services.requests.clone().try_acquire_owned();
        let of_node = of_node.map_err(|_| {
            internal_error("the node has no open files left for requests (`ulimit -n`)".to_owned())
        })?;
        let until = |wanted: fn(RequestOptions) -> Option<Duration>| {
            let wanted = options.and_then(wanted).unwrap_or(limits.http_timeout);
            Instant::now() + wanted.min(limits.http_timeout)
        };
        Ok(Exchange {
            target,
            reach,
            https: self.0.services.https.clone(),
            permit: Arc::new((of_plugin, of_node)),
            connected_until: until(|options| options.connect_timeout),
            answered_until: until(|options| options.first_byte_timeout),
            ended_until: Instant::now() + limits.http_timeout,
            request_bytes: limits.http_request_bytes,
            response_bytes: limits.http_response_bytes,
        })
    }

    /// Begins the span of a request, if the guest's event has one, and writes its context into the
    /// request's headers. The path is left out, since it may have secrets.
    fn span(&self, target: &RequestTarget, request: &mut http::Request<WasiBody>) -> Option<Span> {
        let method = request.method().as_str().to_owned();
        let tracer = self.0.namespace().shared().tracer();
        // A guest may call a method what it likes.
        let name = match METHODS.contains(&&*method) {
            true => method.clone(),
            false => "HTTP".to_owned(),
        };
        let span = tracer.child(name, SpanKind::Client)?;
        span.set("http.request.method", method);
        span.set("server.address", target.host.clone());
        span.set_number("server.port", target.port);
        span.write_to(request.headers_mut());
        Some(span)
    }

    fn deny(&self, target: &RequestTarget) -> Error {
        let identity = &self.0.identity;
        let (plugin, generation) = (&*identity.plugin, identity.generation);
        identity.counters.http_denied.add_one();
        let grant = self.0.http.as_ref();
        if grant.is_none_or(|grant| grant.is_first_denial()) {
            tracing::warn!(
                plugin,
                generation,
                %target,
                "a request is denied: http.allow in its manifest does not have it (said once)"
            );
        }
        internal_error(format!(
            "{target} is not allowed: write \"{target}\" under http.allow in {plugin}.toml"
        ))
    }
}

/// The host that a request is for, read from the authority in its URI.
fn target(request: &http::Request<WasiBody>) -> Result<RequestTarget> {
    let uri = request.uri();
    // It would make a way through whoever is allowed to whoever is not.
    if request.method() == http::Method::CONNECT {
        return Err(Error::HttpRequestMethodInvalid);
    }
    let is_https = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(Error::HttpRequestUriInvalid),
    };
    let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
    RequestTarget::read(is_https, authority.as_str()).ok_or(Error::HttpRequestUriInvalid)
}

/// The state of `wasi:http` for one guest, with the size limit of a request's or response's
/// headers.
pub(super) fn context() -> WasiHttpCtx {
    let mut context = WasiHttpCtx::new();
    context.set_field_size_limit(HTTP_FIELDS_BYTES);
    context
}

impl WasiHttpHooks for OutgoingRequests {
    fn send_request(
        &mut self,
        mut request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<()>> + Send>,
    ) -> Box<dyn Future<Output = Result<HttpAnswer>> + Send> {
        let counters = self.0.identity.counters.clone();
        counters.http_requests.add_one();
        let exchange = self.exchange(&request, options);
        let span = exchange.as_ref().ok();
        let span = span.and_then(|exchange| self.span(&exchange.target, &mut request));
        Box::new(async move {
            let answered = match exchange {
                Ok(exchange) => exchange.run(request).await,
                // It has been counted as denied, or has not begun.
                Err(error) => return Err(error),
            };
            if answered.is_err() {
                counters.http_failed.add_one();
            }
            if let Some(span) = span {
                match &answered {
                    Ok((response, _)) => {
                        span.set_number("http.response.status_code", response.status().as_u16());
                    }
                    Err(error) => span.fail(&format!("{error:?}")),
                }
            }
            answered
        })
    }

    // The crate's own log a line each, which a guest could make as many as it likes.

    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        ErrorCode::InternalError(Some(error.to_string()))
    }

    fn p2_error_from_connect(&mut self, error: &std::io::Error) -> ErrorCode {
        ErrorCode::InternalError(Some(error.to_string()))
    }

    fn p2_error_from_tls(&mut self, error: &std::io::Error) -> ErrorCode {
        ErrorCode::InternalError(Some(error.to_string()))
    }
}
