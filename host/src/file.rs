//! Reading of a file that another program writes, moves and replaces, and folders for the node alone.

use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Creates a folder that only this user may use, with those above it. A folder that is there already
/// stays as it is.
///
/// # Errors
///
/// Returns an error when the folder cannot be created.
pub(crate) fn create_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Reads a file of at most `most` bytes. The file is opened first and checked afterwards, since the
/// path may lead to another file in between. Opening a pipe would otherwise wait for a writer.
///
/// # Errors
///
/// Returns an error when the file cannot be read, is not a regular file, or has more bytes.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let too_large = |bytes: u64| {
        let why = format!("it has {bytes} bytes, more than the {most} that it may have");
        io::Error::new(ErrorKind::FileTooLarge, why)
    };
    if metadata.len() > most {
        return Err(too_large(metadata.len()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    // It may have grown since.
    file.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        read if read > most => Err(too_large(read)),
        _ => Ok(bytes),
    }
}

/// Reads a text file of at most `most` bytes.
///
/// # Errors
///
/// Returns an error in the same cases as `read`, and when the file is not UTF-8.
pub(crate) fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let no_text = |_| io::Error::new(ErrorKind::InvalidData, "it is not UTF-8");
    String::from_utf8(read(path, most)?).map_err(no_text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_or_larger_than_it_may_be_is_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "12345").expect("a file");
        assert_eq!(read(&at("file"), 5).expect("a file"), b"12345");
        let error = read(&at("file"), 4).expect_err("too large");
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        assert!(error.to_string().contains("has 5 bytes, more than the 4"));

        std::fs::write(at("file"), [0xff]).expect("a file");
        let error = read_text(&at("file"), 5).expect_err("no text");
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        let error = read(folder.path(), 5).expect_err("a folder");
        assert_eq!(error.kind(), ErrorKind::IsADirectory);
        // Nobody writes into it, and nobody waits for that.
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), mode).expect("a pipe");
        let error = read(&at("pipe"), 5).expect_err("a pipe");
        assert!(error.to_string().contains("no regular file"), "{error}");
    }
}
