//! Web pages: the folder `NAME/` beside `NAME.wasm` is served at `/NAME/`, and `/` lists the pages.

use std::path::Path;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, LOCATION,
    SEC_WEBSOCKET_VERSION, UPGRADE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, StatusCode, Uri};
use percent_encoding::percent_decode_str;
use tower::ServiceExt as _;
use tower_http::services::ServeDir;
use tower_http::services::fs::ServeFileSystemResponseBody;

/// The bytes of a page that are read at once, and that wait for a reader. Few, since thousands of
/// readers may not read.
const CHUNK_BYTES: usize = 16 << 10;

/// The body of any HTTP answer to a client.
pub(super) type Body = Either<Full<Bytes>, ServeFileSystemResponseBody>;

/// An HTTP answer with plain text.
pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::from(Bytes::from(text.into()))));
    *response.status_mut() = status;
    let utf8 = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, utf8);
    response
}

/// Answers a request for a plugin that is not an upgrade. `rest` is the part of the path after the
/// plugin's name: `/chat/x.js` has `Some("x.js")`, but `/chat`, `/` and a route of the manifest
/// have `None`.
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
    if !reads(request) {
        return wrong_method();
    }
    let Some(rest) = rest else {
        return found_at(&format!("/{plugin}/"));
    };
    if !may_be_read(&folder, rest).await {
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
        .with_buf_chunk_size(CHUNK_BYTES)
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

/// Whether a path may be read: it is a path in the folder, as it is written and also where links
/// lead, and no part of it begins with a dot.
async fn may_be_read(folder: &Path, rest: &str) -> bool {
    // Decoded once, as the file's path is made.
    let Ok(path) = percent_decode_str(rest).decode_utf8() else {
        return false;
    };
    if path.contains('\0') || path.split('/').any(|part| part.starts_with('.')) {
        return false;
    }
    let file = folder.join(path.trim_start_matches('/'));
    let Ok(root) = tokio::fs::canonicalize(folder).await else {
        return false;
    };
    // A folder is read through its index.
    for file in [file.join("index.html"), file] {
        if let Ok(found) = tokio::fs::canonicalize(file).await {
            return found.starts_with(root);
        }
    }
    false
}

/// Answers a request for `/` with a list of these plugins' pages. `None` means that no plugin has a
/// page.
pub(super) async fn index<B>(
    folder: &Path,
    plugins: &[&str],
    request: &Request<B>,
) -> Option<Response<Body>> {
    let mut named = Vec::new();
    for plugin in plugins {
        if has_page(folder, plugin).await {
            named.push(*plugin);
        }
    }
    if named.is_empty() {
        return None;
    }
    if !reads(request) {
        return Some(wrong_method());
    }
    let mut response = text(StatusCode::OK, list(&named));
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, INDEX_POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Some(response)
}

/// Whether a plugin has a page that can be opened.
pub(super) async fn has_page(folder: &Path, plugin: &str) -> bool {
    let page = folder.join(plugin).join("index.html");
    tokio::fs::metadata(page)
        .await
        .is_ok_and(|file| file.is_file())
}

/// The content security policy of the list. The list may only show itself and link to the pages.
const INDEX_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// The list of pages as HTML. A plugin's name contains only letters, digits, `-` and `_`
/// (`plugin/folder.rs` loads no others), so the list needs no escaping.
fn list(plugins: &[&str]) -> String {
    let item = |name: &&str| {
        format!("    <li><a href=\"/{name}/\"><b>{name}</b><span>/{name}/</span></a></li>\n")
    };
    let items: String = plugins.iter().map(item).collect();
    include_str!("index.html").replace("    <!-- pages -->\n", &items)
}

fn reads<B>(request: &Request<B>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
}

fn wrong_method() -> Response<Body> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "pages are read with GET\n");
    let allowed = HeaderValue::from_static("GET,HEAD");
    response.headers_mut().insert(ALLOW, allowed);
    response
}

/// The answer to a request that should have asked for a WebSocket of version 13.
pub(super) fn upgrade_required(reason: &str) -> Response<Body> {
    let mut response = text(StatusCode::UPGRADE_REQUIRED, reason);
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

/// A permanent redirect to the same path of another origin.
pub(super) fn moved_to(origin: &str, uri: &Uri) -> Response<Body> {
    let path = uri.path_and_query().map(PathAndQuery::as_str);
    // `*` is no path.
    let path = path.filter(|path| path.starts_with('/')).unwrap_or("/");
    redirect(StatusCode::PERMANENT_REDIRECT, &format!("{origin}{path}"))
}

/// A temporary redirect to `path`. The page that a path leads to can change with the plugins.
fn found_at(path: &str) -> Response<Body> {
    redirect(StatusCode::TEMPORARY_REDIRECT, path)
}

fn redirect(status: StatusCode, location: &str) -> Response<Body> {
    let mut response = text(status, "");
    // A plugin's name fits a path, and a path of it fits a header. An origin was checked.
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}
