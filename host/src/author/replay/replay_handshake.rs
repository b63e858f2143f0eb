//! The handshake of a recorded client, as it is made again.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::handshake::client::Request;

use super::recorded_step::RecordedHandshake;
use crate::access::{NODE_HEADERS, sign_token, with_signatures};
use crate::registry::now_ms;

/// The headers of one connection, which the next one has itself.
const OF_CONNECTION: [HeaderName; 9] = [
    CONNECTION,
    CONTENT_LENGTH,
    HOST,
    SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// How long a token is valid. Tokens go by the clock of the system.
const TOKEN_VALID: Duration = Duration::from_secs(24 * 3600);

/// The request for a client at this address. Tokens in it are signed anew, with the secret in the file, as
/// they may have expired and have no signatures.
///
/// # Errors
///
/// The handshake cannot be one.
pub(super) fn request(
    handshake: &RecordedHandshake,
    address: &str,
    secret: &Path,
) -> anyhow::Result<Request> {
    let sign = |text: &str| with_signatures(text, |claims| sign(claims, secret));
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut query = Vec::new();
    for parameter in &handshake.query {
        let value = sign(&parameter.value)?;
        query.push(format!("{}={}", encoded(&parameter.name), encoded(&value)));
    }
    let query = match query.is_empty() {
        true => String::new(),
        false => format!("?{}", query.join("&")),
    };
    let url = format!("ws://{address}{}{query}", handshake.path);
    let mut request = url
        .as_str()
        .into_client_request()
        .with_context(|| format!("{url} is no URL"))?;
    let headers = request.headers_mut();
    for header in &handshake.headers {
        let name = HeaderName::try_from(&header.name).context("the name of a header")?;
        if !OF_CONNECTION.contains(&name) && !name.as_str().starts_with(NODE_HEADERS) {
            let value = sign(&header.value)?;
            headers.append(name, HeaderValue::try_from(value).context("the value of a header")?);
        }
    }
    if !handshake.subprotocols.is_empty() {
        let offered = sign(&handshake.subprotocols.join(", "))?;
        headers.insert(SEC_WEBSOCKET_PROTOCOL, offered.try_into()?);
    }
    Ok(request)
}

fn sign(
    mut claims: serde_json::Map<String, serde_json::Value>,
    secret: &Path,
) -> anyhow::Result<String> {
    claims.remove("nbf");
    let until = now_ms() / 1_000 + TOKEN_VALID.as_secs();
    claims.insert("exp".to_owned(), until.into());
    sign_token(secret, &claims)
}
