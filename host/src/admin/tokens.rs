//! Tokens: who may call the API, and for what.
//!
//! ```toml
//! [[token]]
//! name = "billing"
//! sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
//! scopes = ["read", "send"]
//! plugins = ["chat"]                  # none: all of them
//! expires = "2027-01-01T00:00:00Z"    # none: never
//! ```
//!
//! The file has digests, so who reads it cannot call. Without tokens anybody may do anything,
//! and the API listens on loopback only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::problem::{Problem, Reason};

/// How often the file is read, and how long a change has to last: half a file could be one that
/// gives a token more than the whole one.
const LOOK: Duration = Duration::from_secs(1);
const SETTLED: Duration = Duration::from_millis(200);

/// How large the file may be: it is read each second.
const FILE_BYTES: u64 = 1 << 20;

/// What a token lets its holder do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Scope {
    /// Look.
    Read,
    /// Send, and call plugins.
    Send,
    /// Bind, join, close, and what undoes these.
    Manage,
}

impl Scope {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Send => "send",
            Scope::Manage => "manage",
        }
    }
}

/// The tokens of a file, as it is now.
pub struct Tokens(ArcSwap<Vec<Token>>);

#[derive(Debug)]
struct Token {
    expires: Option<SystemTime>,
    caller: Arc<Caller>,
}

/// Who calls.
#[derive(Debug, PartialEq)]
pub(super) struct Caller {
    /// The token's name; empty where there are no tokens.
    pub(super) name: String,
    scopes: BTreeSet<Scope>,
    /// None: all of them.
    plugins: Option<BTreeSet<String>>,
    /// The token's; zeros where there are none.
    digest: [u8; 32],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    token: Vec<Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    sha256: String,
    scopes: BTreeSet<Scope>,
    plugins: Option<BTreeSet<String>>,
    expires: Option<String>,
}

impl Tokens {
    /// Reads them, and again whenever the file changes. An empty path: there are none.
    pub fn read(path: &Path) -> anyhow::Result<Arc<Tokens>> {
        if path.as_os_str().is_empty() {
            return Ok(Arc::new(Tokens(ArcSwap::default())));
        }
        let named = || format!("the tokens' file {}", path.display());
        let text = std::fs::read(path).with_context(|| format!("{} cannot be read", named()))?;
        let read = parse(&text).with_context(|| format!("{} is wrong", named()))?;
        let tokens = Arc::new(Tokens(ArcSwap::from_pointee(read)));
        tokio::spawn(keep_reading(Arc::downgrade(&tokens), path.to_owned(), text));
        Ok(tokens)
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.0.load().is_empty()
    }

    /// Whose token an `authorization` header carries.
    pub(super) fn caller(&self, authorization: Option<&[u8]>) -> Result<Arc<Caller>, Problem> {
        let tokens = self.0.load();
        if tokens.is_empty() {
            return Ok(Arc::new(Caller::anybody()));
        }
        let unknown = |message| Problem::new(Reason::Unauthenticated, message);
        let presented = authorization
            .ok_or_else(|| unknown("a token is needed: authorization: Bearer TOKEN"))?;
        let token = presented
            .split_at_checked(7)
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "))
            .map(|(_, token)| token.trim_ascii())
            .ok_or_else(|| unknown("the authorization is none: Bearer TOKEN is"))?;
        let digest = Sha256::digest(token);
        // All of them, whichever it is: how long this takes says nothing.
        let mut found = None;
        for token in tokens.iter() {
            if bool::from(token.caller.digest.ct_eq(&digest)) {
                found = Some(token);
            }
        }
        let token = found.ok_or_else(|| unknown("nobody has this token"))?;
        match token.has_expired() {
            true => Err(unknown("the token has expired")),
            false => Ok(token.caller.clone()),
        }
    }

    /// Whether what a caller was told is still so: the token may have expired, or may have been
    /// taken away, or may do something else now.
    pub(super) fn check_still(&self, caller: &Caller) -> Result<(), Problem> {
        let tokens = self.0.load();
        let is_so = |token: &Token| *token.caller == *caller && !token.has_expired();
        // With tokens and without them: a file with none does not load.
        if tokens.is_empty() || tokens.iter().any(is_so) {
            return Ok(());
        }
        let message = "the token has expired, or has changed";
        Err(Problem::new(Reason::Unauthenticated, message))
    }
}

