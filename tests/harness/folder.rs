//! A node's plugins folder, the way people and tools change it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir};

use crate::component;

/// A folder of plugins that goes away with its test.
#[derive(Debug)]
pub struct PluginFolder {
    path: PathBuf,
    /// What it is in, where it may be moved.
    parent: TempDir,
}

impl PluginFolder {
    /// An empty one.
    pub fn new() -> anyhow::Result<PluginFolder> {
        let parent = TempDir::new()?;
        let path = parent.path().join("plugins");
        fs::create_dir(&path)?;
        Ok(PluginFolder { path, parent })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A place beside it, on the same file system.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.parent.path().join(name)
    }

    /// Where the manifest of the plugin `name` is, or would be.
    pub fn manifest(&self, name: &str) -> PathBuf {
        self.path().join(format!("{name}.toml"))
    }

    /// Where the component of the plugin `name` is, or would be.
    pub fn component(&self, name: &str) -> PathBuf {
        self.path().join(format!("{name}.wasm"))
    }

    /// Makes a copy of `source`, one of the components built for tests, the plugin `name`.
    pub fn put(&self, name: &str, source: &str) -> anyhow::Result<()> {
        self.put_bytes(name, &fs::read(component(source)?)?)
    }

    /// Makes these bytes the plugin `name`, all at once: written elsewhere and moved here.
    pub fn put_bytes(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        self.move_in(&self.component(name), bytes)
    }

    /// Sets the manifest of the plugin `name`, all at once.
    pub fn put_manifest(&self, name: &str, text: &str) -> anyhow::Result<()> {
        self.move_in(&self.manifest(name), text.as_bytes())
    }

    /// Puts another file there, all at once.
    pub fn put_file(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        self.move_in(&self.path().join(name), bytes)
    }

    /// Removes the component of the plugin `name`.
    pub fn remove(&self, name: &str) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.component(name))?)
    }

    fn move_in(&self, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
        let mut file = NamedTempFile::new_in(self.path())?;
        file.write_all(bytes)?;
        file.persist(path)?;
        Ok(())
    }
}
