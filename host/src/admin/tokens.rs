//! Tokens of the API: who may call its functions, and which ones.
//!
//! ```toml
//! [[token]]
//! name = "billing"
//! sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
//! scopes = ["read", "send"]
//! plugins = ["chat"]                  # without this key: all plugins
//! expires = "2027-01-01T00:00:00Z"    # without this key: never
//! ```
//!
//! The file contains digests, so a person who reads the file cannot call the API. Without tokens,
//! every caller may do anything, and the API listens on loopback only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, ensure};
use arc_swap::ArcSwap;
use data_encoding::HEXLOWER_PERMISSIVE;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::problem::{Problem, Reason};
use crate::watched_files::WatchedFiles;

/// A kind of access that a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TokenScope {
    /// The scope for functions that only read.
    Read,
    /// The scope for sending messages and calling plugins.
    Send,
    /// The scope for changes of clients: binding uids, joining groups, closing clients, and undoing
    /// such changes.
    Manage,
    /// The scope for what plugins write and clients send: the log.
    Inspect,
    /// The scope for what runs: going back to another build, and ending the node.
    Operate,
}

impl TokenScope {
    const ALL: [TokenScope; 5] = [
        TokenScope::Read,
        TokenScope::Send,
        TokenScope::Manage,
        TokenScope::Inspect,
        TokenScope::Operate,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            TokenScope::Read => "read",
            TokenScope::Send => "send",
            TokenScope::Manage => "manage",
            TokenScope::Inspect => "inspect",
            TokenScope::Operate => "operate",
        }
    }
}

/// The tokens of a token file, in its current state.
pub struct ApiTokens(ArcSwap<Vec<Token>>);

#[derive(Debug)]
struct Token {
    expires: Option<SystemTime>,
    caller: Arc<ApiCaller>,
}

/// The caller of a function, with the rights of its token.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ApiCaller {
    /// The name of the token, or an empty text if there are no tokens.
    pub(super) name: String,
    scopes: BTreeSet<TokenScope>,
    /// The plugins that the token is for. `None` means all plugins.
    plugins: Option<BTreeSet<String>>,
    /// The SHA-256 digest of the token, or zeros if there are no tokens.
    digest: [u8; 32],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    #[serde(default)]
    token: Vec<WrittenToken>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenToken {
    name: String,
    sha256: String,
    scopes: BTreeSet<TokenScope>,
    plugins: Option<BTreeSet<String>>,
    expires: Option<String>,
}

impl ApiTokens {
    /// Reads the token file, and reads it again whenever it changes. An empty path means that there
    /// are no tokens.
    ///
    /// # Errors
    ///
    /// Returns an error when the file cannot be read, or when its content is not valid.
    pub fn read(path: &Path) -> anyhow::Result<Arc<ApiTokens>> {
        if path.as_os_str().is_empty() {
            return Ok(Arc::new(ApiTokens(ArcSwap::default())));
        }
        let files = files_at(path);
        let (contents, read) = read_tokens(&files, path)?;
        let tokens = Arc::new(ApiTokens(ArcSwap::from_pointee(read)));
        let owner = Arc::downgrade(&tokens);
        tokio::spawn(files.keep_reading(owner, contents, ApiTokens::take));
        Ok(tokens)
    }

    /// Checks the token file without keeping the tokens.
    ///
    /// # Errors
    ///
    /// Returns an error in the same cases as `ApiTokens::read`.
    pub fn check(path: &Path) -> anyhow::Result<()> {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        read_tokens(&files_at(path), path).map(drop)
    }

    fn take(&self, contents: &[Vec<u8>]) -> anyhow::Result<()> {
        self.0.store(Arc::new(parse(&contents.concat())?));
        Ok(())
    }

    /// Whether the API has no tokens.
    pub fn is_empty(&self) -> bool {
        self.0.load().is_empty()
    }

