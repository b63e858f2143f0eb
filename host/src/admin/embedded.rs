//! Files of pages that are embedded, so that neither the node nor a browser loads them from another
//! server.

use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

/// The content types of pages and of what they load.
pub(super) const HTML: &str = "text/html; charset=utf-8";
pub(super) const CSS: &str = "text/css; charset=utf-8";
pub(super) const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The content security policy of the page. The page may load files from this port only. No other
/// page may show it, since a visitor could then be tricked into a click on it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// One embedded file of a page.
pub(super) struct EmbeddedFile {
    path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
    /// Whether `bytes` are compressed with gzip. Every browser reads gzip, so the uncompressed
    /// bytes are not stored.
    is_gzip: bool,
    etag: String,
}

/// The routes of these files. A request needs no token, since they are the same on every node.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(
    files: &'static [EmbeddedFile],
) -> Router<S> {
    files.iter().fold(Router::new(), |routes, file| {
        let answer = async |headers: HeaderMap| file.answer(&headers);
        routes.route(file.path, get(answer))
    })
}

impl EmbeddedFile {
    pub(super) fn new(
        path: &'static str,
        content_type: &'static str,
        bytes: &'static [u8],
    ) -> EmbeddedFile {
        let digest = Sha256::digest(bytes);
        EmbeddedFile {
            path,
            content_type,
            bytes,
            is_gzip: bytes.starts_with(&[0x1f, 0x8b]),
            etag: format!("\"{}\"", HEXLOWER.encode(&digest[..16])),
        }
    }

    fn answer(&'static self, headers: &HeaderMap) -> Response {
        let known = headers.get_all(header::IF_NONE_MATCH).iter();
        let mut known = known
            .filter_map(|tags| tags.to_str().ok())
            .flat_map(|tags| tags.split(','))
            // A proxy that compresses makes a tag weak.
            .map(|tag| tag.trim().trim_start_matches("W/"));
        let mut response = match known.any(|tag| tag == self.etag || tag == "*") {
            true => StatusCode::NOT_MODIFIED.into_response(),
            false => self.bytes.into_response(),
        };
        let mut say = |name: HeaderName, value: &'static str| {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        };
        say(header::CONTENT_TYPE, self.content_type);
        say(header::ETAG, &self.etag);
        // Another build of the node has other files at the same paths.
        say(header::CACHE_CONTROL, "no-cache");
        say(header::CONTENT_SECURITY_POLICY, POLICY);
        say(header::REFERRER_POLICY, "no-referrer");
        if self.is_gzip {
            say(header::CONTENT_ENCODING, "gzip");
        }
        response
    }
}
