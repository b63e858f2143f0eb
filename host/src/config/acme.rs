//! The settings for certificates that the node gets by itself, by ACME (RFC 8555).

use std::path::PathBuf;
use std::time::Duration;

use documented::DocumentedFields;
use serde::{Deserialize, Serialize};

/// The settings for certificates that the node gets by itself, by ACME (RFC 8555).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, DocumentedFields)]
#[serde(default, deny_unknown_fields)]
pub struct AcmeConfig {
    /// The names for which the node gets certificates, for example `chat.example.com`. Each name
    /// has a certificate of its own. An empty list means that the node gets none.
    pub names: Vec<String>,
    /// The URL of the authority's directory.
    pub directory: String,
    /// Whether you accept the terms of service of the authority.
    pub accept_terms: bool,
    /// The mail address that the authority may write to. An empty text means none.
    pub contact: String,
    /// The folder for the key of the account, and for the certificates with their keys. Only the
    /// node may be able to read it.
    pub folder: PathBuf,
    /// The way in which the authority checks that a name leads to the node: `tls-alpn-01` (at port
    /// 443, with TLS) or `http-01` (at port 80, without TLS).
    pub challenge: AcmeChallenge,
    /// A file with certificates of authorities, in PEM. The server of the directory may have a
    /// certificate of one of these authorities, or of one that browsers trust. An empty path adds
    /// none.
    pub authorities: PathBuf,
    /// The identifier of the account that you have with the authority already, if it asks for one
    /// (external account binding).
    pub external_account: String,
    /// A file with the key of the account that you have already, in base64url.
    pub external_account_key: PathBuf,
    /// The time after which a failed order is tried again. It doubles with each failure, up to 12 h.
    #[serde(with = "humantime_serde")]
    pub retry: Duration,
}

/// The way in which an authority checks that a name leads to the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AcmeChallenge {
    /// The authority connects to port 443 with TLS (RFC 8737).
    #[default]
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn,
    /// The authority asks for a page at port 80 without TLS (RFC 8555, section 8.3).
    #[serde(rename = "http-01")]
    Http,
}

impl Default for AcmeConfig {
    fn default() -> AcmeConfig {
        AcmeConfig {
            names: Vec::new(),
            directory: "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
            accept_terms: false,
            contact: String::new(),
            folder: "acme".into(),
            challenge: AcmeChallenge::default(),
            authorities: PathBuf::new(),
            external_account: String::new(),
            external_account_key: PathBuf::new(),
            retry: Duration::from_secs(120),
        }
    }
}

impl AcmeConfig {
    /// Whether the node gets any certificate by itself.
    pub fn is_used(&self) -> bool {
        !self.names.is_empty()
    }
}
