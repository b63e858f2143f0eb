//! The cache of compiled components, with which a known component loads in milliseconds.
//!
//! The folder has a file for each compiled component, named after the digest of what was compiled,
//! and for each plugin a file with the machine code of its functions (`function_cache`). The node
//! runs without the cache, too: if the cache fails while the node runs, the log has a warning, and
//! the component is compiled.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;
use data_encoding::HEXLOWER;
use rustix::process::geteuid;
use sha2::{Digest as _, Sha256};

use crate::config::CacheFolder;
use crate::file;

/// The name of a file that is created to test whether files can be created.
const PROBE: &str = ".probe";

/// The subfolder of the compiled components.
const COMPONENTS: &str = "components";
/// The subfolder of the functions.
const FUNCTIONS: &str = "functions";

/// The subfolder of the builds to go back to, which the cache does not remove.
const BUILDS: &str = "builds";

/// The length of a SHA-256 digest, in bytes.
const DIGEST_BYTES: usize = 32;

/// The cache in its folder.
#[derive(Debug)]
pub(super) struct ComponentCache {
    folder: PathBuf,
    /// The most bytes of all files together.
    bytes: u64,
}

impl ComponentCache {
    /// Opens the cache. If the default folder cannot be used, the log says so, and there is no
    /// cache.
    ///
    /// # Errors
    ///
    /// The folder that the operator has named can't be used.
    pub(super) fn open(folder: &CacheFolder, bytes: u64) -> anyhow::Result<Option<ComponentCache>> {
        let folder = match folder {
            CacheFolder::Off => return Ok(None),
            CacheFolder::Named(path) => {
                let opened = open_at(path).with_context(|| {
                    format!(
                        "compiled plugins cannot be kept in {} (cache): name a folder that this \
                         process may write to with --cache DIR, or do without one with --cache ''",
                        path.display()
                    )
                });
                Some(opened?)
            }
            CacheFolder::Default => open_default()
                .inspect_err(|error| {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "compiled plugins are not kept, and each start compiles them again: name \
                         a folder that this process may write to with --cache DIR, or do without \
                         one with --cache ''"
                    );
                })
                .ok(),
        };
        Ok(folder.map(|folder| ComponentCache { folder, bytes }))
    }

    /// Returns the file for the functions of a plugin.
    pub(super) fn functions(&self, plugin: &str) -> PathBuf {
        self.folder.join(FUNCTIONS).join(format!("{plugin}.bin"))
    }

    /// Returns the folder for the builds of the plugins that are in this folder.
    pub(super) fn builds(&self, plugins: &Path) -> PathBuf {
        // A link to the newest release goes on having the builds.
        let plugins = std::path::absolute(plugins).unwrap_or_else(|_| plugins.to_owned());
        let name = key(&[plugins.as_os_str().as_encoded_bytes()]);
        self.folder.join(BUILDS).join(&name[..16])
    }

    /// Returns what was stored under a key, if it is there and undamaged.
    pub(super) fn get(&self, key: &str) -> Option<Vec<u8>> {
        let path = self.folder.join(COMPONENTS).join(key);
        let content = read_checked(&path)?;
        // What was used last is removed last. Without this, the file is only compiled again.
        let file = File::options().append(true).open(&path);
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
        Some(content)
    }

    /// Stores a compiled component, and removes what was not used for the longest time while the
    /// cache is too large.
    pub(super) fn put(&self, key: &str, content: &[u8]) {
        let path = self.folder.join(COMPONENTS).join(key);
        let stored = write_checked(&path, &[content]).and_then(|()| self.shrink());
        if let Err(error) = stored {
            let folder = self.folder.display();
            tracing::warn!(%folder, %error, "a compiled component cannot be kept");
        }
    }

    fn shrink(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for subfolder in [COMPONENTS, FUNCTIONS] {
            let entries = match fs::read_dir(self.folder.join(subfolder)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                // Another node may have removed it.
                if let Ok(metadata) = entry.metadata() {
                    files.push((metadata.modified()?, metadata.len(), entry.path()));
                }
            }
        }
        files.sort_unstable();
        let mut total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in files {
            if total <= self.bytes {
                break;
            }
            let _ = fs::remove_file(path);
            total -= bytes;
        }
        Ok(())
    }
}

