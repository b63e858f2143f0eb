//! The upgrade: the check of a WebSocket's opening handshake (RFC 6455, section 4.2.1), and the
//! answer that accepts it.
//!
//! Headers that are lists may have several lines (`header_list.rs`), and names in them any case.
//! tungstenite's own check reads only the first line.

use std::collections::HashSet;

use hyper::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode, Version};
use tungstenite::handshake::derive_accept_key;

use super::extensions::Deflate;
use super::header_list::elements;
use super::pages::{Body, text, upgrade_required};
use crate::access::is_token;

/// Whether a request asks for a WebSocket, even if the handshake is not valid.
pub(super) fn is_asked_for(headers: &HeaderMap) -> bool {
    has_token(headers, &UPGRADE, "websocket")
}

/// Whether a request has exactly one `Host`, as HTTP/1.1 requires (RFC 9112, section 3.2).
pub(super) fn has_good_host(version: Version, headers: &HeaderMap) -> bool {
    let of_host = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte);
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => version < Version::HTTP_11,
        (Some(host), None) => host.as_bytes().iter().all(of_host),
        (Some(_), Some(_)) => false,
    }
}

/// A valid opening handshake of a WebSocket.
pub(super) struct Good {
    /// The HTTP answer that accepts the handshake.
    pub(super) accepting: Response<Body>,
    /// The subprotocols that the client offers, each once, in the client's order.
    pub(super) offered: Vec<String>,
}

/// Reads the opening handshake from a request.
///
/// # Errors
///
/// Returns the HTTP answer that says what is wrong when the handshake is not valid.
pub(super) fn check(parts: &Parts, has_body: bool) -> Result<Good, Box<Response<Body>>> {
    let headers = &parts.headers;
    if let Some(why) = fault(parts, has_body) {
        return Err(Box::new(text(StatusCode::BAD_REQUEST, why)));
    }
    let mut versions = headers.get_all(SEC_WEBSOCKET_VERSION).iter();
    if versions.next().is_none_or(|version| version != "13") || versions.next().is_some() {
        let why = "the WebSocket version must be 13\n";
        return Err(Box::new(upgrade_required(why)));
    }
    let bad = |why: String| Box::new(text(StatusCode::BAD_REQUEST, why));
    let proof = headers.get(SEC_WEBSOCKET_KEY).and_then(accept_key);
    let no_key = || bad("Sec-WebSocket-Key must be 16 bytes in base64\n".to_owned());
    Ok(Good {
        accepting: switching(proof.ok_or_else(no_key)?),
        offered: subprotocols(headers).map_err(|error| bad(error.to_string()))?,
    })
}

/// The mistake in the request itself, or `None` if the request is correct.
fn fault(parts: &Parts, has_body: bool) -> Option<&'static str> {
    let mut keys = parts.headers.get_all(SEC_WEBSOCKET_KEY).iter();
    if parts.method != Method::GET {
        Some("a WebSocket handshake is a GET\n")
    } else if parts.version < Version::HTTP_11 {
        Some("a WebSocket handshake needs HTTP/1.1 (behind nginx: proxy_http_version 1.1)\n")
    } else if has_body {
        Some("a WebSocket handshake has no body\n")
    } else if !has_token(&parts.headers, &CONNECTION, "upgrade") {
        Some("the header Connection: Upgrade is missing; does a proxy take it out?\n")
    } else if keys.nth(1).is_some() {
        Some("the header Sec-WebSocket-Key may be there once\n")
    } else {
        None
    }
}

/// An offered subprotocol that is not a token.
#[derive(Debug, thiserror::Error)]
#[error("Sec-WebSocket-Protocol: {0:?} is no token (RFC 6455, section 4.1)\n")]
struct NotAToken(String);

/// The subprotocols from all lines of the header, each once.
///
/// # Errors
///
/// An offered subprotocol is not a token.
fn subprotocols(headers: &HeaderMap) -> Result<Vec<String>, NotAToken> {
    let mut seen = HashSet::new();
    let offered = elements(headers, &SEC_WEBSOCKET_PROTOCOL).filter(|name| seen.insert(*name));
    let offered = offered.map(|name| {
        let name = String::from_utf8_lossy(name);
        match is_token(&name) {
            true => Ok(name.into_owned()),
            false => Err(NotAToken(name.into_owned())),
        }
    });
    offered.collect()
}

/// Adds the chosen subprotocol and the extension that was agreed on to an answer.
pub(super) fn with_choices(
    mut response: Response<Body>,
    subprotocol: Option<&str>,
    deflate: Option<Deflate>,
) -> Response<Body> {
    if let Some(value) = deflate.and_then(Deflate::answer) {
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_EXTENSIONS, value);
    }
    // It was offered in a header, so it fits one.
    if let Some(value) = subprotocol.and_then(|name| HeaderValue::from_str(name).ok()) {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
    response
}

