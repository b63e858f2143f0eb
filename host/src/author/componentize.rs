//! A component of a core module: with the world of the plugin, and with the adapter for what the
//! module imports of WASI 0.1.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::sources;
use super::wit::WORLD;
use crate::file;

/// The largest core module, in bytes.
const MODULE_BYTES: u64 = 256 << 20;

/// The module that a wasip1 compiler imports functions of the system from.
const WASI_01: &str = "wasi_snapshot_preview1";

/// What is made of which core module.
#[derive(Args)]
pub struct ComponentizeFlags {
    /// The core module, for example of `wasm32-wasip1`, built as a library (a reactor).
    module: PathBuf,
    /// The component that is written.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The folder with the world of the plugin, which `jackfield wit` writes. It is needed unless the
    /// module has its world in it already.
    #[arg(long, value_name = "DIR", default_value = "wit")]
    wit: PathBuf,
}

/// Writes the component of a module.
pub(super) fn componentize(flags: &ComponentizeFlags) -> anyhow::Result<()> {
    let module = file::read(&flags.module, MODULE_BYTES)
        .with_context(|| format!("the module {}", flags.module.display()))?;
    let component = encode(module, &flags.wit)
        .with_context(|| format!("no component can be made of {}", flags.module.display()))?;
    // A tool that is interrupted must not leave a part of it, which would look newer than the module.
    sources::replace(&flags.output, &component)
}

fn encode(mut module: Vec<u8>, wit: &Path) -> anyhow::Result<Vec<u8>> {
    ensure!(
        module.get(..8) == Some(b"\0asm\x01\0\0\0"),
        "it is no core module: a component needs no `jackfield componentize`"
    );
    if !has_world(&module)? {
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_dir(wit).with_context(|| {
            format!("the world in {}: `jackfield wit` writes it", wit.display())
        })?;
        let world = resolve.select_world(&[package], Some(WORLD))?;
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    }
    let adapter = wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER;
    ComponentEncoder::default()
        .module(&module)?
        .adapter(WASI_01, adapter)?
        .validate(true)
        .encode()
        .map_err(explained)
}

/// Adds to an error what is behind it: the world has no import that the manifest does not grant.
fn explained(error: anyhow::Error) -> anyhow::Error {
    let text = format!("{error:#}");
    let missing = [("wasi:keyvalue/", "[keyvalue]"), ("wasi:http/", "[http]")];
    match missing.iter().find(|(import, _)| text.contains(import)) {
        Some((_, section)) => error.context(format!(
            "the manifest does not grant what the module imports: add {section} to it"
        )),
        None => error,
    }
}

/// Whether a module has its world in it, as the bindings of some languages put it there.
fn has_world(module: &[u8]) -> anyhow::Result<bool> {
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::CustomSection(section) = payload?
            && section.name().starts_with("component-type")
        {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::author::wit::write_folder;

    #[test]
    fn what_is_no_module_is_refused_and_cut_ones_too() {
        let wit = tempfile::tempdir().expect("a folder");
        write_folder(wit.path(), "").expect("a world");
        let refused = |bytes: &[u8], why: &str| {
            let error = encode(bytes.to_vec(), &wit.path().join("wit")).expect_err(why);
            let error = format!("{error:#}");
            assert!(error.contains(why), "{error}");
        };
        refused(b"\0asm\x0d\0\x01\0", "it is no core module");
        refused(b"", "it is no core module");
        refused(b"\0asm\x01\0\0\0\x01\x05\0", "unexpected end");
        // One type without parameters and results, and one import of it.
        let import = b"\x01\x20wasi:keyvalue/store@0.2.0-draft2\x04open\0\0";
        let head = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x02\x29";
        let ungranted = [&head[..], import].concat();
        refused(&ungranted, "add [keyvalue] to it");
        // A module without the exports of the world.
        refused(b"\0asm\x01\0\0\0", "on-connect");
    }

    #[test]
    fn without_a_world_the_command_that_writes_it_is_named() {
        let empty = tempfile::tempdir().expect("a folder");
        let error = encode(b"\0asm\x01\0\0\0".to_vec(), &empty.path().join("wit"));
        let error = format!("{:#}", error.expect_err("no world"));
        assert!(error.contains("`jackfield wit` writes it"), "{error}");
    }
}
