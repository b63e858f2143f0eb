//! Getting certificates from an authority, by ACME (RFC 8555), and renewing them.
//!
//! Each name has a certificate of its own, so a name that leads elsewhere keeps no other from being
//! renewed. One certificate is ordered at a time. What was issued is kept in a folder, and a node
//! that starts again shows it at once.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use data_encoding::BASE64URL_NOPAD;
use instant_acme::{
    Account, AccountBuilder, AuthorizationStatus, ChallengeType, Error, ExternalAccountKey,
    Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use scopeguard::defer;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::ServerName;

use super::acme_http::AcmeHttp;
use super::issued::{ChallengeAnswer, IssuedCertificate, IssuedCertificates};
use crate::config::{AcmeChallenge, AcmeConfig};
use crate::counters::Counters;

/// The interval at which the node looks for certificates that are to be renewed.
const LOOK: Duration = Duration::from_secs(1);

/// The most time that one order takes.
const ORDER_TIMEOUT: Duration = Duration::from_secs(300);

/// The most time between two attempts.
const MAX_RETRY: Duration = Duration::from_secs(12 * 60 * 60);

/// The largest file that the node has written itself, in bytes.
const FILE_BYTES: u64 = 1 << 20;

/// The file with the account's key, in the folder of the directory.
const ACCOUNT: &str = "account.json";

/// The error of an authority that does not know the account (RFC 8555, section 6.7).
const UNKNOWN_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// The node's account with an authority.
pub(super) struct AcmeClient {
    settings: AcmeConfig,
    /// The folder for what this authority has issued. Another authority has another one, so a change
    /// of the directory takes effect at once.
    folder: PathBuf,
    http: AcmeHttp,
    external_account: Option<ExternalAccountKey>,
    issued: Arc<IssuedCertificates>,
    counters: Arc<Counters>,
}

/// When a name may be ordered again, and how often it has failed.
struct OrderPause {
    until: Instant,
    failures: u32,
}

impl AcmeClient {
    /// Takes the settings, and reads what was issued before.
    ///
    /// # Errors
    ///
    /// Returns an error when the settings cannot be used, or when the folder cannot be made.
    pub(super) fn open(
        settings: &AcmeConfig,
        counters: Arc<Counters>,
    ) -> anyhow::Result<Arc<AcmeClient>> {
        let (http, external_account) = check(settings)?;
        let client = AcmeClient {
            settings: settings.clone(),
            folder: settings.folder.join(folder_of(&settings.directory)),
            http,
            external_account,
            issued: Arc::default(),
            counters,
        };
        let folder = client.folder.display();
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&client.folder);
        made.with_context(|| format!("tls.acme.folder: {folder} cannot be made"))?;
        for name in &settings.names {
            match client.read(name) {
                Ok(Some(issued)) => client.issued.show(name, issued),
                Ok(None) => {}
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(
                        name,
                        error,
                        "a new certificate is ordered in place of this one"
                    );
                }
            }
        }
        Ok(Arc::new(client))
    }

    /// What the authority has issued.
    pub(super) fn issued(&self) -> &Arc<IssuedCertificates> {
        &self.issued
    }

    /// Reads the certificate of a name that was issued before.
    fn read(&self, name: &str) -> anyhow::Result<Option<IssuedCertificate>> {
        let file = self.file(name);
        let pem = match crate::file::read(&file, FILE_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| file.display().to_string())?,
        };
        let issued = IssuedCertificate::read(name, &pem, &default_provider());
        issued.map(Some).with_context(|| file.display().to_string())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.pem"))
    }

    /// Orders a certificate, keeps it, and shows it. Returns how long it is valid.
    async fn renew(&self, name: &str) -> anyhow::Result<Duration> {
        let pem = timeout(ORDER_TIMEOUT, self.order(name)).await;
        let pem = pem.context("the authority takes too long")??;
        let issued = IssuedCertificate::read(name, pem.as_bytes(), &default_provider())?;
        let validity = issued.validity;
        // Shown in any case: who cannot keep it orders again after the next start.
        self.issued.show(name, issued);
        self.keep(&format!("{name}.pem"), pem).await?;
        Ok(validity)
    }

    /// Orders a certificate for a name, and returns its key and itself, in PEM.
    async fn order(&self, name: &str) -> anyhow::Result<String> {
        let account = self.account().await?;
        let identifiers = [Identifier::Dns(name.to_owned())];
        let mut order = match account.new_order(&NewOrder::new(&identifiers)).await {
            Err(Error::Api(problem)) if problem.r#type.as_deref() == Some(UNKNOWN_ACCOUNT) => {
                std::fs::remove_file(self.folder.join(ACCOUNT))?;
                bail!("the authority does not know the account any more: the next order makes one");
            }
            order => order?,
        };
        defer!(self.issued.answer(None));
        self.answer_challenges(name, &mut order).await?;
        let retries = RetryPolicy::new().timeout(ORDER_TIMEOUT);
        if order.poll_ready(&retries).await? != OrderStatus::Ready {
            bail!("{}", refusal(&mut order).await?);
        }
        let key = order.finalize().await?;
        Ok(key + &order.poll_certificate(&retries).await?)
    }

    /// Prepares the answer to what the authority asks before it issues a certificate, and lets it
    /// ask.
    async fn answer_challenges(&self, name: &str, order: &mut Order) -> anyhow::Result<()> {
        let (kind, shown) = match self.settings.challenge {
            AcmeChallenge::TlsAlpn => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
            AcmeChallenge::Http => (ChallengeType::Http01, "http-01"),
        };
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let challenge = authorization.challenge(kind.clone());
            let mut challenge = challenge.with_context(|| {
                format!("the authority does not check names by {shown}: set tls.acme.challenge")
            })?;
            let answer = challenge.key_authorization();
            self.issued.answer(Some(match self.settings.challenge {
                AcmeChallenge::TlsAlpn => {
                    ChallengeAnswer::certificate(name, &answer, &default_provider())?
                }
                AcmeChallenge::Http => {
                    ChallengeAnswer::Page(challenge.token.clone(), answer.as_str().to_owned())
                }
            }));
            challenge.set_ready().await?;
        }
        Ok(())
    }

    /// The account with the authority, which is made if there is none yet.
    async fn account(&self) -> anyhow::Result<Account> {
        let file = self.folder.join(ACCOUNT);
        match crate::file::read(&file, FILE_BYTES) {
            Ok(kept) => {
                let credentials =
                    serde_json::from_slice(&kept).with_context(|| file.display().to_string())?;
                Ok(self.builder().from_credentials(credentials).await?)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let contact = format!("mailto:{}", self.settings.contact);
                let contacts = [&*contact];
                let account = NewAccount {
                    contact: match self.settings.contact.is_empty() {
                        true => &[],
                        false => &contacts,
                    },
                    terms_of_service_agreed: self.settings.accept_terms,
                    only_return_existing: false,
                };
                let directory = self.settings.directory.clone();
                let external = self.external_account.as_ref();
                let created = self.builder().create(&account, directory, external).await;
                let (account, credentials) = created?;
                self.keep(ACCOUNT, serde_json::to_string(&credentials)?)
                    .await?;
                Ok(account)
            }
            Err(error) => Err(error).with_context(|| file.display().to_string()),
        }
    }

    fn builder(&self) -> AccountBuilder {
        Account::builder_with_http(Box::new(self.http.clone()))
    }

    /// Writes a file that only the node may read, whole or not at all.
    async fn keep(&self, name: &str, content: String) -> anyhow::Result<()> {
        let (folder, file) = (self.folder.clone(), self.folder.join(name));
        let named = format!("{} cannot be written", file.display());
        let writing = tokio::task::spawn_blocking(move || {
            // A temporary file may only be read by its owner.
            let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
            temporary.write_all(content.as_bytes())?;
            temporary.as_file().sync_all()?;
            temporary.persist(file)?;
            anyhow::Ok(())
        });
        writing.await?.context(named)
    }
}

