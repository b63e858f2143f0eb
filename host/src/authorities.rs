//! Certificates of authorities, which an operator names by a file in PEM.

use std::path::Path;

use anyhow::Context as _;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

/// What the file has: at least one certificate.
pub(crate) struct Authorities {
    /// As it is written.
    pub(crate) pem: Vec<u8>,
    pub(crate) certificates: Vec<CertificateDer<'static>>,
}

impl Authorities {
    /// Those of the file, if one is named; `key` is where.
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
