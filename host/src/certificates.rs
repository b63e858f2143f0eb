//! The certificates that the node shows to clients and to callers of the API, and what it asks of
//! theirs.
//!
//! The files are read again when they change, so a renewed certificate needs no restart. Other
//! certificates are those that the node gets from an authority by itself. A connection keeps the
//! certificate with which it has begun.

mod acme;
mod acme_http;
mod certified;
mod issued;

use std::io;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::{Ticketer, default_provider};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::server::TlsStream;
use tokio_util::task::AbortOnDropHandle;

use self::acme::AcmeClient;
use self::certified::is_for;
pub(crate) use self::certified::{authorities_in, certified};
use self::issued::IssuedCertificates;
use crate::config::{AcmeChallenge, TlsConfig, TlsVersion};
use crate::counters::Counters;
use crate::socket::CHALLENGE_PROTOCOL;
use crate::watched_files::WatchedFiles;

/// The certificates of the node, in their current state.
pub struct Certificates {
    settings: TlsConfig,
    configs: ArcSwap<ServerConfigs>,
    acme: Option<Arc<AcmeClient>>,
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
    /// Returns an error when no certificate is named, when a file cannot be read, when a
    /// certificate and its key do not belong together, or when the settings for ACME cannot be used.
    pub fn open(
        settings: &TlsConfig,
        counters: Arc<Counters>,
    ) -> anyhow::Result<Arc<Certificates>> {
        let files = files_of(settings)?;
        let contents = files.read()?;
        let acme = settings.acme.is_used();
        let acme = acme.then(|| AcmeClient::open(&settings.acme, counters));
        let acme = acme.transpose()?;
        let configs = ServerConfigs::build(settings, &contents, acme.as_deref())?;
        let certificates = Arc::new(Certificates {
            settings: settings.clone(),
            configs: ArcSwap::from_pointee(configs),
            acme,
        });
        let owner = Arc::downgrade(&certificates);
        tokio::spawn(files.keep_reading(owner, contents, Certificates::take));
        Ok(certificates)
    }

    /// Checks the settings and the certificates, without a folder for new ones.
    ///
    /// # Errors
    ///
    /// Returns an error in the same cases as `Certificates::open`, except for the folder.
    pub fn check(settings: &TlsConfig) -> anyhow::Result<()> {
        let contents = files_of(settings)?.read()?;
        if settings.acme.is_used() {
            acme::check(&settings.acme)?;
        }
        ServerConfigs::build(settings, &contents, None).map(drop)
    }

    /// Gets the certificates that are missing, and renews the others in time, until the returned
    /// handle is dropped. The ports must be open, since the authority connects to them.
    pub(crate) fn keep_renewing(&self) -> Option<AbortOnDropHandle<()>> {
        let renewing = tokio::spawn(acme::keep_renewing(self.acme.clone()?));
        Some(AbortOnDropHandle::new(renewing))
    }

    /// The page that the authority is to see at a path while it checks a name.
    pub(crate) fn challenge_page(&self, path: &str) -> Option<String> {
        self.acme.as_ref()?.issued().challenge_page(path)
    }

    /// The origin to which ports without TLS send everyone.
    pub(crate) fn redirect(&self) -> Option<&str> {
        Some(&*self.settings.redirect).filter(|origin| !origin.is_empty())
    }

    fn take(&self, contents: &[Vec<u8>]) -> anyhow::Result<()> {
        let configs = ServerConfigs::build(&self.settings, contents, self.acme.as_deref())?;
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
    fn build(
        settings: &TlsConfig,
        contents: &[Vec<u8>],
        acme: Option<&AcmeClient>,
    ) -> anyhow::Result<ServerConfigs> {
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
        let authorities = authorities.map(|pem| authorities_in(pem)).transpose();
        let authorities = authorities.with_context(|| {
            let file = settings.client_authorities.display();
            format!("tls.client_authorities: {file}")
        })?;
        let versions: &[&SupportedProtocolVersion] = match settings.min_version {
            TlsVersion::V12 => &[&TLS13, &TLS12],
            TlsVersion::V13 => &[&TLS13],
        };
        let by_name = Arc::new(CertificatesByName {
            certificates,
            issued: acme.map(|acme| acme.issued().clone()),
        });
        let mut protocols: Vec<&[u8]> = vec![b"http/1.1"];
        if settings.acme.is_used() && settings.acme.challenge == AcmeChallenge::TlsAlpn {
            protocols.push(CHALLENGE_PROTOCOL);
        }
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
            clients: build(authorities, &protocols)?,
            api: build(None, &[b"h2", b"http/1.1"])?,
        })
    }
}

/// The files that the settings name: each certificate with its key, and then the authorities of
/// clients.
fn files_of(settings: &TlsConfig) -> anyhow::Result<WatchedFiles> {
    ensure!(
        settings.acme.is_used() || !settings.certificates.is_empty(),
        "TLS needs a certificate: set tls.certificates = [{{ certificate = \"FILE\", key = \
         \"FILE\" }}], or let the node get one with tls.acme.names"
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
    })
}

/// The certificates of the node, from which a client gets the one for the name that it asks for.
#[derive(Debug)]
struct CertificatesByName {
    certificates: Vec<Arc<CertifiedKey>>,
    issued: Option<Arc<IssuedCertificates>>,
}

impl ResolvesServerCert for CertificatesByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let issued = self.issued.as_ref();
        let mut protocols = hello.alpn().into_iter().flatten();
        if protocols.next() == Some(CHALLENGE_PROTOCOL) && protocols.next().is_none() {
            return issued?.challenge_certificate(hello.server_name()?);
        }
        let named = hello.server_name().and_then(|asked| {
            let name = ServerName::try_from(asked).ok()?;
            let certificate = self.certificates.iter().find(|key| is_for(key, &name));
            certificate.cloned().or_else(|| issued?.named(asked))
        });
        let first = || self.certificates.first().cloned();
        named.or_else(first).or_else(|| issued?.first())
    }
}
