//! Mutual TLS between nodes and registers: each side shows a certificate, and accepts only
//! certificates of the mesh's own authority.
//!
//! If nodes are dialled by addresses that are in no certificate, all certificates may have one
//! common name, which is then checked instead.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};

/// How often a server probes a connection. If the network has lost the connection silently, nothing
/// else would end it, since its node has made another one long ago. `PROBE_TIMEOUT` is the time
/// that the other side has for its answer.
const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// The most streams of one connection. A node makes a connection for each of its streams.
const STREAMS: u32 = 4;

/// The largest head of a request, in bytes, after its decompression. Nodes send few headers.
const HEAD_BYTES: u32 = 4 << 10;

/// The PEM files for TLS. The first three must all be given, or none of them.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// This node's certificate, with the certificates between it and the authority's.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// The certificate of the authority that has signed all nodes' certificates.
    pub authority: PathBuf,
    /// The name in all nodes' certificates. If the name is empty, a certificate has the host at
    /// which its node is dialled.
    pub name: String,
}

/// The certificates and the key for TLS, if TLS is used.
#[derive(Clone, Default)]
pub struct Tls(Option<Arc<Material>>);

struct Material {
    identity: Identity,
    authority: Certificate,
    name: String,
}

impl Tls {
    /// Reads the certificates and the key from files.
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

    /// Whether TLS is used.
    pub(super) fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// The endpoint for dialling `address`, with TLS if it is used.
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

    /// A server for incoming connections, with TLS if it is used.
    pub(super) fn server(&self) -> Result<Server, tonic::transport::Error> {
        let server = Server::builder()
            .max_concurrent_streams(STREAMS)
            .http2_max_header_list_size(HEAD_BYTES)
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
