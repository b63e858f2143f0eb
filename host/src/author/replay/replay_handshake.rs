//! The handshake of a recorded client, as it is made again.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use http::header::{
    CONTENT_LENGTH, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL, TRANSFER_ENCODING,
};
use http::{HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::handshake::client::Request;

use super::client_ids::ClientIds;
use crate::access::{NODE_HEADERS, sign_token, with_signatures};
use crate::live_trace::TraceConnecting;
use crate::registry::now_ms;

/// The headers that say how the client speaks, which is otherwise in a replay: it has no compression, and
/// its subprotocols are without that of the node.
const OF_SPEECH: [HeaderName; 4] = [
    CONTENT_LENGTH,
    SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_PROTOCOL,
    TRANSFER_ENCODING,
];

/// How long a token is valid. Tokens go by the clock of the system.
const TOKEN_VALID: Duration = Duration::from_secs(24 * 3600);

/// The request for a client at this node. Tokens in it are signed anew with the secret in the file, since
/// they have no signatures, and may have expired. `ids` are those of the clients now.
///
/// # Errors
///
/// The handshake cannot be one.
pub(super) fn request(
    handshake: &TraceConnecting,
    node: &str,
    secret: &Path,
    ids: &ClientIds,
) -> anyhow::Result<Request> {
    let now = |text: &str| with_signatures(&ids.translate(text), |claims| sign(claims, secret));
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut query = Vec::new();
    for parameter in &handshake.query {
        let value = now(&parameter.value)?;
        query.push(format!("{}={}", encoded(&parameter.name), encoded(&value)));
    }
    let query = match query.is_empty() {
        true => String::new(),
        false => format!("?{}", query.join("&")),
    };
    let url = format!("ws://{node}{}{query}", now(&handshake.path)?);
    let mut request = url
        .as_str()
        .into_client_request()
        .with_context(|| format!("{url} is no URL"))?;
    let headers = request.headers_mut();
    if !handshake.headers.is_empty() {
        // It had all that a handshake needs.
        headers.clear();
    }
    for header in &handshake.headers {
        let name = HeaderName::try_from(&header.name).context("the name of a header")?;
        if !OF_SPEECH.contains(&name) && !name.as_str().starts_with(NODE_HEADERS) {
            let value = HeaderValue::try_from(now(&header.value)?);
            headers.append(name, value.context("the value of a header")?);
        }
    }
    if !handshake.subprotocols.is_empty() {
        let offered = now(&handshake.subprotocols.join(", "))?;
        headers.insert(SEC_WEBSOCKET_PROTOCOL, offered.try_into()?);
    }
    Ok(request)
}

/// The address and port of the client, if it had one.
pub(super) fn address(handshake: &TraceConnecting) -> Option<SocketAddr> {
    handshake.remote_address.parse().ok()
}

fn sign(mut claims: Map<String, Value>, secret: &Path) -> anyhow::Result<String> {
    claims.remove("nbf");
    let until = now_ms() / 1_000 + TOKEN_VALID.as_secs();
    claims.insert("exp".to_owned(), until.into());
    sign_token(secret, &claims)
}
