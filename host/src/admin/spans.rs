//! The spans of the API's calls, over both protocols.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::api::Api;
use super::listener::is_identified;
use crate::tracer::within;

/// The paths of the API's functions. Probes, metrics and pages have no spans.
const FUNCTIONS: [&str; 2] = ["/v1/", "/jackfield."];

/// Answers a request within a span, if it has one. Requests of unknown callers have none, since
/// strangers would fill the queue.
pub(super) async fn trace(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_function = FUNCTIONS.iter().any(|start| path.starts_with(start));
    let is_traced = is_function && is_identified(request.extensions());
    let tracer = api.view.registry().tracer();
    let span = is_traced.then(|| tracer.call(|| name(&request), request.headers()));
    let span = span.flatten();
    if let Some(span) = &span {
        span.set("http.request.method", request.method().to_string());
        span.set("url.path", path.to_owned());
    }
    let response = within(span.as_ref(), next.run(request)).await;
    if let Some(span) = &span {
        let status = response.status();
        span.set_number("http.response.status_code", status.as_u16());
        if status.is_server_error() {
            span.fail(status.as_str());
        }
    }
    response
}

/// The name of a request's span: its route, and not its path, which differs for each plugin.
fn name(request: &Request) -> String {
    let route = request.extensions().get::<MatchedPath>();
    let (method, path) = (request.method(), request.uri().path());
    match route.map(MatchedPath::as_str) {
        // The route of gRPC is that of a service.
        Some(route) if route.starts_with("/v1/") => format!("{method} {route}"),
        _ => path.trim_start_matches('/').to_owned(),
    }
}
