//! Components without `turn-handler`, as plugins in other languages are. Some suites run with them,
//! too: the node then puts its driver of turns beside each.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions};

use crate::workspace::Workspace;

const TURN_HANDLER: &str = "jackfield:plugin/turn-handler@0.1.0";

/// Makes the shipped plugins and the tests' guests without `turn-handler`, and returns their folders.
pub(crate) fn build(workspace: &Workspace) -> Result<[String; 2]> {
    let copy = |from: PathBuf, name| {
        let to = workspace.target.join("plain").join(name);
        copy(&from, &to)?;
        anyhow::Ok(to.display().to_string())
    };
    Ok([
        copy(workspace.plugin_folder(), "plugins")?,
        copy(workspace.guest_folder(), "guests")?,
    ])
}

/// Copies the components of a folder to another one, without their `turn-handler`.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let file = entry?.path();
        let (Some(name), Some("wasm")) = (
            file.file_name(),
            file.extension().and_then(|extension| extension.to_str()),
        ) else {
            continue;
        };
        let plain = strip(fs::read(&file)?).with_context(|| file.display().to_string())?;
        fs::write(to.join(name), plain)?;
    }
    Ok(())
}

fn strip(component: Vec<u8>) -> Result<Vec<u8>> {
    let mut graph = CompositionGraph::new();
    let package = Package::from_bytes("jackfield:guest", None, component, graph.types_mut())?;
    let exports = graph.types()[package.ty()].exports.keys().cloned();
    let exports: Vec<String> = exports.filter(|export| export != TURN_HANDLER).collect();
    let package = graph.register_package(package)?;
    let instance = graph.instantiate(package);
    for export in exports {
        let aliased = graph.alias_instance_export(instance, &export)?;
        graph.export(aliased, export)?;
    }
    Ok(graph.encode(EncodeOptions::default())?)
}
