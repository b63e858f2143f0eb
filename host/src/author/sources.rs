//! The files within this program from which a project is written: templates, SDKs and the contract.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use include_dir::{Dir, DirEntry, File, include_dir};

/// The SDKs, with the templates of each language.
static SDKS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../guest-sdk");

/// The contract, and the interfaces of WASI.
static WIT: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../wit");

/// The workspace of this project, whose values the manifest of the Rust SDK inherits.
pub(super) const WORKSPACE: &str = include_str!("../../../Cargo.toml");

/// The files of a folder of the SDKs, each with its path from that folder on.
pub(super) fn sdk_files(folder: &str) -> Vec<(&'static Path, &'static [u8])> {
    files_of(&SDKS, folder)
}

/// The files of a folder of the contract and the interfaces, each with its path from that folder on.
pub(super) fn wit_files(folder: &str) -> Vec<(&'static Path, &'static [u8])> {
    files_of(&WIT, folder)
}

/// The paths of all files within this program, from the root of the project's sources on.
pub fn embedded_files() -> Vec<PathBuf> {
    let of = |dir: &'static Dir<'static>, name: &'static str| {
        all(dir).map(move |file| Path::new(name).join(file.path()))
    };
    of(&SDKS, "guest-sdk").chain(of(&WIT, "wit")).collect()
}

/// Writes a file, and the folders that it is in.
pub(super) fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let failed = || format!("{} cannot be written", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(failed)?;
    }
    std::fs::write(path, content).with_context(failed)
}

/// Writes a file beside its place, and renames it: nobody finds a part of it there.
pub(super) fn replace(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let written = path.with_extension("written");
    write(&written, content)?;
    std::fs::rename(&written, path).with_context(|| format!("{} cannot be written", path.display()))
}

/// Whether nothing would be written over in a folder: it is empty, or missing.
pub(super) fn has_nothing(folder: &Path) -> bool {
    match folder.read_dir() {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) => !folder.exists(),
    }
}

fn files_of(dir: &'static Dir<'static>, folder: &str) -> Vec<(&'static Path, &'static [u8])> {
    let files = all(dir).filter_map(|file| {
        let path = file.path().strip_prefix(folder).ok()?;
        Some((path, file.contents()))
    });
    files.collect()
}

fn all(dir: &'static Dir<'static>) -> Box<dyn Iterator<Item = &'static File<'static>>> {
    Box::new(dir.entries().iter().flat_map(|entry| match entry {
        DirEntry::Dir(dir) => all(dir),
        DirEntry::File(file) => Box::new(std::iter::once(file)),
    }))
}
