//! The API over HTTP. JSON is converted into the same requests as those of gRPC, and errors are
//! problem documents.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post, put};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::{Map, Value};
use tonic::Status;

use super::api::{Api, Of};
use super::extract::{Path, parameters};
use super::listener::Authenticated;
use super::operations::SCOPES;
use super::problem::{Problem, Reason};
use super::schema::SCHEMA;
use super::tokens::TokenScope;
use super::{deployments, docs, metrics, openapi, page, state, wire};
use crate::limits::CALL_BYTES_MAX;

/// The interval of the keep-alive comments in an event stream. These comments show proxies that the
/// stream is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The headers that stop proxies from holding an event stream back. The first header is for nginx.
/// The second one is for proxies that store answers, or collect them for compression.
const UNBUFFERED: [(HeaderName, &str); 2] = [
    (HeaderName::from_static("x-accel-buffering"), "no"),
    (header::CACHE_CONTROL, "no-store, no-transform"),
];

/// The routes of the API's paths.
pub(super) fn routes(api: Arc<Api>) -> Router {
    Router::new()
        .route("/v1/plugins/{plugin}/{function}", any(operate))
        .route("/v1/plugins/{plugin}/call/{method}", post(call))
        .route("/v1/plugins/{plugin}/trace", get(trace))
        .route("/v1/batch", post(batch))
        .route("/v1/events", get(events))
        .route("/v1/logs", get(logs))
        .route("/v1/state", get(state::backup).put(state::restore))
        .route("/v1/deployments", get(deployments::list))
        .route(
            "/v1/plugins/{plugin}/deployment",
            put(deployments::deploy)
                .layer(DefaultBodyLimit::disable())
                .delete(deployments::withdraw),
        )
        .route("/v1/nodes", get(nodes))
        .route("/v1/drain", post(drain))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(openapi))
        .merge(docs::routes())
        .merge(page::routes())
        .fallback(|| async { Problem::new(Reason::NotFound, "there is nothing at this path") })
        .with_state(api)
}

/// The description of the API. All answers share its bytes.
async fn openapi() -> impl IntoResponse {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (json, openapi::JSON.clone())
}

