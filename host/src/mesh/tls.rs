//! Mutual TLS between nodes and registers: each shows a certificate, and takes only those of
//! the mesh's own authority.
//!
//! Where nodes are dialled by addresses that are in no certificate, all of them may have one
//! name, which is then what is checked.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};

/// How often a connection is probed, whoever still uses it, and how long its other side may
/// then take. Where the network has lost it without a word, nothing else would end it: its
/// node has long made another one.
const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the certificates are, in PEM; all of the first three, or none.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// This node's certificate, with those between it and the authority's.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The certificate of the authority that all nodes' certificates are from.
    pub authority: PathBuf,
    /// The name in all nodes' certificates; empty: each has the host that it is dialled at.
    pub name: String,
}

/// What TLS needs; or none.
#[derive(Clone, Default)]
pub struct Tls(Option<Arc<Material>>);

struct Material {
    identity: Identity,
    authority: Certificate,
    name: String,
}

impl Tls {
    /// From files.
    pub(super) fn read(files: &TlsFiles) -> anyhow::Result<Tls> {
        let paths = [&files.certificate, &files.key, &files.authority];
        let given = paths
            .iter()
            .filter(|path| !path.as_os_str().is_empty())
            .count();
        if given == 0 {
            return Ok(Tls::default());
        }
        anyhow::ensure!(
            given == paths.len(),
            "TLS needs all of --tls-certificate, --tls-key and --tls-authority"
        );
        Ok(Tls(Some(Arc::new(Material {
            identity: Identity::from_pem(pem(&files.certificate)?, pem(&files.key)?),
            authority: Certificate::from_pem(pem(&files.authority)?),
            name: files.name.clone(),
        }))))
    }

    /// Whether there is any.
    pub(super) fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Whom to dial.
    pub(super) fn endpoint(&self, address: &str) -> Result<Endpoint, tonic::transport::Error> {
        let Some(material) = &self.0 else {
            return Endpoint::from_shared(format!("http://{address}"));
        };
        let config = ClientTlsConfig::new()
            .ca_certificate(material.authority.clone())
            .identity(material.identity.clone());
        let config = match &*material.name {
            "" => config,
            name => config.domain_name(name),
        };
        Endpoint::from_shared(format!("https://{address}"))?.tls_config(config)
    }

    /// What to serve with.
    pub(super) fn server(&self) -> Result<Server, tonic::transport::Error> {
        let server = Server::builder()
            .http2_keepalive_interval(Some(PROBE_EVERY))
            .http2_keepalive_timeout(Some(PROBE_TIMEOUT));
        match &self.0 {
            None => Ok(server),
            Some(material) => server.tls_config(
                ServerTlsConfig::new()
                    .identity(material.identity.clone())
                    .client_ca_root(material.authority.clone()),
            ),
        }
    }
}

fn pem(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))
}