/// The accept key that proves that the client's key was read, or `None` if the client's key is not
/// valid.
fn accept_key(key: &HeaderValue) -> Option<HeaderValue> {
    let in_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    // 16 bytes are 22 letters. What the last one says beyond them is nobody's concern.
    let letters = key.as_bytes().strip_suffix(b"==")?;
    let is_key = letters.len() == 22 && letters.iter().all(in_base64);
    let proof = is_key.then(|| derive_accept_key(key.as_bytes()))?;
    HeaderValue::try_from(proof).ok()
}

fn switching(accept_key: HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::Left(Default::default()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept_key);
    response
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    elements(headers, name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::Request;
    use hyper::body::{Body as _, Incoming};
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use parking_lot::Mutex;
    use tokio::io::AsyncWriteExt as _;
    use tungstenite::handshake::server::create_response;

    use super::*;
    use crate::fuzzing::fuzz;

    #[test]
    fn a_key_is_16_bytes_in_base64() {
        for (key, is_key) in [
            ("dGhlIHNhbXBsZSBub25jZQ==", true),
            ("AAAAAAAAAAAAAAAAAAAAAA==", true),
            // Bits that mean nothing: decoders may take them (RFC 4648, section 3.5).
            ("dGhlIHNhbXBsZSBub25jZR==", true),
            ("+/+/+/+/+/+/+/+/+/+/+w==", true),
            ("", false),
            ("==", false),
            ("dGhlIHNhbXBsZSBub25jZQ", false),
            ("dGhlIHNhbXBsZSBub25jZQ=", false),
            ("dGhlIHNhbXBsZSBub25jZTE=", false),
            ("dGhlIHNhbXBsZSBub25j", false),
            ("dGhlIHNhbXBsZSBub25jZQ====", false),
            ("-_-_-_-_-_-_-_-_-_-_-w==", false),
            ("dGhlIHNhbXBsZSBub25j ZQ==", false),
        ] {
            let value = HeaderValue::from_static(key);
            assert_eq!(accept_key(&value).is_some(), is_key, "{key:?}");
        }
    }

    /// The request that comes first in these bytes, as hyper reads it, and whether it has a body.
    async fn request(bytes: &[u8]) -> Option<(Parts, bool)> {
        let (mut client, server) = tokio::io::duplex(2 * bytes.len() + 1024);
        client.write_all(bytes).await.expect("there is room");
        client.shutdown().await.expect("an end");
        let found = Mutex::new(None);
        let service = service_fn(|request: Request<Incoming>| {
            let (parts, body) = request.into_parts();
            *found.lock() = Some((parts, !body.is_end_stream()));
            std::future::ready(Ok::<_, Infallible>(text(StatusCode::OK, "")))
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .keep_alive(false)
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(server), service);
        // Whatever is wrong with the rest.
        let _ = connection.await;
        found.into_inner()
    }

    /// The accept key that tungstenite answers to a request. It reads only the first line of a
    /// header.
    fn their_accept_key(parts: &Parts) -> Option<HeaderValue> {
        let mut request = Request::new(());
        *request.headers_mut() = parts.headers.clone();
        let connections: Vec<_> = parts.headers.get_all(CONNECTION).iter().collect();
        let connections: Vec<_> = connections.iter().map(|value| value.as_bytes()).collect();
        let connections = HeaderValue::from_bytes(&connections.join(&b", "[..])).ok()?;
        request.headers_mut().insert(CONNECTION, connections);
        let response = create_response(&request).ok()?;
        response.headers().get(SEC_WEBSOCKET_ACCEPT).cloned()
    }

    #[test]
    fn whatever_comes_is_a_handshake_or_is_told_what_is_wrong() {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.expect("a runtime");
        let (mut good, mut agreed, mut bad) = (0, 0, 0);
        fuzz("handshakes", 10_000, |bytes| {
            let Some((parts, has_body)) = runtime.block_on(request(bytes)) else {
                return;
            };
            let headers = &parts.headers;
            if let Some(deflate) = Deflate::agree(headers) {
                assert!((9..=15).contains(&deflate.window_bits));
                assert!(deflate.answer().is_some());
            }
            if !is_asked_for(headers) || !has_good_host(parts.version, headers) {
                return;
            }
            match check(&parts, has_body) {
                Ok(Good { accepting, offered }) => {
                    good += 1;
                    assert!(!has_body);
                    assert_eq!(accepting.status(), StatusCode::SWITCHING_PROTOCOLS);
                    assert!(offered.iter().all(|name| is_token(name)));
                    let different: HashSet<_> = offered.iter().collect();
                    assert_eq!(different.len(), offered.len());
                    // tungstenite takes fewer lists of values.
                    if let Some(accept_key) = their_accept_key(&parts) {
                        agreed += 1;
                        assert_eq!(accepting.headers()[SEC_WEBSOCKET_ACCEPT], accept_key);
                    }
                }
                Err(response) => {
                    bad += 1;
                    assert!(response.status().is_client_error());
                }
            }
        });
        assert!(
            2 * agreed > good && agreed > 100 && bad > 100,
            "{good} good, {agreed} agreed, {bad} bad"
        );
    }
}
