//! Getting certificates from an authority, by ACME (RFC 8555), and renewing them.
//!
//! Each name has a certificate of its own, so a name that leads elsewhere keeps no other from being
//! renewed. One certificate is ordered at a time. What was issued is kept in a folder, and a node
//! that starts again shows it at once.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use data_encoding::BASE64URL_NOPAD;
use http::Uri;
use http::uri::Scheme;
use instant_acme::{
    Account, AccountBuilder, AuthorizationStatus, ChallengeType, Error, ExternalAccountKey,
    Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use parking_lot::Mutex;
use scopeguard::defer;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_util::task::AbortOnDropHandle;

use super::acme_http::AcmeHttp;
use super::issued::{ChallengeAnswer, IssuedCertificate, IssuedCertificates};
use crate::config::{AcmeChallenge, AcmeConfig};
use crate::counters::Counters;
use crate::file::create_private_folder;

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
    /// The files that could not be written yet, by their names.
    unwritten: Mutex<BTreeMap<String, String>>,
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
            issued: Arc::new(IssuedCertificates::new(&settings.names)),
            unwritten: Mutex::default(),
            counters,
        };
        let folder = client.folder.display();
        let made = create_private_folder(&client.folder);
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

    /// Orders a certificate, shows it, and keeps it. Returns how long it is valid. If another process
    /// has kept a new certificate in the folder meanwhile, that one is shown and nothing is ordered.
    async fn renew(&self, name: &str) -> anyhow::Result<Duration> {
        if let Ok(Some(kept)) = self.read(name)
            && !kept.is_due()
        {
            let validity = kept.validity;
            self.issued.show(name, kept);
            self.unwritten.lock().remove(&format!("{name}.pem"));
            return Ok(validity);
        }
        let pem = timeout(ORDER_TIMEOUT, self.order(name)).await;
        let pem = pem.context("the authority takes too long")??;
        let issued = IssuedCertificate::read(name, pem.as_bytes(), &default_provider())?;
        let validity = issued.validity;
        self.issued.show(name, issued);
        self.counters.certificates_issued.add_one();
        tracing::info!(name, "the authority has issued a certificate");
        self.keep(&format!("{name}.pem"), pem).await;
        Ok(validity)
    }

    /// Orders a certificate for a name, and returns its key and itself, in PEM.
    async fn order(&self, name: &str) -> anyhow::Result<String> {
        let account = self.account().await?;
        let identifiers = [Identifier::Dns(name.to_owned())];
        let mut order = match account.new_order(&NewOrder::new(&identifiers)).await {
            Err(Error::Api(problem)) if problem.r#type.as_deref() == Some(UNKNOWN_ACCOUNT) => {
                self.unwritten.lock().remove(ACCOUNT);
                let _ = std::fs::remove_file(self.folder.join(ACCOUNT));
                bail!("the authority does not know the account any more: the next order makes one");
            }
            order => order?,
        };
        defer!(self.issued.answer(None));
        self.answer_challenges(name, &mut order).await?;
        let looks = RetryPolicy::new().initial_delay(LOOK).backoff(1.0);
        let retries = looks.timeout(ORDER_TIMEOUT);
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
        let unwritten = self.unwritten.lock().get(ACCOUNT).cloned();
        let kept = match unwritten {
            Some(unwritten) => Ok(unwritten.into_bytes()),
            None => crate::file::read(&file, FILE_BYTES),
        };
        match kept {
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
                    .await;
                Ok(account)
            }
            Err(error) => Err(error).with_context(|| file.display().to_string()),
        }
    }

    fn builder(&self) -> AccountBuilder {
        Account::builder_with_http(Box::new(self.http.clone()))
    }

    /// Writes a file now, or later if that fails now.
    async fn keep(&self, name: &str, content: String) {
        let written = write(&self.folder, name, content.clone()).await;
        match written {
            Ok(()) => drop(self.unwritten.lock().remove(name)),
            Err(error) => {
                let (error, file) = (format!("{error:#}"), self.folder.join(name));
                let is_new = self
                    .unwritten
                    .lock()
                    .insert(name.to_owned(), content)
                    .is_none();
                if is_new {
                    let file = file.display();
                    tracing::error!(%file, error, "it is used and cannot be kept yet");
                }
            }
        }
    }

    /// Writes the files that could not be written yet.
    async fn keep_unwritten(&self) {
        let unwritten = self.unwritten.lock().clone();
        for (name, content) in unwritten {
            self.keep(&name, content).await;
        }
    }

    /// Orders a certificate for a name that is due, and returns when it may be ordered again.
    async fn try_to_renew(self: Arc<Self>, name: String, failures: u32) -> OrderPause {
        let renewing = self.clone();
        let renewed = name.clone();
        // In a task of its own: what panics there is an order that has failed.
        let renewing = tokio::spawn(async move { renewing.renew(&renewed).await });
        let renewed = AbortOnDropHandle::new(renewing).await;
        match renewed.map_err(anyhow::Error::new).flatten() {
            Ok(validity) => OrderPause {
                // Where a clock is wrong, a certificate seems to be due all the time.
                until: Instant::now() + validity / 3,
                failures: 0,
            },
            Err(error) => {
                self.counters.certificate_orders_failed.add_one();
                let pause = self.settings.retry.saturating_mul(1 << failures.min(16));
                let pause = pause.min(MAX_RETRY);
                let (error, retry) = (format!("{error:#}"), humantime::format_duration(pause));
                tracing::error!(name, error, %retry, "no certificate could be had");
                OrderPause {
                    until: Instant::now() + pause,
                    failures: failures + 1,
                }
            }
        }
    }
}