impl Token {
    fn has_expired(&self) -> bool {
        self.expires
            .is_some_and(|expires| expires <= SystemTime::now())
    }
}

impl Caller {
    /// Who calls where there are no tokens.
    fn anybody() -> Caller {
        Caller {
            name: String::new(),
            scopes: [Scope::Read, Scope::Send, Scope::Manage].into(),
            plugins: None,
            digest: [0; 32],
        }
    }

    /// Whether the caller may do this with a plugin.
    pub(super) fn check(&self, scope: Scope, plugin: &str) -> Result<(), Problem> {
        self.check_scope(scope)?;
        match self.may_see(plugin) {
            true => Ok(()),
            false => Err(Problem::new(
                Reason::Denied,
                format!("the token {:?} is not for the plugin {plugin:?}", self.name),
            )),
        }
    }

    /// Whether the caller may do this at all.
    pub(super) fn check_scope(&self, scope: Scope) -> Result<(), Problem> {
        match self.scopes.contains(&scope) {
            true => Ok(()),
            false => Err(Problem::new(
                Reason::Denied,
                format!(
                    "the token {:?} has not the scope {}",
                    self.name,
                    scope.as_str()
                ),
            )),
        }
    }

    /// Whether the plugin is among the caller's.
    pub(super) fn may_see(&self, plugin: &str) -> bool {
        let plugins = self.plugins.as_ref();
        plugins.is_none_or(|plugins| plugins.contains(plugin))
    }
}

fn parse(text: &[u8]) -> anyhow::Result<Vec<Token>> {
    let file: File = toml::from_str(str::from_utf8(text)?)?;
    ensure!(!file.token.is_empty(), "it has no [[token]]");
    let mut names = BTreeSet::new();
    for token in &file.token {
        let name = &token.name;
        ensure!(!name.is_empty(), "a token has no name");
        ensure!(names.insert(name), "two tokens are called {name:?}");
    }
    let tokens = file.token.into_iter().map(Written::check);
    let tokens: Vec<_> = tokens.collect::<anyhow::Result<_>>()?;
    let mut digests = BTreeMap::new();
    for Token { caller, .. } in &tokens {
        if let Some(other) = digests.insert(caller.digest, &caller.name) {
            anyhow::bail!("{other:?} and {:?} are the same token", caller.name);
        }
    }
    Ok(tokens)
}

