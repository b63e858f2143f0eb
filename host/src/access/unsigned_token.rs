//! JSON Web Tokens without their signatures, `HEADER.CLAIMS.`: what is left of a token where it is written
//! down for others to read.

use std::ops::Range;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// A text in which each token has lost its signature.
pub(crate) fn without_signatures(text: &str) -> String {
    with_words(text, |word| {
        let token = FoundToken::in_word(word)?;
        let (signed, after) = (&word[..token.signature.start], &word[token.signature.end..]);
        Some(format!("{signed}{after}"))
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
        let token = FoundToken::in_word(word).filter(|token| token.signature.is_empty())?;
        let (before, after) = (&word[..token.begin], &word[token.signature.end..]);
        match sign(token.claims) {
            Ok(token) => Some(format!("{before}{token}{after}")),
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

/// A token `HEADER.CLAIMS.SIGNATURE` in a word.
struct FoundToken {
    begin: usize,
    claims: Map<String, Value>,
    signature: Range<usize>,
}

impl FoundToken {
    /// Finds the first token. Before it may come something else, such as `bearer.`, and after it, too.
    fn in_word(word: &str) -> Option<FoundToken> {
        let ends: Vec<usize> = word.match_indices('.').map(|(at, _)| at).collect();
        let mut from = 0;
        for (number, end) in ends.iter().enumerate() {
            let header = &word[from..*end];
            // A JSON object in base64 begins so.
            let mut begins = header.match_indices("ey").map(|(at, _)| at);
            let begin = begins.find(|begin| object(&header[*begin..]).is_some());
            let claims_end = ends.get(number + 1);
            if let (Some(begin), Some(claims_end)) = (begin, claims_end)
                && let Some(claims) = object(&word[end + 1..*claims_end])
            {
                let signature_end = ends.get(number + 2).copied().unwrap_or(word.len());
                return Some(FoundToken {
                    begin: from + begin,
                    claims,
                    signature: claims_end + 1..signature_end,
                });
            }
            from = end + 1;
        }
        None
    }
}

/// The JSON object that a part of a token is.
fn object(part: &str) -> Option<Map<String, Value>> {
    let json = BASE64_URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&json).ok()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn only_the_signatures_of_tokens_are_left_out_and_can_be_made_again() {
        let part = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
        let unsigned = format!(
            "{}.{}.",
            part(r#"{"alg":"HS256"}"#),
            part(r#"{"sub":"ada"}"#)
        );
        let token = format!("{unsigned}c2lnbmF0dXJl");
        let sign = |claims: Map<String, Value>| {
            assert_eq!(claims["sub"], "ada");
            Ok::<_, Infallible>(token.clone())
        };
        for form in [
            "Bearer T",
            "bearer.T",
            "T",
            "a=1; session=T; b=T",
            "(T)",
            "sid_T",
            "/chat/T/room",
            "T.",
        ] {
            let (whole, left) = (form.replace('T', &token), form.replace('T', &unsigned));
            assert_eq!(without_signatures(&whole), left);
            assert_eq!(with_signatures(&left, sign), Ok(whole));
        }
        for text in [
            "",
            "chat.example.com",
            "1.2.3",
            "Bearer abc",
            "é.ü.ö",
            "a.b.",
            "...",
        ] {
            assert_eq!(without_signatures(text), text);
            assert_eq!(with_signatures(text, sign), Ok(text.to_owned()));
        }
    }
}
