//! `jackfield token`: a JSON Web Token for a client, signed as the manifest wants it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::{Map, Value};
use toml::Table;

use super::plugins_folder::{SECRET_KEY, secret_in_scratch};
use super::project::{Project, ProjectFlags};
use crate::access::sign_token;
use crate::manifest::named_files;
use crate::registry::now_ms;
use crate::stdout::print;

/// For whom a token is, and what it says.
#[derive(Args)]
pub struct TokenFlags {
    #[command(flatten)]
    project: ProjectFlags,
    /// The uid of the client.
    uid: String,
    /// How long the token is valid, such as `1h` or `30days`.
    #[arg(long, value_name = "TIME", default_value = "1day", value_parser = humantime::parse_duration)]
    expires: Duration,
    /// Another claim, whose value is JSON or else a text; may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    claim: Vec<String>,
}

/// Prints the token for a client.
pub(super) fn token(flags: &TokenFlags) -> anyhow::Result<()> {
    let project = Project::find(&flags.project.project)?;
    let token = signed(&project, &flags.uid, flags.expires, &flags.claim)?;
    print(&format!("{token}\n"))
}

/// A token for a client with this uid, which is valid for so long. Each of the other claims is `NAME=VALUE`.
///
/// # Errors
///
/// The manifest wants no tokens, or none that can be signed here.
pub(super) fn signed(
    project: &Project,
    uid: &str,
    valid: Duration,
    other_claims: &[String],
) -> anyhow::Result<String> {
    let manifest = project.manifest()?;
    let table: Table = manifest.parse().context("the manifest is wrong")?;
    let jwt = table
        .get("jwt")
        .and_then(toml::Value::as_table)
        .with_context(|| {
            format!(
                "{} has no [jwt]: clients of this plugin need no token",
                project.manifest_path().display()
            )
        })?;
    let mut files = named_files(&manifest).into_iter();
    let secret = files.find(|file| file.key == SECRET_KEY).context(
        "tokens are signed here with a secret (secret_file under [jwt]): with key_file or jwks_file, only \
         whoever has the private key can sign",
    )?;
    let path = secret_path(project, &secret.path)?;
    let text = |key: &str| {
        jwt.get(key)
            .and_then(toml::Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let mut claims = Map::new();
    claims.insert(text("uid_claim").unwrap_or("sub").to_owned(), uid.into());
    for (claim, key) in [("iss", "issuer"), ("aud", "audience")] {
        if let Some(text) = text(key) {
            claims.insert(claim.to_owned(), text.into());
        }
    }
    let now = now_ms() / 1_000;
    claims.insert(
        "exp".to_owned(),
        now.saturating_add(valid.as_secs().max(1)).into(),
    );
    for claim in other_claims {
        let (name, value) = claim
            .split_once('=')
            .with_context(|| format!("the claim {claim}: write it as NAME=VALUE"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        claims.insert(name.to_owned(), value);
    }
    sign_token(&path, &claims)
}

/// The file with the secret: the project's own, or the one that `jackfield dev` has made up.
fn secret_path(project: &Project, named: &str) -> anyhow::Result<PathBuf> {
    let own = project.folder.join(named);
    let made_up = secret_in_scratch(project, Path::new(named));
    let path = if own.exists() { own } else { made_up };
    ensure!(
        path.exists(),
        "there is no {named} yet: start `jackfield dev`, which makes one up, or write a secret of 32 bytes \
         or more into it"
    );
    Ok(path)
}
