//! TLS for the requests of plugins.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::ClientConfig;

use crate::authorities::client_config;

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
        let config = client_config("http.authorities", authorities)?;
        Ok(Https(Arc::new(config)))
    }

    /// The TLS configuration for a new connection.
    pub(super) fn config(&self) -> Arc<ClientConfig> {
        self.0.clone()
    }
}