/// Reads a file that `write_checked` has written. Returns nothing if the file is not there, or is
/// damaged.
pub(super) fn read_checked(path: &Path) -> Option<Vec<u8>> {
    let mut content = file::read(path, u64::MAX - 1).ok()?;
    let digest = content.split_off(content.len().checked_sub(DIGEST_BYTES)?);
    (Sha256::digest(&content)[..] == digest).then_some(content)
}

/// Writes a file with the digest of its content at its end. Whoever reads the path meanwhile gets
/// the former file or the whole new one.
///
/// # Errors
///
/// The file cannot be written.
pub(super) fn write_checked(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    file::create_private_folder(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part);
        file.write_all(part)?;
    }
    file.write_all(&digest.finalize())?;
    match file.persist(path) {
        Ok(_) => Ok(()),
        // A folder of this name keeps any file from its place.
        Err(error) if error.error.kind() == io::ErrorKind::IsADirectory => {
            fs::remove_dir_all(path)?;
            error.file.persist(path)?;
            Ok(())
        }
        Err(error) => Err(error.error),
    }
}

/// Returns the name of the digest of all these bytes, one after the other.
pub(super) fn key(parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    HEXLOWER.encode(&digest.finalize())
}

fn open_default() -> anyhow::Result<PathBuf> {
    let path = CacheFolder::default_path();
    let path = path.context("neither XDG_CACHE_HOME nor HOME is an absolute path")?;
    let is_another_users = || {
        let there = path.ancestors().find_map(|path| path.metadata().ok())?;
        Some(![geteuid().as_raw(), 0].contains(&there.uid()))
    };
    // `sudo` may leave HOME as it was. What the node runs would be up to that user, who would
    // find root's files there, too.
    anyhow::ensure!(
        is_another_users() != Some(true),
        "{} belongs to another user",
        path.display()
    );
    open_at(&path).with_context(|| path.display().to_string())
}

fn open_at(path: &Path) -> anyhow::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    file::create_private_folder(&path)?;
    probe(&path)?;
    Ok(path)
}

/// Tests whether a file can be created in the folder. The permissions do not show this: the file
/// system may be read-only, or take no files at all.
fn probe(folder: &Path) -> io::Result<()> {
    let probe = folder.join(PROBE);
    match File::create(&probe) {
        Ok(_) => {
            // Another node may have been quicker.
            let _ = fs::remove_file(probe);
            Ok(())
        }
        // What is there can be read, and there will be room again.
        Err(error) if is_full(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_not_used_for_the_longest_time_goes_first() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let entry_bytes = (100 + DIGEST_BYTES) as u64;
        let cache = ComponentCache {
            folder: folder.path().to_owned(),
            bytes: 3 * entry_bytes,
        };
        let age = |path: PathBuf, seconds| -> anyhow::Result<()> {
            let then = SystemTime::now() - Duration::from_secs(seconds);
            Ok(File::options()
                .append(true)
                .open(path)?
                .set_modified(then)?)
        };
        let component = |key: &str| folder.path().join(COMPONENTS).join(key);
        cache.put("first", &[1; 100]);
        cache.put("second", &[2; 100]);
        write_checked(&cache.functions("chat"), &[&[3; 100]])?;
        age(component("first"), 30)?;
        age(component("second"), 20)?;
        age(cache.functions("chat"), 10)?;
        assert_eq!(cache.get("first").as_deref(), Some(&[1; 100][..]));

        cache.put("third", &[4; 100]);
        assert_eq!(cache.get("second"), None, "not used for 20 seconds");
        assert!(cache.get("first").is_some() && cache.get("third").is_some());
        cache.put("fourth", &[5; 100]);
        assert_eq!(read_checked(&cache.functions("chat")), None);
        Ok(())
    }

    #[test]
    fn what_is_damaged_is_not_read() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("some");
        write_checked(&path, &[b"machine ", b"code"])?;
        assert_eq!(read_checked(&path).as_deref(), Some(&b"machine code"[..]));
        let written = fs::read(&path)?;
        for at in 0..written.len() {
            let mut damaged = written.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged)?;
            assert_eq!(read_checked(&path), None, "byte {at}");
            fs::write(&path, &written[..at])?;
            assert_eq!(read_checked(&path), None, "{at} bytes");
        }
        Ok(())
    }
}
