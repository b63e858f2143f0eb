//! TLS of the plugins' requests.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::authorities::Authorities;

/// Whom TLS trusts: the authorities that browsers do, and those of a file.
#[derive(Clone)]
pub(crate) struct Https(Arc<ClientConfig>);

impl Https {
    /// `authorities`: a file of more certificates, in PEM; empty: none.
    pub(crate) fn new(authorities: &Path) -> anyhow::Result<Https> {
        let mut roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.into(),
        };
        if let Some(more) = Authorities::read("http.authorities", authorities)? {
            for certificate in more.certificates {
                roots.add(certificate).context("http.authorities")?;
            }
        }
        let config = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Https(Arc::new(config)))
    }

    /// What a connection is made with.
    pub(super) fn config(&self) -> Arc<ClientConfig> {
        self.0.clone()
    }
}
