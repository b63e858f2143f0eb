//! Pages: the folder `NAME/` beside `NAME.wasm` is served at `/NAME/`.

use std::path::Path;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION, SEC_WEBSOCKET_VERSION, UPGRADE,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, StatusCode, Uri};
use tower::ServiceExt as _;
use tower_http::services::ServeDir;
use tower_http::services::fs::ServeFileSystemResponseBody;

/// The body of any answer.
pub(super) type Body = Either<Full<Bytes>, ServeFileSystemResponseBody>;

/// An answer of plain text.
pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::from(Bytes::from(text.into()))));
    *response.status_mut() = status;
    let utf8 = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, utf8);
    response
}

/// Answers a request that is no upgrade, for a plugin. `rest` is what follows its name:
/// `/chat/x.js` has `Some("x.js")`; `/chat`, `/` and a route of the manifest have none.
pub(super) async fn serve<B>(
    plugins: &Path,
    plugin: &str,
    rest: Option<&str>,
    request: &Request<B>,
) -> Response<Body> {
    let folder = plugins.join(plugin);
    if !tokio::fs::metadata(&folder)
        .await
        .is_ok_and(|file| file.is_dir())
    {
        return upgrade_required("connect with a WebSocket\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "pages are read with GET\n");
    }
    let Some(rest) = rest else {
        return moved_to(&format!("/{plugin}/"));
    };
    if rest
        .split('/')
        .any(|part| part.starts_with('.') || part.starts_with("%2"))
    {
        // Hidden files are hidden, however they are written.
        return text(StatusCode::NOT_FOUND, "no such page\n");
    }
    let mut file = Request::new(());
    *file.method_mut() = request.method().clone();
    *file.headers_mut() = request.headers().clone();
    *file.uri_mut() = match PathAndQuery::try_from(format!("/{rest}")) {
        Ok(path) => Uri::from(path),
        Err(_) => return text(StatusCode::BAD_REQUEST, "no such path\n"),
    };
    let served = ServeDir::new(folder)
        .redirect_path_prefix(format!("/{plugin}"))
        .oneshot(file)
        .await;
    let mut response = match served {
        Ok(response) => response.map(Either::Right),
        Err(never) => match never {},
    };
    let headers = response.headers_mut();
    // A page is replaced like a plugin: asked for again, it is sent only if it is new.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The answer to whoever should have asked for a WebSocket, and of version 13.
pub(super) fn upgrade_required(reason: &str) -> Response<Body> {
    let mut response = text(StatusCode::UPGRADE_REQUIRED, reason);
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

fn moved_to(path: &str) -> Response<Body> {
    let mut response = text(StatusCode::PERMANENT_REDIRECT, "");
    // A plugin's name fits a path, and a path of it fits a header.
    if let Ok(location) = HeaderValue::from_str(path) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}
