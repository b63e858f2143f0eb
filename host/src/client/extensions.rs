//! The negotiation of extensions (RFC 6455, section 9.1): permessage-deflate, if the plugin's
//! manifest has it.

use std::ops::RangeInclusive;

use hyper::header::{HeaderMap, HeaderValue, SEC_WEBSOCKET_EXTENSIONS};

use super::header_list::elements;

/// The extension as it was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deflate {
    /// The base-two logarithm of the window that the client has for what the node sends.
    pub(super) window_bits: u8,
    /// Whether the client has named the window.
    is_named: bool,
}

/// The windows that a client may name (RFC 7692, section 7.1.2.1).
const WINDOW_BITS: RangeInclusive<u8> = 8..=15;

/// The smallest window that the compressor can have.
const LEAST_WINDOW_BITS: u8 = 9;

impl Deflate {
    /// Accepts the first offer of the client that can be met, if there is one.
    pub(super) fn agree(headers: &HeaderMap) -> Option<Deflate> {
        elements(headers, &SEC_WEBSOCKET_EXTENSIONS).find_map(Deflate::of_offer)
    }

    fn of_offer(offer: &[u8]) -> Option<Deflate> {
        let offer = std::str::from_utf8(offer).ok()?;
        let mut parts = offer.split(';').map(str::trim);
        let is_it = parts.next()?.eq_ignore_ascii_case("permessage-deflate");
        let mut server_bits = None;
        let mut seen = Vec::new();
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim_end(), Some(value.trim_start())),
                None => (part, None),
            };
            let name = name.to_ascii_lowercase();
            let bits = |value: &str| {
                let unquoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
                let digits = unquoted.unwrap_or(value);
                let bits = digits
                    .parse()
                    .ok()
                    .filter(|bits| WINDOW_BITS.contains(bits));
                bits.filter(|_| !digits.starts_with(['0', '+']))
            };
            match (&*name, value) {
                ("server_no_context_takeover" | "client_no_context_takeover", None) => {}
                ("server_max_window_bits", Some(value)) => server_bits = Some(bits(value)?),
                ("client_max_window_bits", None) => {}
                ("client_max_window_bits", Some(value)) => drop(bits(value)?),
                // A parameter that is unknown or wrong: the offer is declined.
                _ => return None,
            }
            if seen.contains(&name) {
                return None;
            }
            seen.push(name);
        }
        let window_bits = server_bits.unwrap_or(*WINDOW_BITS.end());
        (is_it && window_bits >= LEAST_WINDOW_BITS).then_some(Deflate {
            window_bits,
            is_named: server_bits.is_some(),
        })
    }

    /// The value of the header that answers the offer.
    pub(super) fn answer(self) -> Option<HeaderValue> {
        let mut answer =
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover".to_owned();
        if self.is_named {
            answer += &format!("; server_max_window_bits={}", self.window_bits);
        }
        HeaderValue::try_from(answer).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_offer_that_can_be_met_is_accepted() {
        for (offers, window_bits) in [
            (&["permessage-deflate"][..], Some(15)),
            (&["permessage-deflate; client_max_window_bits"], Some(15)),
            (&["Permessage-Deflate;client_max_window_bits=9"], Some(15)),
            (&["permessage-deflate; server_max_window_bits=10"], Some(10)),
            (
                &["permessage-deflate; server_max_window_bits=\"10\""],
                Some(10),
            ),
            (
                &["permessage-deflate; server_no_context_takeover ; client_no_context_takeover"],
                Some(15),
            ),
            // Not for deflate, or not with this compressor.
            (&["permessage-deflate; server_max_window_bits=8"], None),
            (
                &["permessage-deflate; server_max_window_bits=8, permessage-deflate"],
                Some(15),
            ),
            (
                &[
                    "x-webkit-deflate-frame",
                    "permessage-deflate; server_max_window_bits=12",
                ],
                Some(12),
            ),
            // Wrong ones (RFC 7692, section 7.1).
            (&["permessage-deflate; server_max_window_bits"], None),
            (&["permessage-deflate; server_max_window_bits=16"], None),
            (&["permessage-deflate; server_max_window_bits=010"], None),
            (&["permessage-deflate; server_no_context_takeover=1"], None),
            (
                &["permessage-deflate; client_max_window_bits; client_max_window_bits"],
                None,
            ),
            (&["permessage-deflate; shrink"], None),
            (&["permessage-bzip2"], None),
            (&["; server_no_context_takeover"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for offer in offers {
                headers.append(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(offer));
            }
            let agreed = Deflate::agree(&headers).map(|deflate| deflate.window_bits);
            assert_eq!(agreed, window_bits, "{offers:?}");
        }
    }

    #[test]
    fn the_answer_names_a_window_only_if_the_client_did() {
        let offer = |offer: &'static str| Deflate::of_offer(offer.as_bytes()).expect("a good one");
        let answer = |deflate: Deflate| deflate.answer().expect("it fits a header");
        let plain = answer(offer("permessage-deflate"));
        assert!(!plain.to_str().is_ok_and(|text| text.contains("bits")));
        let named = answer(offer("permessage-deflate; server_max_window_bits=12"));
        assert!(
            named
                .to_str()
                .is_ok_and(|text| text.ends_with("; server_max_window_bits=12"))
        );
    }
}
