//! The hosts that a plugin may send requests to: a pure function from a request's target to the
//! addresses that the request may use.

use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;

use crate::host_pattern::HostPattern;
use crate::invalid_value::InvalidValue;

/// The section `[http]`, as it is written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct WrittenHttp {
    allow: Vec<String>,
    allow_private: Vec<String>,
}

/// The hosts under `http.allow` and `http.allow_private`, with the addresses that may be used.
#[derive(Debug, Default)]
pub(crate) struct AllowedHosts(Vec<(Pattern, AllowedAddresses)>);

/// The addresses of a name that may be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AllowedAddresses {
    /// Only addresses of the internet. The owner of a name decides which addresses it has, and may
    /// choose 127.0.0.1.
    Public,
    /// All addresses of the name.
    Anywhere,
}

/// The target of a request: its scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestTarget {
    pub(crate) is_https: bool,
    /// The host in lower case; an IPv6 address has no brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

#[derive(Debug, PartialEq, Eq)]
struct Pattern {
    is_https: bool,
    host: HostPattern,
    port: u16,
}

impl AllowedHosts {
    pub(super) fn parse(written: &WrittenHttp) -> Result<AllowedHosts, InvalidValue> {
        let mut all = Vec::new();
        // What may be reached anywhere is found first.
        for text in &written.allow_private {
            let pattern = Pattern::parse(text, "http.allow_private")?;
            all.push((pattern, AllowedAddresses::Anywhere));
        }
        for text in &written.allow {
            let pattern = Pattern::parse(text, "http.allow")?;
            let reach = match &pattern.host {
                // Whoever writes an address, or this word, means it.
                HostPattern::One(host) if host == "localhost" || host.parse::<IpAddr>().is_ok() => {
                    AllowedAddresses::Anywhere
                }
                _ => AllowedAddresses::Public,
            };
            all.push((pattern, reach));
        }
        Ok(AllowedHosts(all))
    }

    /// The addresses that a request for `target` may use; `None` means that the request is denied.
    pub(crate) fn reach(&self, target: &RequestTarget) -> Option<AllowedAddresses> {
        let found = self.0.iter().find(|(pattern, _)| pattern.has(target));
        found.map(|(_, reach)| *reach)
    }
}

impl Pattern {
    fn parse(text: &str, key: &'static str) -> Result<Pattern, InvalidValue> {
        Pattern::read(&text.to_ascii_lowercase()).ok_or_else(|| {
            let why = format!(
                "{text:?} is no host: write \"https://api.example.com\", with the port if it is \
                 not the scheme's, \"https://*.example.com\" or \"http://127.0.0.1:9000\", and no \
                 path"
            );
            InvalidValue::new(key, why)
        })
    }

    fn read(text: &str) -> Option<Pattern> {
        let (is_https, rest) = match text.split_once("://")? {
            ("https", rest) => (true, rest),
            ("http", rest) => (false, rest),
            _ => return None,
        };
        let (host, port) = split_port(rest)?;
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port != 0)?,
            None => default_port(is_https),
        };
        let host = HostPattern::read(host, |host| address(host).or_else(|| name(host)), name)?;
        Some(Pattern {
            is_https,
            host,
            port,
        })
    }

    fn has(&self, target: &RequestTarget) -> bool {
        self.host.has(&target.host) && self.is_https == target.is_https && self.port == target.port
    }
}

impl RequestTarget {
    /// Reads a target from a scheme and an authority; `None` means that they name no valid host.
    pub(crate) fn read(is_https: bool, authority: &str) -> Option<RequestTarget> {
        let authority = authority.to_ascii_lowercase();
        let (host, port) = split_port(&authority)?;
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port != 0)?,
            None => default_port(is_https),
        };
        let host = address(host).or_else(|| name(host))?;
        Some(RequestTarget {
            is_https,
            host,
            port,
        })
    }
}

/// Writes the target as it stands in a manifest.
impl fmt::Display for RequestTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]", self.host)?,
            false => write!(f, "{scheme}://{}", self.host)?,
        }
        if self.port != default_port(self.is_https) {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

fn default_port(is_https: bool) -> u16 {
    if is_https { 443 } else { 80 }
}

/// Splits `host:port`, where the host may be an IPv6 address in brackets.
fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    let after_host = match text.starts_with('[') {
        true => text.find(']')? + 1,
        false => text.find(':').unwrap_or(text.len()),
    };
    let (host, port) = text.split_at(after_host);
    match port {
        "" => Some((host, None)),
        _ => Some((host, Some(port.strip_prefix(':')?))),
    }
}

