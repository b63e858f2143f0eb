//! Host patterns: one host, or all hosts below a domain.

/// A pattern for hosts, in lower case. The text may end with a port, which then counts as a part of
/// the host.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HostPattern {
    /// Exactly one host, by its name or its address.
    One(String),
    /// All hosts below a domain, written as `*.example.com` and kept as `.example.com`.
    Below(String),
}

impl HostPattern {
    /// Reads a pattern. `host` reads a host, and `domain` the domain behind a star. Both decide what
    /// is valid.
    pub(crate) fn read(
        text: &str,
        host: impl Fn(&str) -> Option<String>,
        domain: impl Fn(&str) -> Option<String>,
    ) -> Option<HostPattern> {
        match text.strip_prefix("*.") {
            Some(below) => Some(HostPattern::Below(format!(".{}", domain(below)?))),
            None => host(text).map(HostPattern::One),
        }
    }

    /// Whether the pattern fits a host, which must be in lower case. In the place of a star there
    /// is at least one label of a name, and nothing that could end a host.
    pub(crate) fn has(&self, host: &str) -> bool {
        match self {
            HostPattern::One(one) => one == host,
            HostPattern::Below(domain) => host
                .strip_suffix(domain.as_str())
                .is_some_and(|name| !name.is_empty() && name.bytes().all(is_of_name)),
        }
    }
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_a_name_and_only_a_name() {
        let any = |text: &str| Some(text.to_owned());
        let one = HostPattern::read("example.com", any, any).expect("a host");
        let below = HostPattern::read("*.example.com:8080", any, any).expect("a domain");
        for (host, is_one, is_below) in [
            ("example.com", true, false),
            ("a.example.com", false, false),
            ("a.example.com:8080", false, true),
            ("a.b.example.com:8080", false, true),
            ("example.com:8080", false, false),
            (".example.com:8080", false, false),
            ("evilexample.com:8080", false, false),
            ("evil.org/.example.com:8080", false, false),
            ("ada@a.example.com:8080", false, false),
            ("", false, false),
        ] {
            assert_eq!(
                (one.has(host), below.has(host)),
                (is_one, is_below),
                "{host}"
            );
        }
        assert_eq!(HostPattern::read("*.example.com", any, |_| None), None);
    }
}
