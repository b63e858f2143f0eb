//! The certificates that the node shows to clients and to callers of the API, and what it asks of
//! theirs.
//!
//! The files are read again when they change, so a renewed certificate needs no restart. A
//! connection keeps the certificate with which it has begun.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::crypto::ring::{Ticketer, default_provider};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::{
    ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier,
};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::server::TlsStream;

use crate::config::{TlsConfig, TlsVersion};
use crate::watched_files::WatchedFiles;

/// The largest file of certificates, in bytes. The files are read every second.
const FILE_BYTES: u64 = 1 << 20;

/// The certificates of the node, in their current state.
pub struct Certificates {
    settings: TlsConfig,
    configs: ArcSwap<ServerConfigs>,
}

/// What is agreed with clients and with callers of the API.
struct ServerConfigs {
    clients: Arc<ServerConfig>,
    api: Arc<ServerConfig>,
}

impl Certificates {
    /// Reads the certificates, and reads them again whenever they change.
    ///
    /// # Errors
    ///
    /// Returns an error when no certificate is named, when a file cannot be read, or when a
    /// certificate and its key do not belong together.
    pub fn open(settings: &TlsConfig) -> anyhow::Result<Arc<Certificates>> {
        let files = files_of(settings)?;
        let contents = files.read()?;
        let certificates = Arc::new(Certificates {
            settings: settings.clone(),
            configs: ArcSwap::from_pointee(ServerConfigs::build(settings, &contents)?),
        });
        let owner = Arc::downgrade(&certificates);
        tokio::spawn(files.keep_reading(owner, contents, Certificates::take));
        Ok(certificates)
    }

    /// Checks the certificates without keeping them.
    ///
    /// # Errors
    ///
    /// Returns an error in the same cases as `Certificates::open`.
    pub fn check(settings: &TlsConfig) -> anyhow::Result<()> {
        let contents = files_of(settings)?.read()?;
        ServerConfigs::build(settings, &contents).map(drop)
    }
    fn take(&self, contents: &[Vec<u8>]) -> anyhow::Result<()> {
        let configs = ServerConfigs::build(&self.settings, contents)?;
        self.configs.store(Arc::new(configs));
        Ok(())
    }

    /// What is agreed with a new client.
    pub(crate) fn for_clients(&self) -> Arc<ServerConfig> {
        self.configs.load().clients.clone()
    }

    /// Shakes hands over TLS with a new caller of the API.
    ///
    /// # Errors
    ///
    /// Returns an error when the connection breaks, or when the caller does not agree.
    pub(crate) async fn accept_caller<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.configs.load().api.clone();
        TlsAcceptor::from(config).accept(stream).await
    }
}

impl ServerConfigs {
    /// Builds both from the files: each certificate with its key, and then the authorities of
    /// clients.
    fn build(settings: &TlsConfig, contents: &[Vec<u8>]) -> anyhow::Result<ServerConfigs> {
        let provider = Arc::new(default_provider());
        let mut certificates = Vec::new();
        for (files, pem) in settings.certificates.iter().zip(contents.chunks(2)) {
            let [chain, key] = pem else { continue };
            let named = || {
                let (certificate, key) = (files.certificate.display(), files.key.display());
                format!("the certificate {certificate} with the key {key}")
            };
            certificates.push(Arc::new(
                certified(chain, key, &provider).with_context(named)?,
            ));
        }
        let authorities = contents.get(settings.certificates.len() * 2);
        let authorities = authorities
            .map(|pem| authorities_in(pem, &settings.client_authorities))
            .transpose()?;
        let versions: &[&SupportedProtocolVersion] = match settings.min_version {
            TlsVersion::V12 => &[&TLS13, &TLS12],
            TlsVersion::V13 => &[&TLS13],
        };
        let by_name = Arc::new(CertificatesByName(certificates));
        let build = |authorities: Option<Arc<RootCertStore>>, protocols: &[&[u8]]| {
            let builder = ServerConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(versions)?;
            let builder = match authorities {
                None => builder.with_no_client_auth(),
                Some(authorities) => builder.with_client_cert_verifier(
                    WebPkiClientVerifier::builder_with_provider(authorities, provider.clone())
                        // The plugin of the path decides, and the path is not known yet.
                        .allow_unauthenticated()
                        .build()?,
                ),
            };
            let mut config = builder.with_cert_resolver(by_name.clone());
            config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            // A ticket is worth nothing any more where an authority has been removed.
            config.ticketer = Ticketer::new()?;
            anyhow::Ok(Arc::new(config))
        };
        Ok(ServerConfigs {
            clients: build(authorities, &[b"http/1.1"])?,
            api: build(None, &[b"h2", b"http/1.1"])?,
        })
    }
}

fn certified(chain: &[u8], key: &[u8], provider: &CryptoProvider) -> anyhow::Result<CertifiedKey> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .context("the certificate is no PEM")?;
    ensure!(!chain.is_empty(), "the certificate's file has none in PEM");
    let key = PrivateKeyDer::from_pem_slice(key).context("the key's file has none in PEM")?;
    Ok(CertifiedKey::from_der(chain, key, provider)?)
}

fn authorities_in(pem: &[u8], file: &Path) -> anyhow::Result<Arc<RootCertStore>> {
    let named = || format!("tls.client_authorities: {}", file.display());
    let mut authorities = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.with_context(named)?;
        authorities.add(certificate).with_context(named)?;
    }
    ensure!(
        !authorities.is_empty(),
        "{} has no certificate in PEM",
        named()
    );
    Ok(Arc::new(authorities))
}

/// The files that the settings name: each certificate with its key, and then the authorities of
/// clients.
fn files_of(settings: &TlsConfig) -> anyhow::Result<WatchedFiles> {
    ensure!(
        !settings.certificates.is_empty(),
        "TLS needs a certificate: set tls.certificates = [{{ certificate = \"FILE\", key = \
         \"FILE\" }}]"
    );
    let mut paths = Vec::new();
    for files in &settings.certificates {
        paths.extend([files.certificate.clone(), files.key.clone()]);
    }
    if !settings.client_authorities.as_os_str().is_empty() {
        paths.push(settings.client_authorities.clone());
    }
    Ok(WatchedFiles {
        what: "the certificates",
        paths,
        most: FILE_BYTES,
    })
}

/// The certificates of the node, from which a client gets the one for the name that it asks for.
#[derive(Debug)]
struct CertificatesByName(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for CertificatesByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| {
            let name = ServerName::try_from(name).ok()?;
            self.0.iter().find(|key| is_for(key, &name))
        });
        named.or(self.0.first()).cloned()
    }
}

fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let certificate = key.end_entity_cert().ok();
    let parsed = certificate.and_then(|certificate| ParsedCertificate::try_from(certificate).ok());
    parsed.is_some_and(|parsed| verify_server_name(&parsed, name).is_ok())
}
