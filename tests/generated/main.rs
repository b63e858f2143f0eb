//! Keeps the files that are generated ahead what their schemas make of them: `host/generated`
//! of `proto/` and of the driver of turns, and the SDK's `src/bindings` of `wit/`.
//!
//! So neither a first build of the node nor an author's has their generators in it.

mod protobuf;
mod turn_driver;
mod wit;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

#[test]
fn the_host_has_what_the_protobuf_schemas_make() -> Result<()> {
    check(
        &root().join("host/generated"),
        protobuf::generate(&root().join("proto"))?,
    )
}

#[test]
fn the_host_has_the_driver_of_turns_as_its_text_makes_it() -> Result<()> {
    check(
        &root().join("host/generated"),
        turn_driver::generate(&root())?,
    )
}

#[test]
fn the_sdk_has_what_the_wit_makes() -> Result<()> {
    check(
        &root().join("guest-sdk/src/bindings"),
        wit::generate(&root().join("wit"))?,
    )
}

/// Compares each file, by its name. What is not current is written, so that a run on an
/// author's machine mends it; where `CI` is set, it is only named.
fn check(folder: &Path, files: Vec<(String, Vec<u8>)>) -> Result<()> {
    let mut stale = Vec::new();
    for (name, made) in files {
        let file = folder.join(&name);
        if fs::read(&file).is_ok_and(|bytes| bytes == made) {
            continue;
        }
        if std::env::var_os("CI").is_none() {
            fs::write(&file, made)?;
        }
        stale.push(name);
    }
    ensure!(
        stale.is_empty(),
        "{} was not what its schema makes of it: {}; `cargo test -p jackfield-tests --test \
         generated` has written it anew (not where CI is set): look at the change, and commit it",
        folder.display(),
        stale.join(", ")
    );
    Ok(())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