impl Written {
    fn check(self) -> anyhow::Result<Token> {
        let name = &self.name;
        let digest = unhex(&self.sha256).with_context(|| {
            format!(
                "the sha256 of {name:?} is no digest: 64 hexadecimal digits, as `printf %s \
                 \"$TOKEN\" | sha256sum` prints"
            )
        })?;
        let expires = self.expires.as_deref().map(humantime::parse_rfc3339);
        let expires = expires.transpose().with_context(|| {
            format!("`expires` of {name:?} is no time such as 2027-01-01T00:00:00Z")
        })?;
        Ok(Token {
            expires,
            caller: Arc::new(Caller {
                name: self.name,
                scopes: self.scopes,
                plugins: self.plugins,
                digest,
            }),
        })
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 2 * digest.len() || !text.is_ascii() {
        return None;
    }
    for (place, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(digest)
}

/// A token that is taken away must not need a restart. What the file says is compared, and not its
/// times: a file can be replaced by one of the same length and times. One that can't be read, or
/// is wrong, changes nothing, and is said once.
async fn keep_reading(tokens: Weak<Tokens>, path: PathBuf, mut taken: Vec<u8>) {
    let mut complaint = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(tokens) = tokens.upgrade() else {
            return;
        };
        let first = read_again(&path).await;
        if first.as_ref() == Ok(&taken) {
            if complaint.is_none() {
                continue;
            }
        } else {
            tokio::time::sleep(SETTLED).await;
            if read_again(&path).await != first {
                continue;
            }
        }
        let read = first.and_then(|text| {
            let read = parse(&text).map_err(|error| format!("{error:#}"))?;
            Ok((text, read))
        });
        match read {
            Ok((text, read)) => {
                tracing::info!(tokens = read.len(), "the API's tokens were read again");
                tokens.0.store(Arc::new(read));
                (taken, complaint) = (text, None);
            }
            Err(error) => {
                if complaint.as_ref() != Some(&error) {
                    let file = path.display();
                    tracing::error!(%file, error, "the API's tokens stay as they were");
                    complaint = Some(error);
                }
            }
        }
    }
}

async fn read_again(path: &Path) -> Result<Vec<u8>, String> {
    let about = tokio::fs::metadata(path).await;
    let about = about.map_err(|error| error.to_string())?;
    // To read from a pipe would be to wait for whoever writes into it.
    if !about.is_file() || about.len() > FILE_BYTES {
        return Err(format!("it is no file of {FILE_BYTES} bytes at most"));
    }
    tokio::fs::read(path)
        .await
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "open sesame";

    fn file(more: &str) -> String {
        let digest: String = Sha256::digest(SECRET)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("[[token]]\nname = 'ada'\nsha256 = '{digest}'\nscopes = ['read']\n{more}")
    }

    fn tokens(more: &str) -> Tokens {
        Tokens(ArcSwap::from_pointee(
            parse(file(more).as_bytes()).expect("tokens"),
        ))
    }

    #[test]
    fn only_a_whole_and_known_token_that_lasts_is_one() {
        let bearer = format!("Bearer {SECRET}");
        let known = tokens("");
        assert_eq!(
            known.caller(Some(bearer.as_bytes())).expect("known").name,
            "ada"
        );
        let lower = bearer.replace("Bearer", "bearer");
        assert!(known.caller(Some(lower.as_bytes())).is_ok());
        for authorization in [
            None,
            Some(""),
            Some("Bearer"),
            Some("Bearer "),
            Some("Bearer open"),
            Some("Basic b3BlbiBzZXNhbWU="),
            Some("open sesame"),
            Some("Bearer open sesame!"),
            Some("Bearer é"),
        ] {
            let refused = known.caller(authorization.map(str::as_bytes));
            let reason = refused.expect_err("not known").reason;
            assert_eq!(reason, Reason::Unauthenticated, "{authorization:?}");
        }
        let old = tokens("expires = '2001-01-01T00:00:00Z'");
        let refused = old.caller(Some(bearer.as_bytes())).expect_err("expired");
        assert!(refused.message.contains("expired"));
        let lasting = tokens("expires = '2999-01-01T00:00:00Z'");
        assert!(lasting.caller(Some(bearer.as_bytes())).is_ok());
    }

    #[test]
    fn a_token_is_for_its_scopes_and_plugins() {
        let bearer = format!("Bearer {SECRET}");
        let caller = tokens("plugins = ['chat']").caller(Some(bearer.as_bytes()));
        let caller = caller.expect("known");
        assert_eq!(caller.check(Scope::Read, "chat"), Ok(()));
        assert!(caller.check(Scope::Read, "ticker").is_err());
        assert!(caller.check(Scope::Send, "chat").is_err());
    }

    #[test]
    fn a_wrong_file_says_what_is_wrong() {
        for (text, named) in [
            (String::new(), "no [[token]]"),
            (file("expire = 'x'"), "expire"),
            (file("expires = 'tomorrow'"), "`expires` of \"ada\""),
            (
                file("[[token]]\nname = ''\nsha256 = ''\nscopes = []"),
                "no name",
            ),
            (format!("{}{}", file(""), file("")), "two tokens"),
            (
                format!("{}{}", file(""), file("").replace("'ada'", "'bob'")),
                "\"ada\" and \"bob\" are the same token",
            ),
            (
                file("").replace("sha256 = '", "sha256 = 'x"),
                "sha256 of \"ada\"",
            ),
            (file("").replace("read", "write"), "write"),
        ] {
            let error = parse(text.as_bytes()).expect_err(&text);
            assert!(format!("{error:#}").contains(named), "{error:#}");
        }
    }
}
