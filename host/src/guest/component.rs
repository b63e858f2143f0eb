//! Loading: from the bytes of a component to a linked component. For every fault that a component
//! can have, there is an error here that says what to do.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wasmtime::Engine;
use wasmtime::component::Linker;

use super::compiler::{CompileError, Compiled, Compiler, CompilerOptions};
use super::engine;
use super::exports::{Exports, HANDLER, TURN_HANDLER, TURNS};
use super::instance::Guest;
use super::processors::Processors;
use super::ticker::Ticker;
use super::{contract, http, keyvalue, settings};
use crate::manifest::Manifest;

/// The compiler and the linker of components, with everything that the node serves to them.
pub(crate) struct Components {
    engine: Engine,
    processors: Arc<Processors>,
    compiler: Compiler,
    linker: Linker<Guest>,
}

/// A component that fits the contract, ready to be instantiated.
pub(crate) struct Linked {
    pub(super) exports: Exports<Guest>,
    /// Whether the driver of turns was put beside the component.
    pub(super) has_driver: bool,
    pub(crate) processors: Arc<Processors>,
}

/// The interfaces that a component imports and exports.
#[derive(Debug, Default)]
pub struct Interfaces {
    /// The names of the component's imports.
    pub imports: Vec<String>,
    /// The names of the component's exports.
    pub exports: Vec<String>,
}

/// The reason why a component cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    /// The file has no bytes.
    #[error("the file is empty; perhaps its copy has only begun")]
    Empty,
    /// The file does not contain WebAssembly.
    #[error("this is not WebAssembly: it does not begin with \\0asm")]
    NotWasm,
    /// The file contains a core module, not a component.
    #[error(
        "this is a core module, not a component; build it with `cargo build --release --target \
         wasm32-wasip2`, or make it one with `wasm-tools component new`"
    )]
    CoreModule,
    /// The component is not compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The component does not export the contract's `handler`.
    #[error(
        "it does not export {HANDLER}, which every plugin must (it exports {}); write it against \
         wit/0.1, in Rust with jackfield_sdk::export!",
        list(.exports)
    )]
    NoHandler {
        /// The exports that the component has instead.
        exports: Vec<String>,
    },
    /// The component imports interfaces that the node does not serve.
    #[error(
        "it imports {}, which this node does not serve; served are jackfield:plugin/{{{}}}@0.1.x \
         and wasi:{{cli, clocks, filesystem, io, random, sockets}}@0.2.x, \
         wasi:http/{{types, outgoing-handler}}@0.2.x, {}, {}",
        list(.0),
        contract::SERVED.join(", "),
        settings::INTERFACE,
        keyvalue::INTERFACES.join(", ")
    )]
    NotServed(Vec<String>),
    /// The component imports an interface that its manifest does not grant.
    #[error("it imports {import}, which its manifest does not grant: write {grant} into it")]
    NotGranted {
        /// The name of the import.
        import: String,
        /// The section of the manifest that would grant the import.
        grant: GrantSection,
    },
    /// An import or export has another type than in the contract.
    #[error("it does not fit wit/0.1: {0:#}")]
    Mismatch(wasmtime::Error),
    /// The component could not be instantiated.
    #[error("it cannot be instantiated: {0:#}")]
    Instantiate(wasmtime::Error),
}

impl Components {
    /// Starts the engine. `options` say how components are compiled.
    ///
    /// # Errors
    ///
    /// A folder that the operator has named cannot be used, or the system has no thread left.
    pub(crate) fn new(options: CompilerOptions) -> anyhow::Result<Components> {
        let compiler = Compiler::new(options)?;
        let engine = engine::pooled()?;
        let runtime = tokio::runtime::Handle::try_current();
        let workers = runtime.map_or(1, |runtime| runtime.metrics().num_workers());
        let processors = Processors::new(Ticker::start(&engine)?, workers);
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        contract::add_to_linker(&mut linker)?;
        settings::add_to_linker(&mut linker, Guest::settings)?;
        keyvalue::add_to_linker(&mut linker, Guest::keyvalue)?;
        http::add_to_linker(&mut linker)?;
        Ok(Components {
            engine,
            processors,
            compiler,
            linker,
        })
    }

