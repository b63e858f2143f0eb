//! The certificates that an authority has issued to this node, and what the node shows to the
//! authority while it checks that a name leads here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use instant_acme::KeyAuthorization;
use parking_lot::Mutex;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::certified::{certified, is_for};

/// Where an authority asks for the answer to a challenge (RFC 8555, section 8.3).
const HTTP_CHALLENGES: &str = "/.well-known/acme-challenge/";

/// The certificates that an authority has issued, by their names.
#[derive(Debug)]
pub(super) struct IssuedCertificates {
    /// The names, in the order of the configuration.
    names: Vec<String>,
    certificates: Mutex<BTreeMap<String, IssuedCertificate>>,
    challenge: Mutex<Option<ChallengeAnswer>>,
}

/// One certificate, and when it is to be renewed.
#[derive(Clone, Debug)]
pub(super) struct IssuedCertificate {
    key: Arc<CertifiedKey>,
    renew_at: SystemTime,
    /// How long the certificate is valid from its beginning to its end.
    pub(super) validity: Duration,
}

/// What proves to the authority that a name leads here. One name is checked at a time.
#[derive(Debug)]
pub(super) enum ChallengeAnswer {
    /// A certificate for a handshake over TLS that asks for this name.
    Certificate(String, Arc<CertifiedKey>),
    /// The content of the page with this token.
    Page(String, String),
}

impl IssuedCertificates {
    /// No certificates yet, for these names.
    pub(super) fn new(names: &[String]) -> IssuedCertificates {
        IssuedCertificates {
            names: names.to_vec(),
            certificates: Mutex::default(),
            challenge: Mutex::default(),
        }
    }

    /// Whether the certificate of a name is missing or is to be renewed.
    pub(super) fn is_due(&self, name: &str) -> bool {
        let certificates = self.certificates.lock();
        certificates.get(name).is_none_or(IssuedCertificate::is_due)
    }

    /// Shows the certificate of a name from now on.
    pub(super) fn show(&self, name: &str, issued: IssuedCertificate) {
        self.certificates.lock().insert(name.to_owned(), issued);
    }

    /// The certificate for a name, in lower case.
    pub(super) fn named(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let certificates = self.certificates.lock();
        certificates.get(name).map(|issued| issued.key.clone())
    }

    /// The certificate for who asks for no name, or for none that there is.
    pub(super) fn first(&self) -> Option<Arc<CertifiedKey>> {
        self.names.iter().find_map(|name| self.named(name))
    }

    /// Answers a challenge of the authority from now on, or none.
    pub(super) fn answer(&self, answer: Option<ChallengeAnswer>) {
        *self.challenge.lock() = answer;
    }

    /// The certificate that the authority is to see when it checks a name.
    pub(super) fn challenge_certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        match &*self.challenge.lock() {
            Some(ChallengeAnswer::Certificate(checked, key)) if checked == name => {
                Some(key.clone())
            }
            _ => None,
        }
    }

    /// The page that the authority is to see at a path when it checks a name.
    pub(super) fn challenge_page(&self, path: &str) -> Option<String> {
        let asked = path.strip_prefix(HTTP_CHALLENGES)?;
        match &*self.challenge.lock() {
            Some(ChallengeAnswer::Page(token, page)) if token == asked => Some(page.clone()),
            _ => None,
        }
    }
}

impl IssuedCertificate {
    /// Whether the certificate is to be renewed.
    pub(super) fn is_due(&self) -> bool {
        self.renew_at <= SystemTime::now()
    }

    /// Reads the certificate of a name with its key, both in PEM.
    ///
    /// # Errors
    ///
    /// Returns an error when one of them is missing, when they do not belong together, or when the
    /// certificate is for another name.
    pub(super) fn read(
        name: &str,
        pem: &[u8],
        provider: &CryptoProvider,
    ) -> anyhow::Result<IssuedCertificate> {
        let key = certified(pem, pem, provider)?;
        ensure!(
            is_for(&key, &ServerName::try_from(name)?),
            "the certificate is not for {name}"
        );
        let first = key.cert.first().context("no certificate")?;
        let (_, parsed) = x509_parser::parse_x509_certificate(first)?;
        let at = |time: i64| {
            let since = u64::try_from(time).context("a time before 1970")?;
            anyhow::Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(since))
        };
        let validity = parsed.validity();
        let (begin, end) = (
            at(validity.not_before.timestamp())?,
            at(validity.not_after.timestamp())?,
        );
        let validity = end.duration_since(begin)?;
        Ok(IssuedCertificate {
            key: Arc::new(key),
            // As most clients of authorities do: a third of the time is left for failures.
            renew_at: begin + validity * 2 / 3,
            validity,
        })
    }
}

impl ChallengeAnswer {
    /// The answer to a challenge over TLS: a certificate with the authorization in it (RFC 8737).
    ///
    /// # Errors
    ///
    /// Returns an error when the certificate cannot be made.
    pub(super) fn certificate(
        name: &str,
        authorization: &KeyAuthorization,
        provider: &CryptoProvider,
    ) -> anyhow::Result<ChallengeAnswer> {
        let digest = authorization.digest();
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        // Not read again: the authorization is a critical extension, which rustls does not know.
        let certified = CertifiedKey::new(
            vec![certificate.der().clone()],
            provider.key_provider.load_private_key(key.into())?,
        );
        Ok(ChallengeAnswer::Certificate(
            name.to_owned(),
            Arc::new(certified),
        ))
    }
}