/// Orders and renews certificates for as long as the client lives.
pub(super) async fn keep_renewing(client: Weak<AcmeClient>) {
    let mut pauses: BTreeMap<String, OrderPause> = BTreeMap::new();
    loop {
        let Some(client) = client.upgrade() else {
            return;
        };
        for name in &client.settings.names {
            let pause = pauses.get(name);
            if !client.issued.is_due(name)
                || pause.is_some_and(|pause| pause.until > Instant::now())
            {
                continue;
            }
            let failures = pause.map_or(0, |pause| pause.failures);
            let pause = match client.renew(name).await {
                Ok(validity) => {
                    client.counters.certificates_issued.add_one();
                    tracing::info!(name, "the authority has issued a certificate");
                    OrderPause {
                        // Where a clock is wrong, a certificate seems to be due all the time.
                        until: Instant::now() + validity / 3,
                        failures: 0,
                    }
                }
                Err(error) => {
                    client.counters.certificate_orders_failed.add_one();
                    let pause = client.settings.retry.saturating_mul(1 << failures.min(16));
                    let pause = pause.min(MAX_RETRY);
                    let (error, retry) = (format!("{error:#}"), humantime::format_duration(pause));
                    tracing::error!(name, error, %retry, "no certificate could be had");
                    OrderPause {
                        until: Instant::now() + pause,
                        failures: failures + 1,
                    }
                }
            };
            pauses.insert(name.clone(), pause);
        }
        drop(client);
        sleep(LOOK).await;
    }
}

