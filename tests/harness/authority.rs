//! An authority that issues certificates, and clients that trust it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WantsClientCert;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    ALL_VERSIONS, ClientConfig, ConfigBuilder, RootCertStore, SupportedProtocolVersion,
};

use crate::within;

/// An authority, with a folder for what it issues.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

/// A certificate and its key, as files.
#[derive(Clone, Debug)]
pub struct CertificateFile {
    /// The certificate in PEM.
    pub certificate: PathBuf,
    /// The key in PEM.
    pub key: PathBuf,
}

impl Authority {
    /// A new authority, which nobody else trusts.
    pub fn new() -> anyhow::Result<Authority> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let folder = tempfile::tempdir()?;
        let certificate = params.self_signed(&key)?;
        std::fs::write(folder.path().join("authority.pem"), certificate.pem())?;
        Ok(Authority {
            issuer: Issuer::new(params, key),
            folder,
        })
    }

    /// Its own certificate, in PEM.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// A new certificate for these names. One that was issued as `file` before is replaced.
    pub fn issue(&self, file: &str, names: &[&str]) -> anyhow::Result<CertificateFile> {
        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = params.signed_by(&key, &self.issuer)?;
        let path = |end| self.folder.path().join(format!("{file}.{end}"));
        let issued = CertificateFile {
            certificate: path("pem"),
            key: path("key"),
        };
        std::fs::write(&issued.key, key.serialize_pem())?;
        std::fs::write(&issued.certificate, certificate.pem())?;
        Ok(issued)
    }

    /// A client that trusts this authority, speaks these versions of TLS, and shows a certificate
    /// if it has one.
    pub fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        shown: Option<&CertificateFile>,
    ) -> anyhow::Result<Arc<ClientConfig>> {
        let builder = trusting(CertificateDer::from_pem_file(self.file())?, versions)?;
        let config = match shown {
            None => builder.with_no_client_auth(),
            Some(shown) => builder.with_client_auth_cert(
                vec![CertificateDer::from_pem_file(&shown.certificate)?],
                PrivateKeyDer::from_pem_file(&shown.key)?,
            )?,
        };
        Ok(Arc::new(config))
    }
}

impl CertificateFile {
    /// The entry of `tls.certificates` in a node's configuration.
    pub fn entry(&self) -> String {
        let path = |path: &Path| path.display().to_string();
        let (certificate, key) = (path(&self.certificate), path(&self.key));
        format!("{{ certificate = '{certificate}', key = '{key}' }}")
    }

    /// The certificate's bytes.
    pub fn der(&self) -> anyhow::Result<CertificateDer<'static>> {
        Ok(CertificateDer::from_pem_file(&self.certificate)?)
    }
}

/// A client that trusts the authority with this certificate, in PEM.
pub(crate) fn client_of(root: &[u8]) -> anyhow::Result<Arc<ClientConfig>> {
    let builder = trusting(CertificateDer::from_pem_slice(root)?, ALL_VERSIONS)?;
    Ok(Arc::new(builder.with_no_client_auth()))
}

fn trusting(
    root: CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
) -> anyhow::Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let mut roots = RootCertStore::empty();
    roots.add(root)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_protocol_versions(versions)?;
    Ok(builder.with_root_certificates(roots))
}

/// Connects with TLS, and asks for the certificate of `name`.
pub async fn tls_connect(
    address: SocketAddr,
    name: &'static str,
    config: &Arc<ClientConfig>,
) -> anyhow::Result<TlsStream<TcpStream>> {
    let stream = within("a connection", TcpStream::connect(address)).await?;
    stream.set_nodelay(true)?;
    tls_over(stream, name, config).await
}

/// Begins with TLS on a connection, and asks for the certificate of `name`.
pub async fn tls_over(
    stream: TcpStream,
    name: &'static str,
    config: &Arc<ClientConfig>,
) -> anyhow::Result<TlsStream<TcpStream>> {
    let connecting = async {
        let name = ServerName::try_from(name)?;
        let connector = TlsConnector::from(config.clone());
        anyhow::Ok(connector.connect(name, stream).await?)
    };
    within("TLS", connecting).await
}
