//! The cache of compiled components, with which a known component loads in milliseconds.
//!
//! The node runs without the cache, too: if the cache fails while the node runs, wasmtime logs a
//! warning and compiles the component.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use anyhow::Context as _;
use rustix::process::geteuid;
use wasmtime::{Cache, CacheConfig};

use crate::config::CacheFolder;

/// The name of a file that is created to test whether files can be created.
const PROBE: &str = ".probe";

/// Opens the cache. If the default folder cannot be used, the log says so, and there is no cache.
///
/// # Errors
///
/// The folder that the operator has named can't be used.
pub(crate) fn open(folder: &CacheFolder) -> anyhow::Result<Option<Cache>> {
    let opened = match folder {
        CacheFolder::Off => return Ok(None),
        CacheFolder::Named(path) => {
            let opened = open_at(path).with_context(|| {
                format!(
                    "compiled plugins cannot be kept in {} (cache): name a folder that this \
                     process may write to with --cache DIR, or do without one with --cache ''",
                    path.display()
                )
            });
            return opened.map(Some);
        }
        CacheFolder::Default => open_default(),
    };
    let cache = opened.inspect_err(|error| {
        tracing::warn!(
            error = format!("{error:#}"),
            "compiled plugins are not kept, and each start compiles them again: name a folder \
             that this process may write to with --cache DIR, or do without one with --cache ''"
        );
    });
    Ok(cache.ok())
}

fn open_default() -> anyhow::Result<Cache> {
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

fn open_at(path: &Path) -> anyhow::Result<Cache> {
    let path = std::path::absolute(path)?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&path)?;
    probe(&path)?;
    let mut config = CacheConfig::new();
    config.with_directory(path);
    Ok(Cache::new(config)?)
}

/// Tests whether a file can be created in the folder. The permissions do not show this: the file
/// system may be read-only, or take no files at all.
fn probe(folder: &Path) -> io::Result<()> {
    let probe = folder.join(PROBE);
    match std::fs::File::create(&probe) {
        Ok(_) => {
            // Another node may have been quicker.
            let _ = std::fs::remove_file(probe);
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
