//! The driver of turns: a small component that is put beside a plugin, and that hands it the
//! messages of a turn (`turn_driver.wat`).
//!
//! A plugin with a `turn-handler` of its own has no driver. The composed component imports and
//! exports all that the plugin does, and exports `turn-handler` besides.

use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions};

use super::exports::{HANDLER, TURN_HANDLER};

/// The driver, as `tests/generated` makes it.
pub(super) const DRIVER: &[u8] = include_bytes!("../../generated/turn_driver.wasm");

/// The memory of the driver, in bytes.
pub(super) const MEMORY_BYTES: usize = 64 << 10;

/// Puts the driver beside a plugin. Nothing is returned for a plugin that has a `turn-handler` of
/// its own.
///
/// # Errors
///
/// The bytes are no component, or one that does not fit the contract.
pub(super) fn put_beside(plugin: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
    let mut graph = CompositionGraph::new();
    let plugin = Package::from_bytes("jackfield:guest", None, plugin, graph.types_mut())?;
    let exports = graph.types()[plugin.ty()].exports.keys().cloned();
    let exports: Vec<String> = exports.collect();
    if exports.iter().any(|export| export == TURN_HANDLER) {
        return Ok(None);
    }
    let driver = Package::from_bytes("jackfield:driver", None, DRIVER, graph.types_mut())?;
    let plugin = graph.register_package(plugin)?;
    let driver = graph.register_package(driver)?;
    let (plugin, driver) = (graph.instantiate(plugin), graph.instantiate(driver));
    let handler = graph.alias_instance_export(plugin, HANDLER)?;
    graph.set_instantiation_argument(driver, HANDLER, handler)?;
    for export in exports {
        let aliased = graph.alias_instance_export(plugin, &export)?;
        graph.export(aliased, export)?;
    }
    let turn_handler = graph.alias_instance_export(driver, TURN_HANDLER)?;
    graph.export(turn_handler, TURN_HANDLER)?;
    let options = EncodeOptions {
        // wasmtime validates it.
        validate: false,
        ..EncodeOptions::default()
    };
    Ok(Some(graph.encode(options)?))
}