    /// Compiles the component of a plugin, and links it with the interfaces that its manifest
    /// grants.
    ///
    /// # Errors
    ///
    /// The bytes are no component, or one that does not fit the contract or its manifest.
    pub(crate) async fn link(
        &self,
        plugin: &str,
        bytes: Vec<u8>,
        manifest: &Manifest,
    ) -> Result<Linked, ComponentError> {
        let in_turns = manifest.limits.messages_per_turn > 1;
        let compiled = self.compile(plugin, bytes, in_turns).await?;
        self.check_interfaces(&compiled, manifest)?;
        let linked = self.linker.instantiate_pre(&compiled.component);
        let exports = linked.and_then(Exports::find);
        Ok(Linked {
            exports: exports.map_err(ComponentError::Mismatch)?,
            has_driver: compiled.has_driver,
            processors: self.processors.clone(),
        })
    }

    /// Compiles a component, and lists the names of its imports and exports.
    ///
    /// # Errors
    ///
    /// The bytes are no component.
    pub(crate) async fn interfaces(
        &self,
        plugin: &str,
        bytes: Vec<u8>,
    ) -> Result<Interfaces, ComponentError> {
        // As it is loaded: nothing is compiled twice.
        Ok(self.interfaces_of(&self.compile(plugin, bytes, true).await?))
    }

    /// Returns the folder for the builds of the plugins that are in this folder, if the node has a
    /// folder of its own.
    pub(crate) fn builds(&self, plugins: &Path) -> Option<PathBuf> {
        self.compiler.builds(plugins)
    }

    /// Waits until all that was compiled is in the cache.
    pub(crate) async fn idle(&self) {
        self.compiler.idle().await;
    }

    async fn compile(
        &self,
        plugin: &str,
        bytes: Vec<u8>,
        in_turns: bool,
    ) -> Result<Compiled, ComponentError> {
        check_kind(&bytes)?;
        let compiler = &self.compiler;
        Ok(compiler
            .compile(&self.engine, plugin, bytes, in_turns)
            .await?)
    }

    fn check_interfaces(
        &self,
        compiled: &Compiled,
        manifest: &Manifest,
    ) -> Result<(), ComponentError> {
        let interfaces = self.interfaces_of(compiled);
        if compiled.component.get_export_index(None, HANDLER).is_none() {
            return Err(ComponentError::NoHandler {
                exports: interfaces.exports,
            });
        }
        let imports = interfaces.imports.iter();
        let not_served = imports.filter(|import| served(import) == Served::No);
        let not_served: Vec<_> = not_served.cloned().collect();
        if !not_served.is_empty() {
            return Err(ComponentError::NotServed(not_served));
        }
        for import in interfaces.imports {
            if let Served::Granted(grant) = served(&import)
                && !grant.is_in(manifest)
            {
                return Err(ComponentError::NotGranted { import, grant });
            }
        }
        Ok(())
    }

    fn interfaces_of(&self, compiled: &Compiled) -> Interfaces {
        let engine = &self.engine;
        let ty = compiled.component.component_type();
        // What the driver imports and exports is not the component's.
        let is_own = |name: &&str| !compiled.has_driver || ![TURNS, TURN_HANDLER].contains(name);
        let imports = ty.imports(engine).map(|(name, _)| name);
        let exports = ty.exports(engine).map(|(name, _)| name);
        Interfaces {
            imports: imports.filter(is_own).map(str::to_owned).collect(),
            exports: exports.filter(is_own).map(str::to_owned).collect(),
        }
    }
}

impl Linked {
    /// Whether the component exports `call-handler`.
    pub(crate) fn takes_calls(&self) -> bool {
        self.exports.call_handler.is_some()
    }
}

