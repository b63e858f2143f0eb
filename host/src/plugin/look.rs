//! One look at the plugins folder: the plugins that it has, and a stamp for each that changes with
//! its files.
//!
//! A plugin is there as long as the folder lists its name. Any other answer of the system about a
//! file (a link that leads nowhere, a directory, an error) is a state of that file and never its
//! absence. Only a missing name removes a plugin. A file that cannot be looked at hides none of the
//! others.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::io::Errno;

/// The result of one look at the folder.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) folder: FolderId,
    pub(super) plugins: BTreeMap<String, Stamp>,
}

/// The identity of a folder. After an unmount or a move, the same path leads to another folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FolderId {
    device: u64,
    inode: u64,
    /// The folder's time of creation, if known. A folder that was deleted and made again often has
    /// the inode of the former one.
    created: Option<SystemTime>,
}

/// A plugin's stamp, which changes when the plugin's files do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) component: FileStamp,
    pub(super) manifest: FileStamp,
}

/// A file's stamp, which changes when the file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileStamp {
    /// The folder does not list the file's name.
    Missing,
    /// The folder lists the name, but no file can be read by it. The number is the system's error.
    Unreadable(i32),
    /// The name leads to a regular file.
    File {
        device: u64,
        inode: u64,
        bytes: u64,
        modified: (i64, i64),
        changed: (i64, i64),
    },
}

/// Looks at all plugins of a folder.
///
/// # Errors
///
/// The folder itself cannot be listed. A fault of one of the files is in that file's stamp.
pub(super) fn look(folder: &Path) -> io::Result<Found> {
    let id = FolderId::of(folder)?;
    let mut plugins = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = plugin_name(&path) else {
            continue;
        };
        let component = FileStamp::of(&path);
        // Listed, and deleted since.
        if component == FileStamp::Missing {
            continue;
        }
        let manifest = FileStamp::of(&manifest_path(&path));
        let stamp = Stamp {
            component,
            manifest,
        };
        plugins.insert(name, stamp);
    }
    // Half of this folder and half of that one would be a removal that nobody ordered.
    if FolderId::of(folder)? != id {
        return Err(io::Error::other("it was replaced while it was read"));
    }
    Ok(Found {
        folder: id,
        plugins,
    })
}

/// Returns the path of the manifest that belongs to a component.
pub(super) fn manifest_path(component: &Path) -> PathBuf {
    component.with_extension("toml")
}

/// Returns the plugin's name for a component's path. Hidden files are skipped, since many tools
/// write to a hidden file first. A name that is not UTF-8 gets replacement characters, and
/// therefore fits no URL path.
pub(super) fn plugin_name(path: &Path) -> Option<String> {
    let name = path.file_name().map(OsStr::to_string_lossy)?;
    let name = name.strip_suffix(".wasm")?;
    (!name.is_empty() && !name.starts_with('.')).then(|| name.to_owned())
}

impl FolderId {
    fn of(folder: &Path) -> io::Result<FolderId> {
        let metadata = std::fs::metadata(folder)?;
        let created = match is_overlay(folder) {
            // A layer below is copied up at its first change, and "created" then.
            true => None,
            false => metadata.created().ok(),
        };
        Ok(FolderId {
            device: metadata.dev(),
            inode: metadata.ino(),
            created,
        })
    }
}

#[cfg(test)]
impl FolderId {
    /// Creates an id that differs from the ids of other numbers.
    pub(super) fn numbered(inode: u64) -> FolderId {
        FolderId {
            device: 0,
            inode,
            created: None,
        }
    }
}

#[cfg(test)]
impl Stamp {
    /// Creates a stamp that differs from the stamps of other numbers.
    pub(super) fn numbered(inode: u64) -> Stamp {
        Stamp {
            component: FileStamp::File {
                device: 0,
                inode,
                bytes: 0,
                modified: (0, 0),
                changed: (0, 0),
            },
            manifest: FileStamp::Missing,
        }
    }
}

fn is_overlay(folder: &Path) -> bool {
    // OVERLAYFS_SUPER_MAGIC of linux/magic.h.
    rustix::fs::statfs(folder).is_ok_and(|system| system.f_type == 0x794c_7630)
}

