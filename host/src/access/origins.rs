//! Origins: the check of the web page that a connection comes from. A browser reports the page's
//! origin truthfully, but any other program can send what it likes. The check therefore keeps out
//! the pages of other sites, and nobody else.

use super::handshake::Handshake;
use crate::host_pattern::HostPattern;
use crate::invalid_value::InvalidValue;

/// The rules `origins` and `require_origin` of a manifest.
#[derive(Debug, Default)]
pub(super) struct Origins {
    /// The allowed origins. An empty list allows every origin.
    allowed: Vec<Origin>,
    is_required: bool,
}

/// An allowed origin, such as `https://example.com` or `https://*.example.com`.
#[derive(Debug)]
struct Origin {
    /// The scheme, with the characters `://` behind it.
    scheme: String,
    /// The host, with the port if the origin has one.
    host: HostPattern,
}

impl Origins {
    pub(super) fn parse(written: &[String], is_required: bool) -> Result<Origins, InvalidValue> {
        let allowed = written.iter().map(|text| Origin::parse(text));
        Ok(Origins {
            allowed: allowed.collect::<Result<_, _>>()?,
            is_required,
        })
    }

    /// Whether the origins of the request are allowed. A request without an origin is allowed if no
    /// origin is required. A header may contain several origins, one for each page that led to this
    /// request (RFC 6454, section 7), and all of them must be allowed.
    pub(super) fn allow(&self, handshake: &Handshake) -> bool {
        let mut said = handshake.header("origin").peekable();
        match said.peek() {
            None => !self.is_required,
            Some(_) => {
                self.allowed.is_empty()
                    || said.all(|said| said.split(' ').all(|origin| self.has(origin)))
            }
        }
    }

    fn has(&self, said: &str) -> bool {
        let said = said.to_ascii_lowercase();
        self.allowed.iter().any(|origin| origin.is(&said))
    }
}

impl Origin {
    fn parse(text: &str) -> Result<Origin, InvalidValue> {
        let lower = text.to_ascii_lowercase();
        let parsed = lower.split_once("://").and_then(|(scheme, host)| {
            let host = HostPattern::read(host, of_host, of_host)?;
            let scheme = format!("{scheme}://");
            (scheme != "://").then_some(Origin { scheme, host })
        });
        parsed.ok_or_else(|| {
            let why = format!(
                "{text:?} is no origin: write \"https://example.com\", with the port if it is \
                 not the scheme's, or \"https://*.example.com\""
            );
            InvalidValue::new("origins", why)
        })
    }

    fn is(&self, said: &str) -> bool {
        let host = said.strip_prefix(self.scheme.as_str());
        host.is_some_and(|host| self.host.has(host))
    }
}

/// Reads the host of an origin, with its port.
fn of_host(text: &str) -> Option<String> {
    let is_of_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let is_host = !text.is_empty() && text.bytes().all(is_of_host);
    is_host.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(written: &[&str]) -> Result<Origins, InvalidValue> {
        let written: Vec<_> = written.iter().map(|text| (*text).to_owned()).collect();
        Origins::parse(&written, false)
    }

    #[test]
    fn a_star_is_a_name_and_only_a_name() {
        let origins = origins(&["https://Example.com", "http://*.example.com:8080"]);
        let origins = origins.expect("good origins");
        for (said, allowed) in [
            ("https://example.com", true),
            ("HTTPS://EXAMPLE.COM", true),
            ("http://example.com", false),
            ("https://example.com:8443", false),
            ("https://example.com.evil.org", false),
            ("http://a.example.com:8080", true),
            ("http://a.b.example.com:8080", true),
            ("http://example.com:8080", false),
            ("http://.example.com:8080", false),
            ("http://evilexample.com:8080", false),
            ("http://a.example.com", false),
            ("https://a.example.com:8080", false),
            ("http://evil.org/.example.com:8080", false),
            ("http://evil.org:80#.example.com:8080", false),
            ("http://ada@a.example.com:8080", false),
            ("null", false),
            ("", false),
        ] {
            assert_eq!(origins.has(said), allowed, "{said}");
        }
    }

    #[test]
    fn all_origins_of_a_list_count() {
        let origins = origins(&["https://a.com", "https://*.b.com"]).expect("good origins");
        for (said, allowed) in [
            (&["https://a.com https://x.b.com"][..], true),
            (&["https://a.com https://evil.org"], false),
            (&["https://evil.org https://x.b.com"], false),
            (&["https://a.com", "https://evil.org"], false),
            (&["https://a.com "], false),
            (&[""], false),
            (&[" "], false),
            (&[], true),
        ] {
            let header = |value: &&str| ("origin".to_owned(), (*value).to_owned());
            let handshake = Handshake {
                headers: said.iter().map(header).collect(),
                ..Handshake::default()
            };
            assert_eq!(origins.allow(&handshake), allowed, "{said:?}");
        }
    }

    #[test]
    fn what_is_no_origin_is_named() {
        for text in [
            "",
            "*",
            "example.com",
            "https://",
            "https://a/",
            "https://*",
            "https://a.*",
            "://a",
            "https://a.*.b",
            "https://*.",
        ] {
            let error = origins(&[text]).expect_err(text).to_string();
            assert!(error.starts_with(&format!("origins: {text:?}")), "{error}");
        }
    }
}