/// Tells browsers to trust the content type of an answer. A browser must not take a plugin's answer
/// for a page of this port.
pub(super) async fn with_its_type_only(mut response: Response) -> Response {
    let nosniff = HeaderValue::from_static("nosniff");
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

/// The answer to a method that a path does not accept. The router adds the header with the accepted
/// methods.
pub(super) async fn wrong_method() -> Problem {
    Problem::new(Reason::WrongMethod, "this path takes another method")
}

async fn operate(
    State(api): State<Arc<Api>>,
    Authenticated(caller): Authenticated,
    Path((plugin, function)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let name = function.replace('-', "_");
    let Some((operation, scope)) = SCHEMA.operation(&name).zip(scope_of(&name)) else {
        let shown: String = function.chars().take(64).collect();
        let message = format!("no function {shown:?}: /openapi.json lists them");
        return Err(Problem::new(Reason::NotFound, message));
    };
    let kind = operation.kind();
    let fields = kind.as_message();
    let (allowed, why) = match scope {
        TokenScope::Read => (
            "GET,HEAD,POST",
            format!("{function} is asked with GET or POST"),
        ),
        _ => ("POST", format!("{function} changes something: POST it")),
    };
    let method = request.method().as_str();
    if !allowed.split(',').any(|allowed| allowed == method) {
        let mut refused = Problem::new(Reason::WrongMethod, why).into_response();
        let allowed = HeaderValue::from_static(allowed);
        refused.headers_mut().insert(header::ALLOW, allowed);
        return Ok(refused);
    }
    let is_post = request.method() == Method::POST;
    let takes_key = fields.is_some_and(|fields| fields.get_field_by_name(KEY).is_some());
    let key = idempotency_key(request.headers(), takes_key)?.map(str::to_owned);
    let mut asked = match (is_post, fields) {
        (false, Some(message)) => from_query(query.as_deref(), message)?,
        _ => object(read_json(request, &api, json_bytes(&api, &name)).await?)?,
    };
    if let Some(named) = asked.insert("plugin".to_owned(), plugin.clone().into())
        && named != plugin
    {
        return Err(Problem::invalid(
            "the request names another plugin than its path",
        ));
    }
    if let Some(key) = key {
        // JSON may have either name, and null is none.
        let named = [KEY, KEY_IN_JSON].map(|name| asked.remove(name));
        let is_another = |named: &Value| !named.is_null() && *named != *key;
        if named.iter().flatten().any(is_another) {
            return Err(Problem::invalid(
                "the request has another idempotency key than its header",
            ));
        }
        asked.insert(KEY.to_owned(), key.into());
    }
    let operation = SCHEMA.read_operation(&name, asked.into())?;
    let outcome = api.operate(&caller, operation).await?;
    Ok(Json(SCHEMA.write_outcome(outcome)?).into_response())
}

/// Calls a method of a plugin. The body of the request is the raw payload, and the body of the
/// answer is the raw result.
async fn call(
    State(api): State<Arc<Api>>,
    Authenticated(caller): Authenticated,
    Path((plugin, method)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    idempotency_key(request.headers(), false)?;
    let plugin = api.plugin(&caller, TokenScope::Send, &plugin)?;
    let of = Of {
        caller: &caller,
        plugin: &plugin,
    };
    let request = wire::CallRequest {
        plugin: String::new(),
        method,
        payload: read_body(request.into_body(), &api, CALL_BYTES_MAX).await?,
    };
    let called = api.call(of, request).await?;
    let format = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((format, called.payload).into_response())
}

async fn batch(
    State(api): State<Arc<Api>>,
    Authenticated(caller): Authenticated,
    request: Request,
) -> Result<Response, Problem> {
    idempotency_key(request.headers(), false)?;
    let batch = SCHEMA.read_batch(read_json(request, &api, json_bytes(&api, "batch")).await?)?;
    let done = api.batch(&caller, batch).await?;
    Ok(Json(SCHEMA.write_batch(&done)?).into_response())
}

async fn events(
    State(api): State<Arc<Api>>,
    Authenticated(caller): Authenticated,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut plugins = Vec::new();
    for (name, value) in parameters(query.as_deref())? {
        match &*name {
            "plugin" => plugins.push(value.into_owned()),
            _ => {
                return Err(Problem::invalid(format!(
                    "{name:?} is no parameter: plugin is"
                )));
            }
        }
    }
    let watch = api.watch(caller, wire::WatchRequest { plugins })?;
    Ok(server_sent(watch.map(|event| {
        event.map(|event| SCHEMA.write_event(&event))
    })))
}

async fn logs(
    State(api): State<Arc<Api>>,
    Authenticated(caller): Authenticated,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut request = wire::LogsRequest::default();
    for (name, value) in parameters(query.as_deref())? {
        match &*name {
            "plugin" => request.plugins.push(value.into_owned()),
            "level" => request.level = value.into_owned(),
            _ => {
                return Err(Problem::invalid(format!(
                    "{name:?} is no parameter: plugin and level are"
                )));
            }
        }
    }
    let logs = api.logs(caller, request)?;
    Ok(server_sent(logs.map(|record| {
        record.map(|record| SCHEMA.write_log_record(&record))
    })))
}

async fn trace(
    State(api): State<Arc<Api>>,
    Authenticated(caller): Authenticated,
    Path(plugin): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut request = wire::TraceRequest {
        plugin,
        ..wire::TraceRequest::default()
    };
    for (name, value) in parameters(query.as_deref())? {
        match (&*name, &*value) {
            ("client", _) => request.client = Some(value.into_owned()),
            ("uid", _) => request.uid = Some(value.into_owned()),
            ("payloads", "true") => request.payloads = true,
            ("payloads", "false") => request.payloads = false,
            ("recording", "true") => request.recording = true,
            ("recording", "false") => request.recording = false,
            ("percent", number) if number.parse::<f64>().is_ok() => {
                request.percent = number.parse().ok();
            }
            _ => {
                return Err(Problem::invalid(format!(
                    "{name:?} is no parameter with this value: client, uid, percent=NUMBER, payloads=true and \
                     recording=true are"
                )));
            }
        }
    }
    let trace = api.trace(caller, request).await?;
    Ok(server_sent(trace.map(|step| {
        step.map(|step| SCHEMA.write_trace_step(&step))
    })))
}

/// The fields of what is sent that are no kinds of events.
const NO_KINDS: [&str; 4] = ["plugin", "at_us", "node", "client"];

/// A stream as server-sent events. The kind of an event is the name of its other field.
fn server_sent(
    answers: impl Stream<Item = Result<Result<Value, Problem>, Status>> + Send + 'static,
) -> Response {
    let told = answers.filter_map(|answer| async {
        let event = answer.ok()?.ok()?;
        let kind = event
            .as_object()?
            .keys()
            .find(|key| !NO_KINDS.contains(&key.as_str()))?
            .clone();
        let told = Event::default()
            .event(kind.replace('_', "-"))
            .json_data(event);
        told.ok().map(Ok::<_, Infallible>)
    });
    // Whoever watches reads it before anything happens: the way is open, and nobody holds it back.
    let begun = futures_util::stream::once(async { Ok(Event::default().comment("watching")) });
    let alive = KeepAlive::new().interval(KEEP_ALIVE);
    let stream = Sse::new(begun.chain(told)).keep_alive(alive);
    (UNBUFFERED, stream).into_response()
}

async fn nodes(
    State(api): State<Arc<Api>>,
    Authenticated(caller): Authenticated,
) -> Result<Response, Problem> {
    caller.check_scope(TokenScope::Read)?;
    Ok(api.view.nodes(&caller).into_response())
}

async fn drain(
    State(api): State<Arc<Api>>,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    idempotency_key(&headers, false)?;
    api.drain(&caller, &wire::DrainRequest {})?;
    Ok(Json(Map::new()).into_response())
}

/// The metrics, in the format that the caller asks for.
async fn metrics(
    State(api): State<Arc<Api>>,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    caller.check_scope(TokenScope::Read)?;
    let accept = header_text(&headers, header::ACCEPT.as_str())?;
    let written = metrics::write(&api.view, &caller, accept);
    let (format, text) = written.map_err(|error| {
        tracing::error!(%error, "the metrics cannot be written");
        Problem::new(Reason::Failed, "the metrics cannot be written")
    })?;
    Ok(([(header::CONTENT_TYPE, format)], text).into_response())
}

/// Reads the fields of a request from a query. A parameter that may appear several times is a list.
fn from_query(
    query: Option<&str>,
    message: &prost_reflect::MessageDescriptor,
) -> Result<Map<String, Value>, Problem> {
    let mut fields = Map::new();
    for (name, value) in parameters(query)? {
        let value = Value::String(value.into_owned());
        match message.get_field_by_name(&name) {
            Some(field) if field.is_list() => {
                let list = fields
                    .entry(name)
                    .or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(list) = list {
                    list.push(value);
                }
            }
            _ => {
                if fields.insert(name.to_string(), value).is_some() {
                    return Err(Problem::invalid(format!("{name:?} is there twice")));
                }
            }
        }
    }
    Ok(fields)
}

/// The largest body of a request for `function`, in bytes. A plugin's `call_bytes` may be larger
/// than an outbox, and base64 makes a payload longer by a third.
fn json_bytes(api: &Api, function: &str) -> usize {
    let request_bytes = api.view.registry().limits().request_bytes();
    match function {
        "call" => request_bytes.max(2 * CALL_BYTES_MAX),
        _ => request_bytes,
    }
}

/// Reads a body whose content type is JSON. A page of another site cannot send such a request
/// unless the browser has asked first.
async fn read_json(request: Request, api: &Api, limit: usize) -> Result<Value, Problem> {
    let format = header_text(request.headers(), header::CONTENT_TYPE.as_str())?;
    let format = format
        .and_then(|format| format.split(';').next())
        .map(str::trim);
    if !format.is_some_and(|format| format.eq_ignore_ascii_case("application/json")) {
        let message = "the body must be JSON, and say so: content-type: application/json";
        return Err(Problem::new(Reason::WrongFormat, message));
    }
    let body = read_body(request.into_body(), api, limit).await?;
    serde_json::from_slice(&body)
        .map_err(|error| Problem::invalid(format!("the body is no JSON: {error}")))
}

async fn read_body(body: Body, api: &Api, limit: usize) -> Result<Bytes, Problem> {
    let timeout = api.view.registry().limits().handshake_timeout;
    let read = Limited::new(body, limit).collect();
    let read = tokio::time::timeout(timeout, read).await.map_err(|_| {
        Problem::invalid(format!(
            "the body did not come within {timeout:?} (handshake_timeout)"
        ))
    })?;
    match read {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("the body has more than {limit} bytes");
            Err(Problem::new(Reason::TooLarge, message))
        }
        Err(error) => Err(Problem::invalid(format!(
            "the body did not come whole: {error}"
        ))),
    }
}

fn object(json: Value) -> Result<Map<String, Value>, Problem> {
    match json {
        Value::Object(fields) => Ok(fields),
        _ => Err(Problem::invalid("the body is no JSON object")),
    }
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let value = headers.get(name).map(|value| value.to_str());
    value
        .transpose()
        .map_err(|_| Problem::invalid(format!("the header {name} is no text")))
}

/// The field that the header `idempotency-key` can also contain.
const KEY: &str = "idempotency_key";
const KEY_IN_JSON: &str = "idempotencyKey";

/// The idempotency key in the headers of a request. A caller with a key expects that a second
/// request does nothing. A function that cannot guarantee this rejects the key.
fn idempotency_key(headers: &HeaderMap, takes_key: bool) -> Result<Option<&str>, Problem> {
    let invalid = |why: &str| {
        Err(Problem::invalid(format!(
            "the header idempotency-key {why}"
        )))
    };
    if headers.get_all("idempotency-key").iter().count() > 1 {
        return invalid("is there twice");
    }
    match header_text(headers, "idempotency-key")? {
        Some("") => invalid("is empty"),
        Some(_) if !takes_key => Err(Problem::invalid(
            "this takes no idempotency-key: sends do, and those of a batch as their idempotency_key",
        )),
        key => Ok(key),
    }
}

fn scope_of(function: &str) -> Option<TokenScope> {
    let found = SCOPES.iter().find(|(name, _)| *name == function);
    found.map(|(_, scope)| *scope)
}
