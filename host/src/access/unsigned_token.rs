//! JSON Web Tokens without their signatures, `HEADER.CLAIMS.`: what is left of a token where it is written
//! down for others to read.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// A text in which each token has lost its signature.
pub(crate) fn without_signatures(text: &str) -> String {
    with_words(text, |word| {
        let (token, _) = word.rsplit_once('.')?;
        claims(token)?;
        Some(word[..=token.len()].to_owned())
    })
}

/// A text in which each token without a signature is another one, which `sign` makes of its claims.
///
/// # Errors
///
/// `sign` has failed.
pub(crate) fn with_signatures<E>(
    text: &str,
    sign: impl Fn(Map<String, Value>) -> Result<String, E>,
) -> Result<String, E> {
    let mut failed = None;
    let signed = with_words(text, |word| {
        let token = word.strip_suffix('.')?;
        let claims = claims(token)?;
        let before = match token.rmatch_indices('.').nth(1) {
            Some((dot, _)) => &word[..=dot],
            None => "",
        };
        match sign(claims) {
            Ok(token) => Some(format!("{before}{token}")),
            Err(error) => {
                failed = Some(error);
                None
            }
        }
    });
    failed.map_or(Ok(signed), Err)
}

/// A text in which `changed` has replaced words of the characters that tokens have.
fn with_words(text: &str, mut changed: impl FnMut(&str) -> Option<String>) -> String {
    let is_of_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find(is_of_token) {
        let (before, found) = rest.split_at(begin);
        let end = found.find(|c| !is_of_token(c)).unwrap_or(found.len());
        let (word, after) = found.split_at(end);
        result += before;
        match changed(word) {
            Some(changed) => result += &changed,
            None => result += word,
        }
        rest = after;
    }
    result + rest
}

/// The claims of the token `HEADER.CLAIMS` that a word ends with. A word may begin with something else,
/// such as `bearer.`.
fn claims(word: &str) -> Option<Map<String, Value>> {
    let mut parts = word.rsplit('.');
    let mut object = || {
        let json = BASE64_URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
        serde_json::from_slice::<Map<String, Value>>(&json).ok()
    };
    let claims = object()?;
    object()?;
    Some(claims)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn only_the_signatures_of_tokens_are_left_out_and_can_be_made_again() {
        let part = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
        let unsigned = format!("{}.{}.", part(r#"{"alg":"HS256"}"#), part(r#"{"sub":"ada"}"#));
        let token = format!("{unsigned}c2lnbmF0dXJl");
        let sign = |claims: Map<String, Value>| {
            assert_eq!(claims["sub"], "ada");
            Ok::<_, Infallible>(token.clone())
        };
        for form in ["Bearer T", "bearer.T", "T", "a=1; session=T; b=T", "(T)"] {
            let (whole, left) = (form.replace('T', &token), form.replace('T', &unsigned));
            assert_eq!(without_signatures(&whole), left);
            assert_eq!(with_signatures(&left, sign), Ok(whole));
        }
        for text in ["", "chat.example.com", "1.2.3", "Bearer abc", "é.ü.ö", "a.b.", "..."] {
            assert_eq!(without_signatures(text), text);
            assert_eq!(with_signatures(text, sign), Ok(text.to_owned()));
        }
    }
}
