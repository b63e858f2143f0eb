//! The API: what backends and operators ask of a node, over gRPC and HTTP on one port.
//!
//! `operations` has the functions, each once; `grpc` and `http` are the two ways to them. A
//! call goes straight to the router, and gets what a plugin would get there.

mod api;
mod docs;
mod events;
mod grpc;
mod http;
mod listener;
mod openapi;
mod operations;
mod problem;
mod replay;
mod schema;
mod tokens;
mod view;
mod wire;

use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;

use self::api::Api;
use self::listener::ApiListener;

pub use self::tokens::Tokens;
pub use self::view::View;

/// Listens for backends and operators at `address`, `HOST:PORT`. Without tokens whoever
/// reaches it may do anything, so that must be nobody on another machine.
pub async fn bind(address: &str, tokens: &Tokens) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}: name a free address with --api (port 0 takes one)")
    })?;
    anyhow::ensure!(
        !tokens.is_empty() || listener.local_addr()?.ip().is_loopback(),
        "--api {address} can be reached from other machines, and anybody there could do \
         anything: set tokens with --api-tokens, or listen on 127.0.0.1"
    );
    Ok(listener)
}

/// Answers until the node has ended, and finishes what it has begun by then. Its connections are
/// so many `files` at most.
pub async fn serve(listener: TcpListener, view: Arc<View>, tokens: Arc<Tokens>, files: usize) {
    let ended = view.ended().cancelled_owned();
    let api = Api::new(view.clone(), tokens);
    let routes = grpc::routes(api.clone())
        .await
        .reset_fallback()
        .merge(http::routes(api.clone()))
        .merge(view::routes(view))
        .method_not_allowed_fallback(http::wrong_method)
        .layer(axum::middleware::from_fn_with_state(
            api,
            listener::identify,
        ))
        .layer(axum::middleware::map_response(http::with_its_type_only))
        .into_make_service_with_connect_info::<listener::ConnectionOrigin>();
    let serving =
        axum::serve(ApiListener::new(listener, files), routes).with_graceful_shutdown(ended);
    if let Err(error) = serving.await {
        tracing::error!(%error, "the API's port is closed");
    }
}
