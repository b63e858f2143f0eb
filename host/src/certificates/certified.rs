//! Certificates in PEM, as rustls takes them.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::sign::CertifiedKey;

use crate::authorities::Authorities;

/// Reads a certificate and its key, both in PEM.
///
/// # Errors
///
/// Returns an error when one of them is missing, or when they do not belong together.
pub(crate) fn certified(
    chain: &[u8],
    key: &[u8],
    provider: &CryptoProvider,
) -> anyhow::Result<CertifiedKey> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .context("the certificate is no PEM")?;
    ensure!(!chain.is_empty(), "the certificate's file has none in PEM");
    let key = PrivateKeyDer::from_pem_slice(key).context("the key's file has none in PEM")?;
    Ok(CertifiedKey::from_der(chain, key, provider)?)
}

/// The authorities whose certificates are in a text in PEM.
///
/// # Errors
///
/// Returns an error when there is none, or one that is no authority's.
pub(crate) fn authorities_in(pem: &[u8]) -> anyhow::Result<Arc<RootCertStore>> {
    let mut authorities = RootCertStore::empty();
    Authorities::parse(pem.to_vec())?.add_to(&mut authorities)?;
    Ok(Arc::new(authorities))
}

/// Whether a certificate is valid for a name.
pub(super) fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let certificate = key.end_entity_cert().ok();
    let parsed = certificate.and_then(|certificate| ParsedCertificate::try_from(certificate).ok());
    parsed.is_some_and(|parsed| verify_server_name(&parsed, name).is_ok())
}
