//! The address of a client behind proxies, from a header in which each proxy says who has connected
//! to it: `X-Forwarded-For`, or `Forwarded` of RFC 7239.
//!
//! The last entry is the nearest proxy's. A client can write anything into the entries before, so
//! they are read from the end, for as long as the proxy that wrote them is trusted.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::{FORWARDED, HeaderName};

use crate::config::{ForwardingHeader, ProxyConfig};

/// Returns the address of the client whose request has these headers. `peer` is the address of the
/// connection, and `None` stands for a Unix socket.
pub(super) fn client_address(
    proxies: &ProxyConfig,
    peer: Option<SocketAddr>,
    headers: &HeaderMap,
) -> Option<SocketAddr> {
    let has_quotes = proxies.header == ForwardingHeader::Forwarded;
    let (name, read): (_, fn(&str) -> Option<SocketAddr>) = match proxies.header {
        ForwardingHeader::None => return peer,
        ForwardingHeader::Forwarded => (FORWARDED, forwarded_for),
        ForwardingHeader::XForwardedFor => (HeaderName::from_static("x-forwarded-for"), node),
    };
    let mut address = peer;
    for line in headers.get_all(name).iter().rev() {
        let line = String::from_utf8_lossy(line.as_bytes());
        for entry in rsplit(&line, ',', has_quotes) {
            if !proxies.trusts(address.map(|address| address.ip())) {
                return address;
            }
            // A proxy that hides the address, or nonsense: the nearest known one counts.
            let Some(named) = read(entry.trim()) else {
                return address;
            };
            address = Some(named);
        }
    }
    address
}

/// The parameter `for` of an entry of `Forwarded`.
fn forwarded_for(entry: &str) -> Option<SocketAddr> {
    let pairs = rsplit(entry, ';', true).into_iter();
    let mut pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
    match value.strip_prefix('"') {
        None => node(value),
        Some(quoted) => node(quoted.strip_suffix('"')?),
    }
}

/// An address with or without a port. An address of IPv6 may stand in brackets.
fn node(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address: IpAddr = bare.unwrap_or(text).parse().ok()?;
    Some((address, 0).into())
}

