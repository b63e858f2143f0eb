//! Where compiled components are kept: a wish by default, and an order once somebody names it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The folder for compiled components. Only the node may be able to write there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "PathBuf", into = "String")]
pub enum CacheFolder {
    /// Nobody has named one: it is the user's own, where that can be used.
    #[default]
    Default,
    /// The operator has named this one.
    Named(PathBuf),
    /// Nothing is kept.
    Off,
}

impl CacheFolder {
    /// The user's own folder, as the XDG base directory specification says:
    /// `$XDG_CACHE_HOME/jackfield`, or `$HOME/.cache/jackfield`. There is none where neither
    /// variable is an absolute path.
    pub fn default_path() -> Option<PathBuf> {
        let absolute = |name| {
            let path = std::env::var_os(name).map(PathBuf::from);
            path.filter(|path| path.is_absolute())
        };
        let cache = absolute("XDG_CACHE_HOME");
        let cache = cache.or_else(|| Some(absolute("HOME")?.join(".cache")));
        cache.map(|cache| cache.join("jackfield"))
    }
}

impl From<PathBuf> for CacheFolder {
    fn from(path: PathBuf) -> CacheFolder {
        match path.as_os_str().is_empty() {
            true => CacheFolder::Off,
            false => CacheFolder::Named(path),
        }
    }
}

/// The text is for a person. A home that is not UTF-8 must not keep a node from starting.
impl From<CacheFolder> for String {
    fn from(folder: CacheFolder) -> String {
        let shown = |path: &Path| path.to_string_lossy().into_owned();
        match folder {
            CacheFolder::Default => CacheFolder::default_path()
                .map(|path| shown(&path))
                .unwrap_or_default(),
            CacheFolder::Named(path) => shown(&path),
            CacheFolder::Off => String::new(),
        }
    }
}
