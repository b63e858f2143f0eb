//! Certificates of authorities, from a PEM file that the operator names.

use std::path::Path;

use anyhow::Context as _;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The certificates of a PEM file, at least one.
pub(crate) struct Authorities {
    /// The content of the file, as it is written.
    pub(crate) pem: Vec<u8>,
    pub(crate) certificates: Vec<CertificateDer<'static>>,
}

impl Authorities {
    /// Reads the certificates of `file`, if one is named. `key` is the configuration key that names
    /// the file.
    ///
    /// # Errors
    ///
    /// Returns an error when the file cannot be read, is not valid PEM, or contains no certificate.
    pub(crate) fn read(key: &'static str, file: &Path) -> anyhow::Result<Option<Authorities>> {
        if file.as_os_str().is_empty() {
            return Ok(None);
        }
        let named = || format!("{key}: {}", file.display());
        let pem = std::fs::read(file).with_context(|| format!("{} cannot be read", named()))?;
        Authorities::parse(pem).map(Some).with_context(named)
    }

    /// Reads the certificates in PEM.
    ///
    /// # Errors
    ///
    /// Returns an error when the text is not valid PEM, or contains no certificate.
    pub(crate) fn parse(pem: Vec<u8>) -> anyhow::Result<Authorities> {
        let certificates: Vec<_> =
            CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>()?;
        anyhow::ensure!(!certificates.is_empty(), "it has no certificate in PEM");
        Ok(Authorities { pem, certificates })
    }

    /// Adds the certificates to those that are trusted.
    ///
    /// # Errors
    ///
    /// Returns an error when one of them is not the certificate of an authority.
    pub(crate) fn add_to(self, roots: &mut RootCertStore) -> anyhow::Result<()> {
        for certificate in self.certificates {
            roots.add(certificate)?;
        }
        Ok(())
    }
}

/// Makes the cryptography of this program that of the crates that ask the process for it.
pub(crate) fn provide_cryptography() {
    // Somebody may have done it before.
    let _ = ring::default_provider().install_default();
}

/// The TLS configuration of a client that trusts the authorities that browsers trust, and those of
/// a PEM file. An empty path means that there are no more. `key` is the configuration key that names
/// the file.
///
/// # Errors
///
/// Returns an error when the file cannot be read, or contains no usable certificate.
pub(crate) fn client_config(key: &'static str, file: &Path) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.into(),
    };
    if let Some(more) = Authorities::read(key, file)? {
        more.add_to(&mut roots).context(key)?;
    }
    let config = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
