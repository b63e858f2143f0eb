//! The settings for TLS at the ports for clients and of the API.

use std::path::PathBuf;

use documented::DocumentedFields;
use serde::{Deserialize, Serialize};

use super::acme::AcmeConfig;
use crate::listener::ListenAddress;

/// The settings for TLS at the ports for clients and of the API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, DocumentedFields)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The addresses where clients connect with TLS.
    #[serde(deserialize_with = "crate::listener::one_or_many")]
    pub listen: Vec<ListenAddress>,
    /// Whether the API's port uses TLS, with the same certificates.
    pub api: bool,
    /// The certificates of the node. A client gets the first one that is valid for the name that it
    /// asks for, or the first of all.
    pub certificates: Vec<CertificateFiles>,
    /// The lowest version of TLS that a client may use.
    pub min_version: TlsVersion,
    /// A file with the certificates of authorities, in PEM. A client of the clients' port is asked
    /// for a certificate that one of them has signed. An empty path means that clients are not
    /// asked.
    pub client_authorities: PathBuf,
    /// The origin to which the ports for clients without TLS send everyone, for example
    /// `https://chat.example.com`. An empty text means that these ports serve clients.
    pub redirect: String,
    /// The settings for certificates that the node gets by itself.
    pub acme: AcmeConfig,
}

impl TlsConfig {
    /// Whether any port uses TLS.
    pub fn is_used(&self) -> bool {
        self.api || !self.listen.is_empty()
    }
}

/// The files of one certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// The certificate in PEM, followed by the certificates between it and an authority's.
    pub certificate: PathBuf,
    /// The private key of the certificate, in PEM.
    pub key: PathBuf,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2, as in RFC 5246.
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3, as in RFC 8446.
    #[serde(rename = "1.3")]
    V13,
}