/// Tells a component from a core module and from anything else by its first eight bytes
/// (<https://github.com/WebAssembly/component-model/blob/main/design/mvp/Binary.md>).
fn check_kind(bytes: &[u8]) -> Result<(), ComponentError> {
    match bytes {
        [] => Err(ComponentError::Empty),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Err(ComponentError::CoreModule),
        [0, b'a', b's', b'm', ..] => Ok(()),
        _ => Err(ComponentError::NotWasm),
    }
}

/// Whether a component may use an interface that it imports.
#[derive(Debug, PartialEq, Eq)]
enum Served {
    /// Every component may use the interface.
    Always,
    /// A component may use the interface if its manifest has this grant.
    Granted(GrantSection),
    /// The node does not serve the interface.
    No,
}

/// A permission that a manifest grants by having a section for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantSection {
    /// The section `[keyvalue]`, for `wasi:keyvalue`.
    Keyvalue,
    /// The section `[http]`, for `wasi:http`.
    Http,
}

impl GrantSection {
    fn is_in(self, manifest: &Manifest) -> bool {
        match self {
            GrantSection::Keyvalue => manifest.buckets.is_some(),
            GrantSection::Http => manifest.http.is_some(),
        }
    }
}

/// Names the section to write into the manifest, with an example.
impl fmt::Display for GrantSection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GrantSection::Keyvalue => {
                "[keyvalue] with buckets = [\"default\"], or the names it opens,"
            }
            GrantSection::Http => {
                "[http] with allow = [\"https://…\"], the hosts it asks, or allow = [],"
            }
        })
    }
}

fn served(import: &str) -> Served {
    // A draft's version is matched exactly.
    if import == settings::INTERFACE {
        return Served::Always;
    }
    if keyvalue::INTERFACES.contains(&import) {
        return Served::Granted(GrantSection::Keyvalue);
    }
    let Some((name, version)) = import.split_once('@') else {
        return Served::No;
    };
    let always = match name.split_once('/') {
        Some(("jackfield:plugin", interface)) => {
            version.starts_with("0.1.") && contract::SERVED.contains(&interface)
        }
        Some((http::PACKAGE, interface)) if http::INTERFACES.contains(&interface) => {
            return match version.starts_with("0.2.") {
                true => Served::Granted(GrantSection::Http),
                false => Served::No,
            };
        }
        Some((package, _)) => {
            let served = [
                "wasi:cli",
                "wasi:clocks",
                "wasi:filesystem",
                "wasi:io",
                "wasi:random",
                "wasi:sockets",
            ];
            version.starts_with("0.2.") && served.contains(&package)
        }
        None => false,
    };
    match always {
        true => Served::Always,
        false => Served::No,
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_served_by_package_interface_and_version() {
        for (import, expected) in [
            ("jackfield:plugin/send@0.1.0", Served::Always),
            ("jackfield:plugin/send@0.1.9", Served::Always),
            ("jackfield:plugin/send@0.2.0", Served::No),
            ("jackfield:plugin/calls@0.1.0", Served::Always),
            ("jackfield:plugin/timer@0.1.0", Served::No),
            ("wasi:io/streams@0.2.6", Served::Always),
            ("wasi:config/store@0.2.0-rc.1", Served::Always),
            ("wasi:config/store@0.2.0", Served::No),
            (
                "wasi:keyvalue/store@0.2.0-draft2",
                Served::Granted(GrantSection::Keyvalue),
            ),
            ("wasi:keyvalue/store@0.2.0-draft", Served::No),
            (
                "wasi:http/outgoing-handler@0.2.6",
                Served::Granted(GrantSection::Http),
            ),
            ("wasi:http/incoming-handler@0.2.6", Served::No),
            ("wasi:http/types@0.3.0", Served::No),
            ("wasi:io/streams@0.3.0", Served::No),
            ("acme", Served::No),
        ] {
            assert_eq!(served(import), expected, "{import}");
        }
    }
}
