//! File systems that nobody else sees: a small disk that can be full, names of our own.
//!
//! They are in a mount namespace of the test's thread and of the processes that it starts. The
//! kernel removes them with the last of these, also when the tests are killed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use tempfile::TempDir;

use crate::apart::run_apart;

/// The mounts of a test.
#[derive(Debug)]
pub struct Mounts {
    disk: TempDir,
    hosts: TempDir,
}

/// Runs a test with mounts of its own, on a thread of its own. Where there can be none, the test
/// says so and ends well; but not in CI.
pub fn on_own_mounts(
    test: impl AsyncFnOnce(&Mounts) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    run_apart("mount", Mounts::new, test)
}

impl Mounts {
    fn new() -> anyhow::Result<Mounts> {
        let (disk, hosts) = (tempfile::tempdir()?, tempfile::tempdir()?);
        // SAFETY: the thread keeps its files; only what it mounts is elsewhere.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }
            .context("no mount namespace can be made (that takes root)")?;
        mount(&["--make-rprivate", "/"])?;
        Ok(Mounts { disk, hosts })
    }

    /// An empty disk of so many MiB.
    pub fn disk(&self, size: usize) -> anyhow::Result<PathBuf> {
        let path = self.disk.path();
        self.mount_disk(path, size)?;
        Ok(path.to_owned())
    }

    /// An empty disk of so many MiB, at this path.
    pub fn mount_disk(&self, path: &Path, size: usize) -> anyhow::Result<()> {
        let size = format!("size={size}m");
        mount(&["-t", "tmpfs", "-o", &size, "tmpfs", &path.to_string_lossy()])
    }

    /// What is mounted at this path is no longer: lazily, as after a network's end, since
    /// somebody may be reading.
    pub fn unmount(&self, path: &Path) -> anyhow::Result<()> {
        run("umount", &["-l", &path.to_string_lossy()])
    }

    /// The disk's files cannot be written any more by who opens them; or they can, again.
    pub fn make_read_only(&self, read_only: bool) -> anyhow::Result<()> {
        let path = self.disk.path();
        let shown = &*path.to_string_lossy();
        match read_only {
            // Over the disk, which somebody has files of open.
            true => mount(&["--bind", "-o", "ro", shown, shown]),
            false => self.unmount(path),
        }
    }

    /// From here on names have these addresses, as `/etc/hosts` says it.
    pub fn names(&self, hosts: &str) -> anyhow::Result<()> {
        let file = self.hosts.path().join("hosts");
        let is_new = !file.exists();
        std::fs::write(&file, hosts)?;
        match is_new {
            true => mount(&["--bind", &file.to_string_lossy(), "/etc/hosts"]),
            false => Ok(()),
        }
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        // A folder with a mount on it cannot be removed. There is none in most tests.
        let _ = self.unmount(self.disk.path());
    }
}

fn mount(arguments: &[&str]) -> anyhow::Result<()> {
    run("mount", arguments)
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("`{program}` (Debian's package `mount`)"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {error}");
    Ok(())
}
