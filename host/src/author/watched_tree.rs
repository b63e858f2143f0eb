//! The files of a project, looked at again and again.
//!
//! A look takes a moment for the few files of a plugin, works on every file system, and misses nothing
//! that happened between two looks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// The most files that are looked at.
const FILES: usize = 20_000;

/// What tools put into the folders of a project, and no author writes.
const MADE: [&str; 4] = ["node_modules", "target", "__pycache__", "build"];

/// When each file was written, with its size.
type Files = BTreeMap<PathBuf, (SystemTime, u64)>;

/// Some files and folders, as they were at the last look.
pub(super) struct WatchedTree {
    roots: Vec<PathBuf>,
    last: Files,
    /// What has changed and was not told yet. Whoever waits may be interrupted.
    untold: Vec<PathBuf>,
}

impl WatchedTree {
    /// Looks at files, and at all files within folders. What is missing may come.
    pub(super) fn new(roots: Vec<PathBuf>) -> WatchedTree {
        let last = look(&roots);
        let untold = Vec::new();
        WatchedTree {
            roots,
            last,
            untold,
        }
    }

    /// Looks again, at other files and folders from now on.
    pub(super) fn set_roots(&mut self, roots: Vec<PathBuf>) {
        self.roots = roots;
        self.last = look(&self.roots);
        self.untold.clear();
    }

    /// Whether no file has changed that was not told.
    pub(super) fn is_as_before(&self) -> bool {
        self.untold.is_empty() && look(&self.roots) == self.last
    }

    /// Waits until a file has changed, and until no file does any more. Returns the files that have
    /// changed.
    pub(super) async fn changed(&mut self) -> Vec<PathBuf> {
        loop {
            tokio::time::sleep(PAUSE).await;
            let now = look(&self.roots);
            if now == self.last {
                if !self.untold.is_empty() {
                    return std::mem::take(&mut self.untold);
                }
                continue;
            }
            for path in now.keys().chain(self.last.keys()) {
                if now.get(path) != self.last.get(path) && !self.untold.contains(path) {
                    self.untold.push(path.clone());
                }
            }
            self.last = now;
        }
    }
}

fn look(roots: &[PathBuf]) -> Files {
    let mut files = Files::new();
    for root in roots {
        look_at(root, &mut files);
    }
    files
}

fn look_at(path: &Path, files: &mut Files) {
    // What cannot be looked at is as good as missing: the build says what it is about.
    let Ok(metadata) = path.metadata() else {
        return;
    };
    if !metadata.is_dir() {
        if files.len() < FILES {
            let written = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            files.insert(path.to_owned(), (written, metadata.len()));
        }
        return;
    }
    for entry in path.read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_made = MADE.iter().any(|made| name == *made);
        // A link may lead into a circle.
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        if !is_made && !name.as_encoded_bytes().starts_with(b".") && !is_link {
            look_at(&entry.path(), files);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn files_that_are_written_made_and_removed_have_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().to_owned();
        let path = |name: &str| root.join(name);
        for name in ["src/deep", "src/node_modules"] {
            std::fs::create_dir_all(path(name)).expect("a folder");
        }
        std::fs::write(path("src/deep/a"), "1").expect("a file");
        let mut tree = WatchedTree::new(vec![path("src"), path("later")]);
        // What is not watched comes first: it is no change.
        for name in [
            "src/.hidden",
            "src/node_modules/x",
            "other",
            "src/deep/a",
            "src/b",
            "later",
        ] {
            std::fs::write(path(name), "22").expect("a file");
        }
        let expected = ["later", "src/b", "src/deep/a"].map(path);
        assert_eq!(tree.changed().await, expected);
        // Whoever waits is interrupted after the first look.
        std::fs::write(path("src/b"), "333").expect("a file");
        assert!(!tree.is_as_before());
        let soon = tokio::time::timeout(PAUSE * 3 / 2, tree.changed()).await;
        assert!(soon.is_err(), "{soon:?}");
        assert!(!tree.is_as_before());
        assert_eq!(tree.changed().await, [path("src/b")]);
        assert!(tree.is_as_before());
        std::fs::remove_file(path("src/b")).expect("a file");
        assert_eq!(tree.changed().await, [path("src/b")]);
    }
}
