//! The API: the functions of a node that backends and operators call, over gRPC and HTTP on one
//! port.
//!
//! `operations` implements each function once, and `grpc` and `http` are the two ways to call them.
//! A call goes directly to the router, and has the same result as a call by a plugin.

mod api;
mod docs;
mod events;
mod grpc;
mod health;
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
use crate::listener::listen;

pub use self::tokens::ApiTokens;
pub use self::view::View;

/// The length of the kernel's queue of new connections on the API's port.
const BACKLOG: u32 = 1024;

/// Binds the API's listener to `address`, written as `HOST:PORT`. Without tokens, every program
/// that reaches the port may do anything, so other machines must not reach it.
///
/// # Errors
///
/// Returns an error when the address cannot be bound, or when other machines can reach it and there
/// are no tokens.
pub async fn bind(address: &str, tokens: &ApiTokens) -> anyhow::Result<TcpListener> {
    let listener = listen(address, BACKLOG).await.with_context(|| {
        format!("cannot listen on {address}: name a free address with --api (port 0 takes one)")
    })?;
    anyhow::ensure!(
        !tokens.is_empty() || listener.local_addr()?.ip().is_loopback(),
        "--api {address} can be reached from other machines, and anybody there could do \
         anything: set tokens with --api-tokens, or listen on 127.0.0.1"
    );
    Ok(listener)
}

/// Serves the API until the node has ended, and finishes the calls that have begun by then. At most
/// `files` connections are open at once.
pub async fn serve(listener: TcpListener, view: Arc<View>, tokens: Arc<ApiTokens>, files: usize) {
    let ended = view.ended().cancelled_owned();
    let api = Api::new(view.clone(), tokens);
    let routes = grpc::routes(api.clone())
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
