//! The folder for compiled components. The default folder is optional, but a folder that the
//! operator names must be usable.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The folder for compiled components. Only the node may be able to write there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "PathBuf", into = "String")]
pub enum CacheFolder {
    /// The operator has named no folder, and the node uses the user's own cache folder if that is
    /// possible.
    #[default]
    Default,
    /// The operator has named this folder.
    Named(PathBuf),
    /// The node stores no compiled components.
    Off,
}

impl CacheFolder {
    /// The user's own folder, as the XDG base directory specification defines it:
    /// `$XDG_CACHE_HOME/jackfield`, or `$HOME/.cache/jackfield`. `None` means that neither variable
    /// is an absolute path.
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

/// Converts the folder into a text for a person. A home folder that is not UTF-8 must not keep a
/// node from starting.
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
