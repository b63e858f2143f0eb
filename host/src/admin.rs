//! The API: the functions of a node that backends and operators call, over gRPC and HTTP on one
//! port.
//!
//! `operations` implements each function once, and `grpc` and `http` are the two ways to call them.
//! A call goes directly to the router, and has the same result as a call by a plugin.

mod api;
mod audit;
mod canaries;
mod deployments;
mod docs;
mod embedded;
mod events;
mod extract;
mod gauge;
mod grpc;
mod health;
mod http;
mod listener;
mod live_traces;
mod logs;
mod metrics;
mod open_stream;
mod openapi;
mod operations;
mod operator;
mod page;
mod problem;
mod process_metrics;
mod replay;
mod schema;
mod spans;
mod state;
mod tokens;
mod view;
mod wire;

use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use self::api::Api;
use self::listener::{ApiListener, ConnectionOrigin};
use crate::certificates::Certificates;
use crate::listener::listen;
use crate::live_trace::TraceStep;

pub use self::tokens::ApiTokens;
pub use self::view::View;

/// Reads a step of a live trace from JSON, as the API writes it.
///
/// # Errors
///
/// It is no step.
pub(crate) fn trace_step(json: serde_json::Value) -> anyhow::Result<TraceStep> {
    schema::SCHEMA.read_trace_step(json)
}

/// The length of the kernel's queue of new connections on the API's port.
const BACKLOG: u32 = 1024;

/// Binds the API's listener to `address`, written as `HOST:PORT`. Without tokens, every program
/// that reaches the port may do anything, so other machines must not reach it. A socket that was
/// inherited for this address is used as it is.
///
/// # Errors
///
/// Returns an error when the address cannot be bound, or when other machines can reach it and there
/// are no tokens.
pub async fn bind(
    address: &str,
    tokens: &ApiTokens,
    inherited: Option<OwnedFd>,
) -> anyhow::Result<TcpListener> {
    let listener = match inherited {
        Some(socket) => TcpListener::from_std(socket.into())?,
        None => listen(address, BACKLOG).await.with_context(|| {
            format!("cannot listen on {address}: name a free address with --api (port 0 takes one)")
        })?,
    };
    anyhow::ensure!(
        !tokens.is_empty() || listener.local_addr()?.ip().is_loopback(),
        "--api {address} can be reached from other machines, and anybody there could do \
         anything: set tokens with --api-tokens, or listen on 127.0.0.1"
    );
    Ok(listener)
}

/// The most streams of one HTTP/2 connection, so the most calls under way on it. A stranger can hold
/// so many answers back.
const STREAMS: u32 = 100;

/// The largest head of a request over HTTP/2, in bytes, after its decompression.
const HEAD_BYTES: u32 = 16 << 10;

/// The most bytes of an answer that wait for their stream of HTTP/2.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// The time for the TLS handshake of a caller.
const TLS_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves the API until the node has ended, and finishes the calls that have begun by then. At most
/// `files` connections are open at once. With `certificates`, callers connect with TLS.
pub async fn serve(
    listener: TcpListener,
    view: Arc<View>,
    tokens: Arc<ApiTokens>,
    files: usize,
    certificates: Option<Arc<Certificates>>,
) {
    let (ended, replaced) = (view.ended(), view.replaced());
    let api = Api::new(view.clone(), tokens);
    let routes = grpc::routes(api.clone())
        .reset_fallback()
        .merge(http::routes(api.clone()))
        .merge(view::routes(view))
        .method_not_allowed_fallback(http::wrong_method)
        .layer(axum::middleware::from_fn_with_state(
            api.clone(),
            spans::trace,
        ))
        .layer(axum::middleware::from_fn_with_state(
            api,
            listener::identify,
        ))
        .layer(axum::middleware::map_response(http::with_its_type_only));
    let mut listener = ApiListener::new(listener, files);
    let connections = TaskTracker::new();
    // The connections finish their calls.
    let over = CancellationToken::new();
    loop {
        let connection = tokio::select! {
            connection = listener.accept() => connection,
            () = ended.cancelled() => break,
            // The next process has the port now.
            () = replaced.cancelled() => break,
        };
        let origin = ConnectInfo(ConnectionOrigin::of(&connection));
        let routes = routes.clone();
        let over = over.clone();
        match certificates.clone() {
            None => connections.spawn(serve_connection(connection, origin, routes, over)),
            Some(certificates) => connections.spawn(async move {
                let handshake = certificates.accept_caller(connection);
                match tokio::time::timeout(TLS_TIMEOUT, handshake).await {
                    Ok(Ok(stream)) => serve_connection(stream, origin, routes, over).await,
                    Ok(Err(error)) => tracing::debug!(%error, "a caller of the API broke off"),
                    Err(_) => tracing::debug!("a caller of the API is too slow with TLS"),
                }
            }),
        };
    }
    // Nobody waits in vain for an answer.
    drop(listener);
    connections.close();
    if !ended.is_cancelled() {
        let _ = tokio::time::timeout(AFTER_REPLACEMENT, ended.cancelled()).await;
    }
    over.cancel();
    connections.wait().await;
}

/// How long connections stay once another process has their port: their next request goes to that
/// process, and who has just connected is still answered.
const AFTER_REPLACEMENT: Duration = Duration::from_secs(2);

/// Serves one connection until its peer has left, or until its calls have ended after `over`.
async fn serve_connection(
    connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    origin: ConnectInfo<ConnectionOrigin>,
    routes: Router,
    over: CancellationToken,
) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(origin.clone());
        routes.clone().oneshot(request.map(Body::new))
    });
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http2()
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES);
    let connection = http.serve_connection(TokioIo::new(connection), service);
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = over.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection of the API broke off");
    }
}
