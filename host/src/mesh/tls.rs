//! Mutual TLS between nodes and registers: each side shows a certificate, and accepts only
//! certificates of the mesh's own authority.
//!
//! The files are read again when they change, so renewed certificates need no restart.
//!
//! If nodes are dialled by addresses that are in no certificate, all certificates may have one
//! common name, which is then checked instead.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::sign::SingleCertAndKey;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Server};

use super::node_stream::NodeStream;
use crate::certificates::{authorities_in, certified};
use crate::pending_connections::GuardedConnection;
use crate::watched_files::WatchedFiles;

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
pub struct Tls(Option<Arc<MeshCertificates>>);

/// The certificates of a node for the mesh, in their current state.
struct MeshCertificates {
    files: WatchedFiles,
    /// The content of the files at the start.
    contents: Vec<Vec<u8>>,
    name: String,
    configs: ArcSwap<MeshConfigs>,
}

/// What is agreed with nodes that this one dials, and with nodes that dial it.
struct MeshConfigs {
    dial: ClientTlsConfig,
    accept: Arc<ServerConfig>,
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
        let watched = WatchedFiles {
            what: "the certificates of the mesh",
            paths: paths.map(PathBuf::clone).to_vec(),
        };
        let contents = watched.read()?;
        let configs = MeshConfigs::build(&contents, &files.name)?;
        Ok(Tls(Some(Arc::new(MeshCertificates {
            files: watched,
            contents,
            name: files.name.clone(),
            configs: ArcSwap::from_pointee(configs),
        }))))
    }

    /// Reads the files again whenever they change. Connections keep the certificates with which they
    /// have begun.
    pub(super) fn keep_reading(&self) {
        if let Some(certificates) = &self.0 {
            let (files, contents) = (certificates.files.clone(), certificates.contents.clone());
            let owner = Arc::downgrade(certificates);
            tokio::spawn(files.keep_reading(owner, contents, MeshCertificates::take));
        }
    }

    /// Whether TLS is used.
    pub(super) fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// The endpoint for dialling `address`, with TLS if it is used.
    pub(super) fn endpoint(&self, address: &str) -> Result<Endpoint, tonic::transport::Error> {
        match &self.0 {
            None => Endpoint::from_shared(format!("http://{address}")),
            Some(certificates) => Endpoint::from_shared(format!("https://{address}"))?
                .tls_config(certificates.configs.load().dial.clone()),
        }
    }

    /// Shakes hands with a node that has dialled this one, if TLS is used.
    pub(super) async fn accept(&self, connection: GuardedConnection) -> io::Result<NodeStream> {
        let Some(certificates) = &self.0 else {
            return Ok(NodeStream::Plain(connection));
        };
        let acceptor = TlsAcceptor::from(certificates.configs.load().accept.clone());
        let stream = acceptor.accept(connection).await?;
        Ok(NodeStream::Tls(Box::new(stream)))
    }
}

impl MeshCertificates {
    fn take(&self, contents: &[Vec<u8>]) -> anyhow::Result<()> {
        let configs = MeshConfigs::build(contents, &self.name)?;
        self.configs.store(Arc::new(configs));
        Ok(())
    }
}

impl MeshConfigs {
    /// Builds both from the files: the certificate, its key, and the authority. The name is what all
    /// certificates have, if it is not empty.
    fn build(contents: &[Vec<u8>], name: &str) -> anyhow::Result<MeshConfigs> {
        let [certificate, key, authority] = contents else {
            anyhow::bail!("three files are needed");
        };
        let provider = Arc::new(default_provider());
        let own = certified(certificate, key, &provider)?;
        let authorities = authorities_in(authority).context("the authority")?;
        let verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider.clone());
        let mut accept = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier.build()?)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
        accept.alpn_protocols = vec![b"h2".to_vec()];
        let dial = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(authority))
            .identity(Identity::from_pem(certificate, key));
        Ok(MeshConfigs {
            dial: match name {
                "" => dial,
                name => dial.domain_name(name),
            },
            accept: Arc::new(accept),
        })
    }
}

/// A server for incoming connections of nodes.
pub(super) fn server() -> Server {
    Server::builder()
        .max_concurrent_streams(STREAMS)
        .http2_max_header_list_size(HEAD_BYTES)
        .http2_keepalive_interval(Some(PROBE_EVERY))
        .http2_keepalive_timeout(Some(PROBE_TIMEOUT))
}
