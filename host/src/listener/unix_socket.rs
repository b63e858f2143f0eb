//! Unix sockets: a file to which programs of the same machine connect.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, ensure};
use documented::DocumentedFields;
use nix::unistd::{Group, User};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen as listen_on,
    socket_with,
};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;

/// The mode and the owner of the files of Unix sockets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, DocumentedFields)]
#[serde(default, deny_unknown_fields)]
pub struct UnixSocketConfig {
    /// The mode of the file, in octal digits. Who may write to it may connect.
    pub mode: String,
    /// The name or the number of the user who owns the file. An empty text means the user of the
    /// node.
    pub user: String,
    /// The name or the number of the group that owns the file. An empty text means the group of the
    /// node.
    pub group: String,
}

impl Default for UnixSocketConfig {
    fn default() -> UnixSocketConfig {
        UnixSocketConfig {
            mode: "0660".to_owned(),
            user: String::new(),
            group: String::new(),
        }
    }
}

impl UnixSocketConfig {
    /// Checks that the mode is one, and that the user and the group exist.
    ///
    /// # Errors
    ///
    /// Returns an error that names the key.
    pub fn check(&self) -> anyhow::Result<()> {
        self.read().map(drop)
    }

    /// Sets the mode and the owner of a file.
    fn apply(&self, path: &Path) -> anyhow::Result<()> {
        let (mode, user, group) = self.read()?;
        std::os::unix::fs::chown(path, user, group)
            .context("the owner of the socket cannot be set")?;
        Ok(std::fs::set_permissions(
            path,
            std::fs::Permissions::from_mode(mode),
        )?)
    }

    fn read(&self) -> anyhow::Result<(u32, Option<u32>, Option<u32>)> {
        let mode = u32::from_str_radix(&self.mode, 8).ok();
        let mode = mode.filter(|mode| *mode <= 0o777).with_context(|| {
            format!(
                "unix_socket.mode is {:?}, but must be octal digits such as 0660",
                self.mode
            )
        })?;
        let user = |name: &str| Ok(User::from_name(name)?.map(|user| user.uid.as_raw()));
        let group = |name: &str| Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()));
        let user = owner("user", &self.user, user)?;
        Ok((mode, user, owner("group", &self.group, group)?))
    }
}

/// The file of a Unix socket, which is removed when this value is dropped.
#[derive(Debug)]
pub(super) struct UnixSocketFile {
    path: PathBuf,
    /// The device and the inode of the file. Another process may have put its own file there.
    identity: (u64, u64),
    /// Whether another process has the socket, too, and keeps the file.
    is_left: AtomicBool,
}

/// A socket that listens, and whose file is not at its path yet.
#[derive(Debug)]
pub(super) struct HiddenSocket {
    socket: OwnedFd,
    hidden: PathBuf,
    path: PathBuf,
}

/// Listens at the file `path`, and removes what a node has left there that has ended.
///
/// # Errors
///
/// Returns an error when another process listens there, when something else than a socket is there,
/// or when the file cannot be created with its mode and owner.
pub(super) fn listen(
    path: &Path,
    backlog: u32,
    config: &UnixSocketConfig,
) -> anyhow::Result<(UnixListener, UnixSocketFile)> {
    check_left_over(path)?;
    HiddenSocket::bind(path, backlog, config)?.publish()
}

impl HiddenSocket {
    /// Listens at another path in the same folder. So nobody can connect before the mode and the
    /// owner of the file are set.
    ///
    /// # Errors
    ///
    /// Returns an error when the file cannot be created with its mode and owner.
    pub(super) fn bind(
        path: &Path,
        backlog: u32,
        config: &UnixSocketConfig,
    ) -> anyhow::Result<HiddenSocket> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", std::process::id()));
        let hidden = path.with_file_name(name);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let _ = std::fs::remove_file(&hidden);
        bind(&socket, &SocketAddrUnix::new(&hidden)?)?;
        // From here on, the file is removed again if anything fails.
        let bound = HiddenSocket {
            socket,
            hidden,
            path: path.to_owned(),
        };
        config.apply(&bound.hidden)?;
        listen_on(&bound.socket, backlog.cast_signed())?;
        Ok(bound)
    }

    /// Moves the file to its path, in place of whoever listens there.
    ///
    /// # Errors
    ///
    /// Returns an error when the file cannot be moved.
    pub(super) fn publish(self) -> anyhow::Result<(UnixListener, UnixSocketFile)> {
        std::fs::rename(&self.hidden, &self.path)?;
        let file = UnixSocketFile::at(&self.path, false)?;
        let socket = self.socket.try_clone()?;
        Ok((UnixListener::from_std(socket.into())?, file))
    }
}

impl Drop for HiddenSocket {
    fn drop(&mut self) {
        // Published, it is not there any more.
        let _ = std::fs::remove_file(&self.hidden);
    }
}

/// Checks that nobody listens at a path, and that there is nothing else than what a node has left.
///
/// # Errors
///
/// Returns an error that says what is there.
pub(super) fn check_left_over(path: &Path) -> anyhow::Result<()> {
    let metadata = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    ensure!(
        metadata.file_type().is_socket(),
        "something else than a socket is there already"
    );
    // Without waiting: the queue of a process that listens may be full.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&probe, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => {}
        Ok(()) | Err(Errno::AGAIN) => anyhow::bail!("another process listens there"),
        Err(error) => {
            return Err(error).context("a socket is there, and nobody knows whose it is");
        }
    }
    Ok(())
}

/// The number of a user or a group, whose name the key of the configuration has.
fn owner(
    key: &str,
    name: &str,
    look_up: impl Fn(&str) -> nix::Result<Option<u32>>,
) -> anyhow::Result<Option<u32>> {
    if name.is_empty() {
        return Ok(None);
    }
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    let found = look_up(name)?;
    let found = found.with_context(|| format!("unix_socket.{key}: there is no {key} {name:?}"))?;
    Ok(Some(found))
}

impl UnixSocketFile {
    /// The file of a socket that is at this path already. It stays there for now if it `is_left` to
    /// another process.
    pub(super) fn at(path: &Path, is_left: bool) -> io::Result<UnixSocketFile> {
        let metadata = std::fs::symlink_metadata(path)?;
        Ok(UnixSocketFile {
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
            is_left: AtomicBool::new(is_left),
        })
    }

    /// Keeps the file for another process, which has the socket, too.
    pub(super) fn leave(&self) {
        self.is_left.store(true, Ordering::Relaxed);
    }

    /// Takes the file over from another process.
    pub(super) fn own(&self, config: &UnixSocketConfig) {
        self.is_left.store(false, Ordering::Relaxed);
        if let Err(error) = config.apply(&self.path) {
            let (error, path) = (format!("{error:#}"), self.path.display());
            tracing::warn!(error, %path, "the socket keeps its mode and owner");
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for UnixSocketFile {
    fn drop(&mut self) {
        if *self.is_left.get_mut() {
            return;
        }
        let found = std::fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