/// Checks the settings without asking the authority, and returns what they lead to.
///
/// # Errors
///
/// Returns an error that says what to change.
pub(super) fn check(
    settings: &AcmeConfig,
) -> anyhow::Result<(AcmeHttp, Option<ExternalAccountKey>)> {
    for name in &settings.names {
        ensure!(
            matches!(ServerName::try_from(&**name), Ok(ServerName::DnsName(_)))
                && *name == name.to_ascii_lowercase(),
            "tls.acme.names: {name:?} is no name that can be checked: write each host's name, in \
             lower case and without *"
        );
    }
    ensure!(
        settings.accept_terms,
        "tls.acme.accept_terms must be true: read the terms of service of the authority at {}",
        settings.directory
    );
    ensure!(
        settings.external_account.is_empty()
            == settings.external_account_key.as_os_str().is_empty(),
        "tls.acme: external_account and external_account_key go together"
    );
    let external_account = match &*settings.external_account {
        "" => None,
        id => {
            let file = &settings.external_account_key;
            let named = || format!("tls.acme.external_account_key: {}", file.display());
            let text = crate::file::read_text(file, FILE_BYTES).with_context(named)?;
            let key = BASE64URL_NOPAD
                .decode(text.trim().trim_end_matches('=').as_bytes())
                .context("the key is no base64url")
                .with_context(named)?;
            Some(ExternalAccountKey::new(id.to_owned(), &key))
        }
    };
    Ok((AcmeHttp::new(&settings.authorities)?, external_account))
}

/// The name of the folder for a directory: its URL without the scheme, in letters that fit a file.
fn folder_of(directory: &str) -> String {
    let named = directory
        .split_once("://")
        .map_or(directory, |(_, rest)| rest);
    let fits = |letter: char| letter.is_ascii_alphanumeric() || letter == '.' || letter == '-';
    let folder = named.replace(|letter| !fits(letter), "_");
    folder.trim_start_matches('.').to_owned()
}

/// Why the authority has refused an order, in its own words.
async fn refusal(order: &mut Order) -> Result<String, Error> {
    let mut reasons = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let state = authorization.refresh().await?;
        let errors = state.challenges.iter().filter_map(|it| it.error.as_ref());
        reasons.extend(errors.map(ToString::to_string));
    }
    Ok(format!("the authority refuses: {}", reasons.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> AcmeConfig {
        AcmeConfig {
            names: vec!["node.test".to_owned()],
            accept_terms: true,
            ..AcmeConfig::default()
        }
    }

    #[test]
    fn what_cannot_be_ordered_is_said_before() {
        assert!(check(&settings()).is_ok());
        for name in ["*.node.test", "", "127.0.0.1", "a/b", "Node.test", "-"] {
            let wrong = AcmeConfig {
                names: vec![name.to_owned()],
                ..settings()
            };
            let error = check(&wrong).err().expect(name).to_string();
            assert!(error.contains("is no name that can be checked"), "{error}");
        }
        let unread = AcmeConfig {
            accept_terms: false,
            ..settings()
        };
        let error = check(&unread).err().expect("no consent").to_string();
        assert!(error.contains("accept_terms must be true"), "{error}");
        let half = AcmeConfig {
            external_account: "me".to_owned(),
            ..settings()
        };
        let error = check(&half).err().expect("no key").to_string();
        assert!(error.contains("go together"), "{error}");
    }

    #[test]
    fn each_directory_has_a_folder_of_its_own() {
        let default = folder_of(&AcmeConfig::default().directory);
        assert_eq!(default, "acme-v02.api.letsencrypt.org_directory");
        assert_eq!(folder_of("https://../../a b"), "_.._a_b");
        assert_eq!(
            folder_of("https://127.0.0.1:14000/dir"),
            "127.0.0.1_14000_dir"
        );
    }
}
