//! A handshake as a recording has it. Whoever has the recording cannot connect with the tokens in it.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::access::Handshake;
use crate::live_trace::{TraceConnecting, TracePair};

/// What a recording has of a handshake.
pub(super) fn recorded(handshake: &Handshake) -> TraceConnecting {
    let pairs = |pairs: &[(String, String)]| {
        let pair = |(name, value): &(String, String)| TracePair {
            name: name.clone(),
            value: without_signatures(value).into_owned(),
        };
        pairs.iter().map(pair).collect()
    };
    let subprotocols = handshake.subprotocols.iter();
    TraceConnecting {
        path: handshake.path.clone(),
        query: pairs(&handshake.query),
        headers: pairs(&handshake.headers),
        remote_address: handshake.remote_address.clone(),
        subprotocols: subprotocols
            .map(|name| without_signatures(name).into_owned())
            .collect(),
    }
}

/// A text in which each JSON Web Token has lost its signature: `HEADER.CLAIMS.` is left of it.
fn without_signatures(text: &str) -> Cow<'_, str> {
    let is_of_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let mut kept = String::new();
    let mut rest = text;
    while let Some(begin) = rest.find(is_of_token) {
        let (before, found) = rest.split_at(begin);
        let end = found.find(|c| !is_of_token(c)).unwrap_or(found.len());
        let (word, after) = found.split_at(end);
        kept += before;
        kept += unsigned(word).unwrap_or(word);
        rest = after;
    }
    kept += rest;
    match kept == text {
        true => Cow::Borrowed(text),
        false => Cow::Owned(kept),
    }
}

/// A word without the signature of the token that it ends with, if it does. A word may begin with
/// something else, such as `bearer.`.
fn unsigned(word: &str) -> Option<&str> {
    let (token, _) = word.rsplit_once('.')?;
    let mut parts = token.rsplit('.');
    let (claims, header) = (parts.next()?, parts.next()?);
    let is_object = |part: &str| {
        let json = BASE64_URL_SAFE_NO_PAD.decode(part).ok();
        json.is_some_and(|json| serde_json::from_slice::<serde_json::Map<_, _>>(&json).is_ok())
    };
    (is_object(header) && is_object(claims)).then(|| &word[..=token.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_signatures_of_tokens_are_left_out() {
        let part = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
        let unsigned = format!("{}.{}.", part(r#"{"alg":"HS256"}"#), part(r#"{"sub":"ada"}"#));
        let token = format!("{unsigned}c2lnbmF0dXJl");
        for (text, expected) in [
            (format!("Bearer {token}"), format!("Bearer {unsigned}")),
            (format!("bearer.{token}"), format!("bearer.{unsigned}")),
            (token.clone(), unsigned.clone()),
            (
                format!("a=1; session={token}; b={token}"),
                format!("a=1; session={unsigned}; b={unsigned}"),
            ),
        ] {
            assert_eq!(without_signatures(&text), expected);
        }
        for text in ["", "chat.example.com", "1.2.3", "Bearer abc", "é.ü.ö", "a.b.", "..."] {
            assert_eq!(without_signatures(text), text);
        }
    }
}