/// Splits a header's value from its end, but not within quotes if there are any. From its end, since
/// a quote that a client has left open must not take in what a proxy has written after it.
fn rsplit(text: &str, separator: char, has_quotes: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut end, mut is_quoted) = (text.len(), false);
    for (at, letter) in text.char_indices().rev() {
        if letter == '"' && has_quotes {
            let before = text[..at].bytes().rev();
            let is_escaped = before.take_while(|byte| *byte == b'\\').count() % 2 == 1;
            is_quoted ^= !is_escaped;
        } else if letter == separator && !is_quoted {
            parts.push(&text[at + separator.len_utf8()..end]);
            end = at;
        }
    }
    parts.push(&text[..end]);
    parts
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;
    use crate::fuzzing::fuzz;

    fn address_of(header: ForwardingHeader, peer: Option<&str>, lines: &[&str]) -> String {
        let proxies = ProxyConfig {
            trusted: ["10.0.0.0/8", "unix"]
                .map(|text| text.parse().expect("a proxy"))
                .to_vec(),
            header,
            ..ProxyConfig::default()
        };
        let mut headers = HeaderMap::new();
        for line in lines {
            let name = match header {
                ForwardingHeader::Forwarded => "forwarded",
                _ => "x-forwarded-for",
            };
            headers.append(name, HeaderValue::from_str(line).expect("a value"));
        }
        let peer = peer.map(|peer| peer.parse().expect("an address"));
        client_address(&proxies, peer, &headers).map_or_else(String::new, |a| a.to_string())
    }

    #[test]
    fn the_last_address_that_no_proxy_has_is_the_client_s() {
        const PROXY: Option<&str> = Some("10.0.0.1:5");
        let of = |peer, lines: &[&str]| address_of(ForwardingHeader::XForwardedFor, peer, lines);
        assert_eq!(of(PROXY, &["192.0.2.1"]), "192.0.2.1:0");
        assert_eq!(
            of(PROXY, &["203.0.113.9, 192.0.2.1, 10.0.0.2"]),
            "192.0.2.1:0"
        );
        assert_eq!(of(PROXY, &["203.0.113.9", "192.0.2.1"]), "192.0.2.1:0");
        assert_eq!(of(PROXY, &["2001:db8::1"]), "[2001:db8::1]:0");
        assert_eq!(of(PROXY, &["[2001:db8::1]:7"]), "[2001:db8::1]:7");
        // Nobody else is believed.
        assert_eq!(of(Some("192.0.2.9:5"), &["192.0.2.1"]), "192.0.2.9:5");
        assert_eq!(of(None, &["192.0.2.1"]), "192.0.2.1:0");
        // What cannot be read, or is missing, leaves the nearest address.
        for lines in [&["unknown"][..], &[""], &["192.0.2.1, x"], &[]] {
            assert_eq!(of(PROXY, lines), "10.0.0.1:5", "{lines:?}");
        }
        let none = address_of(ForwardingHeader::None, PROXY, &["192.0.2.1"]);
        assert_eq!(none, "10.0.0.1:5");
    }

    #[test]
    fn the_standard_header_is_read_with_its_quotes() {
        let of = |line| address_of(ForwardingHeader::Forwarded, Some("10.0.0.1:5"), &[line]);
        for (line, address) in [
            ("for=192.0.2.1", "192.0.2.1:0"),
            ("For=\"192.0.2.1:4711\"", "192.0.2.1:4711"),
            (
                "proto=https; for=\"[2001:db8::1]:7\";by=10.0.0.1",
                "[2001:db8::1]:7",
            ),
            (
                "for=203.0.113.9, for=192.0.2.1;host=\"a,b;c\"",
                "192.0.2.1:0",
            ),
            (
                r#"for=192.0.2.1;host="a\";for=203.0.113.9;x=\"b""#,
                "192.0.2.1:0",
            ),
            ("for=_hidden", "10.0.0.1:5"),
            ("for=unknown", "10.0.0.1:5"),
            ("for=\"192.0.2.1", "10.0.0.1:5"),
            ("by=10.0.0.9", "10.0.0.1:5"),
        ] {
            assert_eq!(of(line), address, "{line}");
        }
    }

    /// Whatever a client writes, the entry that the trusted proxy adds says who the client is.
    #[test]
    fn no_client_can_hide_what_the_proxy_adds() {
        let peer = "10.0.0.1:5".parse().expect("an address");
        for (header, name, added) in [
            (
                ForwardingHeader::Forwarded,
                "forwarded",
                "for=\"192.0.2.77\";proto=http",
            ),
            (
                ForwardingHeader::XForwardedFor,
                "x-forwarded-for",
                "192.0.2.77",
            ),
        ] {
            let proxies = ProxyConfig {
                trusted: vec!["10.0.0.0/8".parse().expect("a proxy")],
                header,
                ..ProxyConfig::default()
            };
            fuzz("forwarded", 10_000, |bytes| {
                let line = [bytes, b", ", added.as_bytes()].concat();
                let (Ok(alone), Ok(line)) = (
                    HeaderValue::from_bytes(bytes),
                    HeaderValue::from_bytes(&line),
                ) else {
                    return;
                };
                let one_line = HeaderMap::from_iter([(HeaderName::from_static(name), line)]);
                let mut two_lines = HeaderMap::new();
                two_lines.append(name, alone);
                two_lines.append(name, HeaderValue::from_static(added));
                for headers in [&one_line, &two_lines] {
                    let address = client_address(&proxies, Some(peer), headers);
                    let address = address.map(|address| address.ip().to_string());
                    assert_eq!(address.as_deref(), Some("192.0.2.77"));
                    // Of somebody else it is not taken at all.
                    let stranger = "203.0.113.1:5".parse().ok();
                    assert_eq!(client_address(&proxies, stranger, headers), stranger);
                }
            });
        }
    }
}
