//! Marks of builds, on disk: a file beside the folder of a build says something of the build.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;

use super::generation::Digest;
use crate::file;

/// The longest text of a mark.
const TEXT_BYTES: u64 = 4 << 10;

/// The most marks of one kind that a plugin's builds have. Beyond them, the oldest ones are forgotten.
const MOST: usize = 100;

/// What a mark says of its build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BuildMark {
    /// The build was taken back. The text says why.
    Refused,
    /// The build has only been a canary: it is none to go back to.
    Canary,
}

impl BuildMark {
    /// The end of the name of its file.
    fn end(self) -> &'static str {
        match self {
            BuildMark::Refused => "refused",
            BuildMark::Canary => "canary",
        }
    }

    fn file(self, plugin_folder: &Path, digest: &Digest) -> PathBuf {
        plugin_folder.join(format!("{}.{}", HEXLOWER.encode(digest), self.end()))
    }

    /// Returns whether a build has the mark.
    pub(super) fn is_there(self, plugin_folder: &Path, digest: &Digest) -> bool {
        self.file(plugin_folder, digest).exists()
    }

    /// Returns the text of the mark; empty: there is none.
    pub(super) fn text(self, plugin_folder: &Path, digest: &Digest) -> String {
        let text = file::read_text(&self.file(plugin_folder, digest), TEXT_BYTES);
        text.map_or_else(|_| String::new(), |text| text.trim_end().to_owned())
    }

    /// Gives a build the mark.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub(super) fn set(self, plugin_folder: &Path, digest: &Digest, text: &str) -> io::Result<()> {
        file::create_private_folder(plugin_folder)?;
        fs::write(self.file(plugin_folder, digest), text)?;
        self.forget_oldest(plugin_folder)
    }

    /// Takes the mark from a build, if it has it.
    ///
    /// # Errors
    ///
    /// It cannot be removed.
    pub(super) fn remove(self, plugin_folder: &Path, digest: &Digest) -> io::Result<()> {
        match fs::remove_file(self.file(plugin_folder, digest)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn forget_oldest(self, plugin_folder: &Path) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(plugin_folder)? {
            let entry = entry?;
            if entry
                .path()
                .extension()
                .is_some_and(|end| end == self.end())
            {
                files.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        files.sort_unstable();
        let surplus = files.len().saturating_sub(MOST);
        for (_, path) in &files[..surplus] {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_say_what_they_are_and_the_oldest_are_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let digest = |number: usize| -> Digest {
            let mut digest = Digest::default();
            digest[..8].copy_from_slice(&number.to_le_bytes());
            digest
        };
        for number in 0..=MOST {
            let set = BuildMark::Refused.set(folder, &digest(number), "it traps\n");
            set.expect("it is written");
        }
        let left = fs::read_dir(folder).expect("a folder").count();
        assert_eq!(left, MOST);
        let last = digest(MOST);
        assert_eq!(BuildMark::Refused.text(folder, &last), "it traps");
        assert!(BuildMark::Refused.is_there(folder, &last));
        assert!(!BuildMark::Canary.is_there(folder, &last));
        for _ in 0..2 {
            let removed = BuildMark::Refused.remove(folder, &last);
            removed.expect("it is removed");
            assert!(!BuildMark::Refused.is_there(folder, &last));
            assert_eq!(BuildMark::Refused.text(folder, &last), "");
        }
    }
}
