//! Files that somebody watches: replaced in one step, and left alone, times and all, when
//! they already hold what they should.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Replaced,
    Unchanged,
}

/// Makes `path` hold `content`, its folder included.
pub(crate) fn put(path: &Path, content: &[u8]) -> Result<Outcome> {
    if fs::read(path).is_ok_and(|present| present == content) {
        return Ok(Outcome::Unchanged);
    }
    replace(path, content).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Outcome::Replaced)
}

/// Makes `path` hold what the file `source` holds.
pub(crate) fn copy(source: &Path, path: &Path) -> Result<Outcome> {
    let content = fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
    put(path, &content)
}

/// Copies what is in `source`, folders included. What `folder` has besides stays.
pub(crate) fn copy_folder(source: &Path, folder: &Path) -> Result<()> {
    let entries =
        fs::read_dir(source).with_context(|| format!("cannot list {}", source.display()))?;
    for entry in entries {
        let entry = entry?;
        let target = folder.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy_folder(&entry.path(), &target)?,
            false => copy(&entry.path(), &target).map(drop)?,
        }
    }
    Ok(())
}

/// Removes a folder with all that is in it, if it is there.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let folder = path.parent().context("it has no folder")?;
    let name = path
        .file_name()
        .context("it has no name")?
        .to_string_lossy();
    fs::create_dir_all(folder)?;
    // Beside the file, because a rename across file systems is a copy; under another
    // ending, because a node loads what ends in .wasm.
    let partial = folder.join(format!(".{name}.partial"));
    fs::write(&partial, content)?;
    fs::rename(&partial, path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_once_and_then_left_alone() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("deep/echo.wasm");
        assert_eq!(put(&path, b"one")?, Outcome::Replaced);
        assert_eq!(put(&path, b"one")?, Outcome::Unchanged);
        assert_eq!(put(&path, b"two")?, Outcome::Replaced);
        assert_eq!(fs::read(&path)?, b"two");
        assert_eq!(
            fs::read_dir(path.parent().context("it has one")?)?.count(),
            1,
            "no partial file is left"
        );
        Ok(())
    }

    #[test]
    fn a_folder_is_copied_into_another_that_keeps_what_it_had() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let (page, served) = (folder.path().join("page"), folder.path().join("served"));
        put(&page.join("index.html"), b"<p>")?;
        put(&page.join("script/chat.js"), b"1")?;
        put(&served.join("mine.txt"), b"mine")?;
        copy_folder(&page, &served)?;
        assert_eq!(fs::read(served.join("script/chat.js"))?, b"1");
        assert_eq!(fs::read(served.join("mine.txt"))?, b"mine");
        Ok(())
    }
}
