//! The settings for proxies between the clients and the node: which ones are trusted, and how they
//! say a client's address.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use documented::DocumentedFields;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The settings for proxies in front of the clients' port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, DocumentedFields)]
#[serde(default, deny_unknown_fields)]
pub struct ProxyConfig {
    /// The proxies that may say a client's address: an address, a network such as `10.0.0.0/8`, or
    /// `unix` for everybody who connects to a Unix socket. What others say is ignored.
    pub trusted: Vec<TrustedProxy>,
    /// Whether a connection of a trusted proxy begins with a header of the PROXY protocol, version
    /// 1 or 2. A connection without it is then closed.
    pub protocol: bool,
    /// The header of the request in which a trusted proxy says the client's address. Without a
    /// value, no header is read.
    pub header: ForwardingHeader,
    /// Whether a trusted proxy says the certificate of a client in the header `Client-Cert` of RFC
    /// 9440. Such a proxy must not let a client's own header of this name through.
    pub client_certificates: bool,
}

/// A proxy that may say a client's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TrustedProxy {
    /// The proxies with an address of this network.
    Network(IpNet),
    /// The proxies that connect to a Unix socket.
    Unix,
}

/// The header in which a proxy says the address of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForwardingHeader {
    /// The node reads no header.
    #[default]
    #[serde(rename = "")]
    None,
    /// The header `Forwarded` of RFC 7239.
    #[serde(rename = "forwarded")]
    Forwarded,
    /// The request header `X-Forwarded-For`.
    #[serde(rename = "x-forwarded-for")]
    XForwardedFor,
}

/// The text that stands for proxies that connect to a Unix socket.
const UNIX: &str = "unix";

impl ProxyConfig {
    /// Whether a proxy with this address is trusted. `None` stands for a Unix socket.
    pub fn trusts(&self, address: Option<IpAddr>) -> bool {
        let address = address.map(|address| address.to_canonical());
        self.trusted.iter().any(|proxy| match (proxy, address) {
            (TrustedProxy::Network(network), Some(address)) => network.contains(&address),
            (TrustedProxy::Unix, None) => true,
            _ => false,
        })
    }
}

impl FromStr for TrustedProxy {
    type Err = String;

    fn from_str(text: &str) -> Result<TrustedProxy, String> {
        if text == UNIX {
            return Ok(TrustedProxy::Unix);
        }
        let network = match text.parse::<IpAddr>() {
            Ok(address) => Some(address.to_canonical().into()),
            Err(_) => text.parse().ok(),
        };
        network.map(TrustedProxy::Network).ok_or_else(|| {
            format!(
                "{text:?} is no proxy: an address, a network such as 10.0.0.0/8, or unix is one"
            )
        })
    }
}

impl TryFrom<String> for TrustedProxy {
    type Error = String;

    fn try_from(text: String) -> Result<TrustedProxy, String> {
        text.parse()
    }
}

impl fmt::Display for TrustedProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrustedProxy::Network(network) => network.fmt(f),
            TrustedProxy::Unix => f.write_str(UNIX),
        }
    }
}

impl From<TrustedProxy> for String {
    fn from(proxy: TrustedProxy) -> String {
        proxy.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_named_proxies_are_trusted() {
        let trusted = ["10.0.0.0/8", "2001:db8::/32", "::ffff:192.0.2.7"];
        let trusted = trusted.map(|text| text.parse().expect("a proxy")).to_vec();
        let config = ProxyConfig {
            trusted,
            ..ProxyConfig::default()
        };
        for (address, is_trusted) in [
            ("10.200.0.1", true),
            ("::ffff:10.0.0.1", true),
            ("11.0.0.1", false),
            ("2001:db8:7::1", true),
            ("2001:db9::1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
        ] {
            let parsed = address.parse().expect("an address");
            assert_eq!(config.trusts(Some(parsed)), is_trusted, "{address}");
        }
        assert!(!config.trusts(None));
        let unix = ProxyConfig {
            trusted: vec![TrustedProxy::Unix],
            ..ProxyConfig::default()
        };
        assert!(unix.trusts(None));
    }

    #[test]
    fn what_is_no_proxy_says_what_one_is() {
        for text in ["", "localhost", "10.0.0.0/33", "unix:", "10.0.0.1:80"] {
            let error = text.parse::<TrustedProxy>().expect_err(text);
            assert!(error.contains("10.0.0.0/8, or unix"), "{error}");
        }
    }
}
