//! Certificates of authorities, from a PEM file that the operator names.

use std::path::Path;

use anyhow::Context as _;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

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
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .with_context(named)?;
        anyhow::ensure!(
            !certificates.is_empty(),
            "{} has no certificate in PEM",
            named()
        );
        Ok(Some(Authorities { pem, certificates }))
    }
}