impl FileStamp {
    fn of(path: &Path) -> FileStamp {
        match std::fs::metadata(path) {
            Ok(metadata) => FileStamp::from(&metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match std::fs::symlink_metadata(path) {
                    Ok(_) => unreadable(&error),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => FileStamp::Missing,
                    Err(error) => unreadable(&error),
                }
            }
            Err(error) => unreadable(&error),
        }
    }
}

impl From<&Metadata> for FileStamp {
    fn from(metadata: &Metadata) -> FileStamp {
        if metadata.is_file() {
            return FileStamp::File {
                device: metadata.dev(),
                inode: metadata.ino(),
                bytes: metadata.size(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
                changed: (metadata.ctime(), metadata.ctime_nsec()),
            };
        }
        let errno = match metadata.file_type() {
            kind if kind.is_dir() => Errno::ISDIR,
            kind if kind.is_fifo() => Errno::SPIPE,
            _ => Errno::NXIO,
        };
        FileStamp::Unreadable(errno.raw_os_error())
    }
}

fn unreadable(error: &io::Error) -> FileStamp {
    FileStamp::Unreadable(error.raw_os_error().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn look_at(folder: &Path) -> BTreeMap<String, Stamp> {
        look(folder).expect("a readable folder").plugins
    }

    #[test]
    fn one_bad_entry_hides_no_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("good.wasm"), "x").expect("a file");
        std::fs::create_dir(at("folder.wasm")).expect("a folder");
        std::fs::create_dir(at("good.toml")).expect("a folder");
        for (name, target) in [
            ("nowhere.wasm", "missing"),
            ("itself.wasm", "itself.wasm"),
            ("through.wasm", "good.wasm/x"),
            ("through.toml", "good.wasm/x"),
            ("long.wasm", &*"x".repeat(300)),
        ] {
            symlink(target, at(name)).expect("a link");
        }
        let found = look_at(folder.path());
        let unreadable = |errno: Errno| FileStamp::Unreadable(errno.raw_os_error());
        let component = |name: &str| found[name].component;
        assert!(matches!(
            component("good"),
            FileStamp::File { bytes: 1, .. }
        ));
        assert_eq!(found["good"].manifest, unreadable(Errno::ISDIR));
        assert_eq!(component("folder"), unreadable(Errno::ISDIR));
        assert_eq!(found["folder"].manifest, FileStamp::Missing);
        assert_eq!(component("nowhere"), unreadable(Errno::NOENT));
        assert_eq!(component("itself"), unreadable(Errno::LOOP));
        assert_eq!(component("through"), unreadable(Errno::NOTDIR));
        assert_eq!(found["through"].manifest, unreadable(Errno::NOTDIR));
        assert_eq!(component("long"), unreadable(Errno::NAMETOOLONG));
    }

    #[test]
    fn a_folder_that_was_made_anew_is_another_one() {
        let parent = tempfile::tempdir().expect("a folder");
        let path = parent.path().join("plugins");
        let id = || look(&path).expect("a readable folder").folder;
        std::fs::create_dir(&path).expect("a folder");
        let first = id();
        std::fs::write(path.join("chat.wasm"), "x").expect("a file");
        assert_eq!(id(), first);
        std::fs::rename(&path, parent.path().join("old")).expect("a move");
        std::fs::create_dir(&path).expect("a folder");
        assert_ne!(id(), first);
        std::fs::remove_dir(&path).expect("its end");
        symlink("old", &path).expect("a link");
        assert_eq!(id(), first);
    }

    #[test]
    fn a_plugin_has_the_name_of_its_file() {
        let name = |path: &str| plugin_name(Path::new(path));
        assert_eq!(name("/p/chat-2_b.wasm").as_deref(), Some("chat-2_b"));
        for path in [
            "/p/.chat.wasm",
            "/p/.wasm",
            "/p/chat.toml",
            "/p/chat.wasm.tmp",
        ] {
            assert_eq!(name(path), None, "{path}");
        }
    }
}