    /// The caller whose token is in this `authorization` header.
    pub(super) fn caller(&self, authorization: Option<&[u8]>) -> Result<Arc<ApiCaller>, Problem> {
        let tokens = self.0.load();
        if tokens.is_empty() {
            return Ok(Arc::new(ApiCaller::anybody()));
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

    /// Checks that a caller's rights are unchanged. The token may have expired, may have been
    /// removed, or may have other rights now.
    pub(super) fn check_still(&self, caller: &ApiCaller) -> Result<(), Problem> {
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

impl ApiCaller {
    /// The caller for a node without tokens, who may do anything.
    fn anybody() -> ApiCaller {
        ApiCaller {
            name: String::new(),
            scopes: TokenScope::ALL.into(),
            plugins: None,
            digest: [0; 32],
        }
    }

    /// Checks that the caller has this scope for a plugin.
    pub(super) fn check(&self, scope: TokenScope, plugin: &str) -> Result<(), Problem> {
        self.check_scope(scope)?;
        match self.may_see(plugin) {
            true => Ok(()),
            false => Err(Problem::new(
                Reason::Denied,
                format!("the token {:?} is not for the plugin {plugin:?}", self.name),
            )),
        }
    }

    /// Checks that the caller has this scope at all, and for each of these plugins.
    pub(super) fn check_each(&self, scope: TokenScope, plugins: &[String]) -> Result<(), Problem> {
        self.check_scope(scope)?;
        plugins
            .iter()
            .try_for_each(|plugin| self.check(scope, plugin))
    }

    /// Checks that the caller has this scope at all.
    pub(super) fn check_scope(&self, scope: TokenScope) -> Result<(), Problem> {
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

    /// Checks that the caller may change the whole node: its token has the scope `operate`, and is
    /// for all plugins.
    pub(super) fn check_node(&self) -> Result<(), Problem> {
        self.check_scope(TokenScope::Operate)?;
        match self.plugins {
            None => Ok(()),
            Some(_) => Err(Problem::new(
                Reason::Denied,
                format!("the token {:?} is not for all plugins", self.name),
            )),
        }
    }

    /// The scopes of the caller.
    pub(super) fn scopes(&self) -> impl Iterator<Item = TokenScope> {
        self.scopes.iter().copied()
    }

    /// Whether the caller's token is for all plugins.
    pub(super) fn may_see_all(&self) -> bool {
        self.plugins.is_none()
    }

    /// Whether the caller's token is for this plugin.
    pub(super) fn may_see(&self, plugin: &str) -> bool {
        let plugins = self.plugins.as_ref();
        plugins.is_none_or(|plugins| plugins.contains(plugin))
    }
}

fn files_at(path: &Path) -> WatchedFiles {
    WatchedFiles {
        what: "the API's tokens",
        paths: vec![path.to_owned()],
    }
}

/// Reads and parses the token file now.
fn read_tokens(files: &WatchedFiles, path: &Path) -> anyhow::Result<(Vec<Vec<u8>>, Vec<Token>)> {
    let contents = files.read().context("the tokens' file")?;
    let wrong = || format!("the tokens' file {} is wrong", path.display());
    let tokens = parse(&contents.concat()).with_context(wrong)?;
    Ok((contents, tokens))
}

fn parse(text: &[u8]) -> anyhow::Result<Vec<Token>> {
    let file: TokenFile = toml::from_str(str::from_utf8(text)?)?;
    ensure!(!file.token.is_empty(), "it has no [[token]]");
    let mut names = BTreeSet::new();
    for token in &file.token {
        let name = &token.name;
        ensure!(!name.is_empty(), "a token has no name");
        ensure!(names.insert(name), "two tokens are called {name:?}");
    }
    let tokens = file.token.into_iter().map(WrittenToken::check);
    let tokens: Vec<_> = tokens.collect::<anyhow::Result<_>>()?;
    let mut digests = BTreeMap::new();
    for Token { caller, .. } in &tokens {
        if let Some(other) = digests.insert(caller.digest, &caller.name) {
            anyhow::bail!("{other:?} and {:?} are the same token", caller.name);
        }
    }
    Ok(tokens)
}

impl WrittenToken {
    fn check(self) -> anyhow::Result<Token> {
        let name = &self.name;
        let digest = HEXLOWER_PERMISSIVE.decode(self.sha256.as_bytes()).ok();
        let digest = digest.and_then(|digest| <[u8; 32]>::try_from(digest).ok());
        let digest = digest.with_context(|| {
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
            caller: Arc::new(ApiCaller {
                name: self.name,
                scopes: self.scopes,
                plugins: self.plugins,
                digest,
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "open sesame";

    fn file(more: &str) -> String {
        let digest = HEXLOWER_PERMISSIVE.encode(&Sha256::digest(SECRET));
        format!("[[token]]\nname = 'ada'\nsha256 = '{digest}'\nscopes = ['read']\n{more}")
    }

    fn tokens(more: &str) -> ApiTokens {
        ApiTokens(ArcSwap::from_pointee(
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
        assert_eq!(caller.check(TokenScope::Read, "chat"), Ok(()));
        assert!(caller.check(TokenScope::Read, "ticker").is_err());
        assert!(caller.check(TokenScope::Send, "chat").is_err());
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
