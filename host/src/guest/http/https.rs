//! TLS for the requests of plugins.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::authorities::Authorities;

/// The TLS configuration of requests. This configuration trusts the authorities that browsers
/// trust, and those of a file.
#[derive(Clone)]
pub(crate) struct Https(Arc<ClientConfig>);

impl Https {
    /// Builds the configuration. `authorities` is a PEM file of more authorities; an empty path
    /// means that there are no more.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or holds no usable certificates.
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

    /// The TLS configuration for a new connection.
    pub(super) fn config(&self) -> Arc<ClientConfig> {
        self.0.clone()
    }
}