/// Reads an IP address and writes it in its standard form.
fn address(host: &str) -> Option<String> {
    let address: IpAddr = match host.strip_prefix('[') {
        Some(rest) => IpAddr::V6(rest.strip_suffix(']')?.parse().ok()?),
        None => IpAddr::V4(host.parse().ok()?),
    };
    Some(address.to_string())
}

/// Reads a host name. A text that a resolver would take for an address is none, for example `127.1`
/// or `0x7f000001`.
fn name(host: &str) -> Option<String> {
    let of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(of_name);
    let last = host.rsplit('.').next()?;
    let is_number = last.starts_with(|first: char| first.is_ascii_digit());
    (host.split('.').all(is_label) && !is_number).then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Option<RequestTarget> {
        let (scheme, authority) = text.split_once("://").expect("a scheme");
        RequestTarget::read(scheme == "https", authority)
    }

    fn allowed(allow: &[&str], private: &[&str]) -> Result<AllowedHosts, InvalidValue> {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        AllowedHosts::parse(&WrittenHttp {
            allow: owned(allow),
            allow_private: owned(private),
        })
    }

    #[test]
    fn what_is_allowed_is_so_with_scheme_host_and_port() {
        let allowed = allowed(
            &[
                "https://API.example.com",
                "http://127.0.0.1:9000",
                "https://*.example.org",
                "http://[::1]:80",
                "http://localhost:81",
                "http://api.test:8080",
            ],
            &["http://billing.internal:8080"],
        );
        let allowed = allowed.expect("a good list");
        let (public, anywhere) = (
            Some(AllowedAddresses::Public),
            Some(AllowedAddresses::Anywhere),
        );
        for (text, reach) in [
            ("https://api.example.com", public),
            ("https://Api.Example.Com:443", public),
            ("http://api.example.com", None),
            ("http://api.example.com:443", None),
            ("https://api.example.com:8443", None),
            ("https://example.com", None),
            ("https://api.example.com.evil.org", None),
            ("https://evil-api.example.com", None),
            ("https://a.example.org", public),
            ("https://a.b.example.org", public),
            ("https://example.org", None),
            ("https://evilexample.org", None),
            ("http://127.0.0.1:9000", anywhere),
            ("http://127.0.0.1", None),
            ("http://127.0.0.2:9000", None),
            ("http://[::1]", anywhere),
            ("http://[0:0::1]:80", anywhere),
            ("http://localhost:81", anywhere),
            ("http://api.test:8080", public),
            ("http://billing.internal:8080", anywhere),
            ("http://billing.internal", None),
        ] {
            let target = target(text).expect(text);
            assert_eq!(allowed.reach(&target), reach, "{text}");
        }
        let none = AllowedHosts::default();
        assert_eq!(
            none.reach(&target("https://example.com").expect("a target")),
            None
        );
    }

    #[test]
    fn what_is_no_target_has_none() {
        for text in [
            "http://",
            "http://user@127.0.0.1",
            "http://example.com.",
            "http://.example.com",
            "http://example.com:",
            "http://example.com:0",
            "http://example.com:65536",
            "http://127.1",
            "http://2130706433",
            "http://0x7f000001",
            "http://0177.0.0.1",
            "http://[127.0.0.1]",
            "http://[::1",
            "http://[::1]x",
            "http://::1",
            "http://ex ample.com",
            "http://exämple.com",
        ] {
            assert_eq!(target(text), None, "{text}");
        }
    }

    #[test]
    fn a_target_is_shown_as_it_would_be_allowed() {
        for text in [
            "https://example.com",
            "http://example.com:443",
            "http://[::1]:8080",
            "http://127.0.0.1",
        ] {
            let target = target(text).expect(text);
            assert_eq!(target.to_string(), text);
            let allowed = allowed(&[text], &[]).expect(text);
            assert!(allowed.reach(&target).is_some());
        }
    }

    #[test]
    fn what_is_no_host_is_named() {
        for text in [
            "",
            "*",
            "example.com",
            "https://",
            "https://*",
            "https://a.*",
            "https://*.*",
            "https://a/",
            "https://a/path",
            "ftp://a",
            "https://a:b",
            "https://a:0",
            "https://user@a",
        ] {
            for (allow, private, key) in [
                (&[text][..], &[][..], "http.allow: "),
                (&[], &[text], "http.allow_private: "),
            ] {
                let error = allowed(allow, private).expect_err(text).to_string();
                assert!(error.starts_with(&format!("{key}{text:?}")), "{error}");
            }
        }
    }
}