/// Writes a file that only the node may read, whole or not at all.
async fn write(folder: &Path, name: &str, content: String) -> anyhow::Result<()> {
    let (folder, file) = (folder.to_owned(), folder.join(name));
    let writing = tokio::task::spawn_blocking(move || {
        // A temporary file may only be read by its owner.
        let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
        temporary.write_all(content.as_bytes())?;
        temporary.as_file().sync_all()?;
        temporary.persist(file)?;
        anyhow::Ok(())
    });
    writing.await?
}

/// Orders and renews certificates, without an end.
pub(super) async fn keep_renewing(client: Arc<AcmeClient>) {
    let mut pauses: BTreeMap<String, OrderPause> = BTreeMap::new();
    loop {
        for name in &client.settings.names {
            let pause = pauses.get(name);
            if client.issued.is_due(name) && pause.is_none_or(|pause| pause.until <= Instant::now())
            {
                let failures = pause.map_or(0, |pause| pause.failures);
                let pause = client.clone().try_to_renew(name.clone(), failures).await;
                pauses.insert(name.clone(), pause);
            }
        }
        sleep(LOOK).await;
        client.keep_unwritten().await;
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
                && *name == name.to_ascii_lowercase()
                && !name.ends_with('.'),
            "tls.acme.names: {name:?} is no name that can be checked: write each host's name, in \
             lower case and without *"
        );
    }
    let directory = settings.directory.parse::<Uri>().ok();
    let is_https = |uri: &Uri| uri.scheme() == Some(&Scheme::HTTPS) && uri.host().is_some();
    ensure!(
        directory.as_ref().is_some_and(is_https),
        "tls.acme.directory: {:?} is no URL of an HTTPS server",
        settings.directory
    );
    ensure!(
        !settings.retry.is_zero(),
        "tls.acme.retry must not be 0: the authority would be asked all the time"
    );
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
    Ok(match reasons.is_empty() {
        true => "the authority refuses, and does not say why".to_owned(),
        false => format!("the authority refuses: {}", reasons.join("; ")),
    })
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Full;
    use instant_acme::{BodyWrapper, BytesResponse, HttpClient};

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
        for name in [
            "*.node.test",
            "",
            "127.0.0.1",
            "a/b",
            "Node.test",
            "-",
            "node.test.",
        ] {
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
        for directory in [
            "",
            "node.test/dir",
            "http://node.test/dir",
            "https://../../a b",
        ] {
            let wrong = AcmeConfig {
                directory: directory.to_owned(),
                ..settings()
            };
            let error = check(&wrong).err().expect(directory).to_string();
            assert!(error.contains("is no URL of an HTTPS server"), "{error}");
        }
        let stormy = AcmeConfig {
            retry: Duration::ZERO,
            ..settings()
        };
        let error = check(&stormy).err().expect("a storm").to_string();
        assert!(error.contains("retry must not be 0"), "{error}");
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

    /// An authority whose orders have failed, and that says why only beside the challenge, as Let's
    /// Encrypt does.
    struct Refusing(&'static str);

    impl HttpClient for Refusing {
        fn request(
            &self,
            request: Request<BodyWrapper<Bytes>>,
        ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
            let order = r#"{"status":"invalid","authorizations":["https://ca.test/check"],
                "identifiers":[{"type":"dns","value":"node.test"}],
                "finalize":"https://ca.test/finalize"}"#;
            let body = match request.uri().path() {
                "/dir" => {
                    r#"{"newNonce":"https://ca.test/nonce","newAccount":"https://ca.test/account",
                        "newOrder":"https://ca.test/order"}"#
                }
                "/account" => r#"{"status":"valid"}"#,
                "/check" => self.0,
                _ => order,
            };
            let answer = Response::builder()
                .header("replay-nonce", "1")
                .header("location", "https://ca.test/order")
                .body(Full::<Bytes>::from(body));
            Box::pin(async { Ok(answer?.into()) })
        }
    }

    async fn refused(check: &'static str) -> String {
        let account = NewAccount {
            contact: &[],
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let builder = Account::builder_with_http(Box::new(Refusing(check)));
        let created = builder.create(&account, "https://ca.test/dir".to_owned(), None);
        let (account, _) = created.await.expect("an account");
        let identifiers = [Identifier::Dns("node.test".to_owned())];
        let order = account.new_order(&NewOrder::new(&identifiers)).await;
        let mut order = order.expect("an order");
        refusal(&mut order).await.expect("a reason")
    }

    #[tokio::test]
    async fn the_reason_stands_beside_the_challenge() {
        let with_reason = r#"{"status":"invalid","identifier":{"type":"dns","value":"node.test"},
            "challenges":[{"type":"http-01","url":"https://ca.test/it","token":"t",
            "status":"invalid","error":{"type":"urn:ietf:params:acme:error:connection",
            "detail":"nobody is there"}}]}"#;
        let reason = refused(with_reason).await;
        assert!(reason.contains("nobody is there"), "{reason}");
        let without = r#"{"status":"invalid","identifier":{"type":"dns","value":"node.test"},
            "challenges":[]}"#;
        assert!(refused(without).await.contains("does not say why"));
    }
}
