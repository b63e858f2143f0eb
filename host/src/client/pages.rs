//! Pages: the folder `NAME/` beside `NAME.wasm` is served at `/NAME/`.

use std::path::Path;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION, X_CONTENT_TYPE_OPTIONS};
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

/// Answers a request that is no upgrade. `name` and `rest` are the path's parts: `/chat/x.js`
/// is `chat` and `Some("x.js")`, `/chat` is `chat` and none.
pub(super) async fn serve<B>(
    plugins: &Path,
    name: &str,
    rest: Option<&str>,
    request: &Request<B>,
) -> Response<Body> {
    let folder = plugins.join(name);
    if name.is_empty() || name.starts_with('.') || !folder.is_dir() {
        return text(StatusCode::NOT_FOUND, "no such page\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "pages are read with GET\n");
    }
    let Some(rest) = rest else {
        let mut response = text(StatusCode::PERMANENT_REDIRECT, "");
        if let Ok(location) = HeaderValue::from_str(&format!("/{name}/")) {
            response.headers_mut().insert(LOCATION, location);
        }
        return response;
    };
    let mut file = Request::new(());
    *file.method_mut() = request.method().clone();
    *file.headers_mut() = request.headers().clone();
    *file.uri_mut() = match PathAndQuery::try_from(format!("/{rest}")) {
        Ok(path) => Uri::from(path),
        Err(_) => return text(StatusCode::BAD_REQUEST, "no such path\n"),
    };
    let served = ServeDir::new(folder).oneshot(file).await;
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
