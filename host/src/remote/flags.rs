//! Which API a command asks, with which token: flags, then the environment, then a file.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde::Deserialize;

use crate::file;

/// The API that is asked where nobody says another one: that of a node on this machine.
const DEFAULT_API: &str = "http://127.0.0.1:8081";

/// The environment variables of the API's URL, and of the token.
const API_VARIABLE: &str = "JACKFIELD_API_URL";
const TOKEN_VARIABLE: &str = "JACKFIELD_API_TOKEN";

/// The largest file with a token, and the largest file with settings, in bytes.
const FILE_BYTES: u64 = 64 << 10;

/// Which API a command asks, and as whom.
#[derive(Args)]
pub struct ApiFlags {
    /// The API of a node: `http://HOST:PORT` or `https://HOST:PORT`. Without it, the environment
    /// variable `JACKFIELD_API_URL` counts, then `url` in the file, then `http://127.0.0.1:8081`.
    #[arg(long, value_name = "URL", global = true)]
    api: Option<String>,
    /// A file with the token for the API. Without it, the environment variable `JACKFIELD_API_TOKEN`
    /// counts, then `token_file` in the file.
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// A file with certificates of authorities in PEM that are trusted, in addition to those that
    /// browsers trust.
    #[arg(long, value_name = "FILE", global = true)]
    authority: Option<PathBuf>,
    /// A file with `url`, `token_file` and `authority`, instead of
    /// `~/.config/jackfield/api.toml`.
    #[arg(long, value_name = "FILE", global = true)]
    api_config: Option<PathBuf>,
    /// Print what the API has answered, as JSON.
    #[arg(long, global = true)]
    pub(super) json: bool,
}

/// The settings of a file.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ApiSettings {
    url: Option<String>,
    token_file: Option<PathBuf>,
    authority: Option<PathBuf>,
}

/// The API that is asked.
pub(super) struct ApiTarget {
    pub(super) url: String,
    pub(super) token: Option<String>,
    /// A file with certificates of authorities; empty: none.
    pub(super) authority: PathBuf,
}

impl ApiFlags {
    /// Returns the API that is asked.
    ///
    /// # Errors
    ///
    /// A file that is named cannot be read, or is wrong.
    pub(super) fn target(&self) -> anyhow::Result<ApiTarget> {
        let settings = self.settings()?;
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let url = self.api.clone().or_else(|| variable(API_VARIABLE));
        let url = url.or(settings.url);
        let token = match (&self.token_file, variable(TOKEN_VARIABLE)) {
            (Some(file), _) => Some(read_token(file)?),
            (None, Some(token)) => Some(token),
            (None, None) => settings.token_file.as_deref().map(read_token).transpose()?,
        };
        let authority = self.authority.clone().or(settings.authority);
        Ok(ApiTarget {
            url: url.unwrap_or_else(|| DEFAULT_API.to_owned()),
            token,
            authority: authority.unwrap_or_default(),
        })
    }

    fn settings(&self) -> anyhow::Result<ApiSettings> {
        let path = match &self.api_config {
            Some(path) => path.clone(),
            None => match usual_file().filter(|path| path.exists()) {
                Some(path) => path,
                None => return Ok(ApiSettings::default()),
            },
        };
        let wrong = || format!("the settings for the API in {}", path.display());
        let text = file::read_text(&path, FILE_BYTES).with_context(wrong)?;
        let mut settings: ApiSettings = toml::from_str(&text).with_context(wrong)?;
        // A file names its neighbours.
        let folder = path.parent().unwrap_or(Path::new(""));
        let named = [&mut settings.token_file, &mut settings.authority];
        for file in named.into_iter().flatten() {
            *file = folder.join(&*file);
        }
        Ok(settings)
    }
}

/// The file with the settings of this user (<https://specifications.freedesktop.org/basedir-spec>).
fn usual_file() -> Option<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".config"));
    let folder = std::env::var_os("XDG_CONFIG_HOME").filter(|folder| !folder.is_empty());
    let folder = folder.map(PathBuf::from).or_else(home)?;
    Some(folder.join("jackfield/api.toml"))
}

fn read_token(path: &Path) -> anyhow::Result<String> {
    let text = file::read_text(path, FILE_BYTES);
    let text = text.with_context(|| format!("the token in {}", path.display()))?;
    let token = text.trim();
    anyhow::ensure!(!token.is_empty(), "there is no token in {}", path.display());
    Ok(token.to_owned())
}
