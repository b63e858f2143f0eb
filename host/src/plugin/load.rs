//! From files to a generation: every way in which a plugin's file can be wrong ends here,
//! with a sentence that says what to do, and changes nothing that runs.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use sha2::{Digest as _, Sha256};
use wasmtime::component::{Component, Linker};

use super::call::Directory;
use super::contract::{self, HANDLER, Host, Optional, PluginPre};
use super::engine::Compiler;
use super::file;
use super::generation::{Digest, Generation, Refusal};
use super::http;
use super::instance::Guest;
use super::keyvalue;
use super::look::manifest_path;
use super::manifest::{Manifest, ManifestError};
use super::rules::FormerRules;
use super::services::Services;
use super::settings;
use super::ticker::TICK;
use crate::limits::{COMPONENT_BYTES, MANIFEST_BYTES, PluginLimits};
use crate::router::Router;

/// Makes generations: the engine, and what guests may import.
pub(super) struct Loader {
    compiler: Compiler,
    linker: Linker<Guest>,
    pub(super) defaults: PluginLimits,
    directory: Weak<Directory>,
    services: Services,
}

/// A plugin's files, read.
pub(super) struct Files {
    pub(super) component: Vec<u8>,
    manifest_path: PathBuf,
    pub(super) manifest: Result<Manifest, ManifestError>,
    pub(super) digest: Digest,
}

/// What a component wants and gives.
#[derive(Debug, Default)]
pub struct Interfaces {
    /// What it imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
}

/// Why a plugin's file can't be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It can't be read.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    /// What stands beside it can't be.
    #[error("its manifest {} cannot be read: {error}", path.display())]
    ReadManifest {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The manifest of the last generation is gone.
    #[error(
        "its manifest {} is missing or empty, and generation {generation} had one; perhaps its copy \
         has only begun. If the plugin is to have none, write one that has a comment and nothing else",
        path.display()
    )]
    NoManifest {
        /// Where it should be.
        path: PathBuf,
        /// Which generation had one.
        generation: u64,
    },
    /// The manifest demands less of who comes in than the last one, and does not say so.
    #[error(
        "its manifest has nothing of {} any more, which generation {generation} had; perhaps a \
         part of it is missing. If it is meant so, write {}",
        .lost.join(", "),
        .undo.join(", ")
    )]
    LostRules {
        /// Keys of the manifest.
        lost: Vec<&'static str>,
        /// What takes each of them back.
        undo: Vec<&'static str>,
        /// Which generation had them.
        generation: u64,
    },
    /// Its name can't stand in a path.
    #[error("{0:?} is no plugin's name: a-z, A-Z, 0-9, - and _, and .wasm at its end")]
    Name(String),
    /// It has no bytes.
    #[error("the file is empty; perhaps its copy has only begun")]
    Empty,
    /// It is no WebAssembly at all.
    #[error("this is not WebAssembly: it does not begin with \\0asm")]
    NotWasm,
    /// It is a core module.
    #[error(
        "this is a core module, not a component; build it with `cargo build --release --target \
         wasm32-wasip2`, or make it one with `wasm-tools component new`"
    )]
    CoreModule,
    /// It can't be parsed or compiled.
    #[error("{error:#}{hint}", error = .0, hint = hint(.0))]
    Invalid(wasmtime::Error),
    /// It is a component of another world.
    #[error(
        "it does not export {HANDLER}, which every plugin must (it exports {}); write it against \
         wit/0.1, in Rust with jackfield_sdk::export!",
        list(.exports)
    )]
    NoHandler {
        /// What it exports instead.
        exports: Vec<String>,
    },
    /// It imports what the node does not have.
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
    /// It imports what its manifest does not grant.
    #[error("it imports {import}, which its manifest does not grant: write {grant} into it")]
    NotGranted {
        /// What it imports.
        import: String,
        /// What would grant it.
        grant: Grant,
    },
    /// An import or export has another type than the contract's.
    #[error("it does not fit wit/0.1: {0:#}")]
    Mismatch(wasmtime::Error),
    /// It could not be instantiated.
    #[error("it cannot be instantiated: {0:#}")]
    Instantiate(wasmtime::Error),
    /// `on-start` said no.
    #[error("its on-start refused: {0}")]
    Refused(String),
    /// `on-start` trapped.
    #[error("its on-start trapped: {0}")]
    Trapped(String),
    /// The manifest is wrong.
    #[error("its manifest is wrong: {0}")]
    Manifest(#[from] ManifestError),
    /// It wants a path that another plugin has.
    #[error(
        "the path {path} is the plugin {owner}'s: take it out of the one or the other manifest"
    )]
    RouteTaken {
        /// Which.
        path: String,
        /// Whose.
        owner: String,
    },
}

/// What the author of a plugin should know, though it can be loaded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Advice {
    /// It sets timers that nobody hears.
    #[error(
        "it imports set-timer and does not export timer-handler: its timers fire and nothing \
         happens. In Rust, write jackfield_sdk::export!(NAME, timer_handler)"
    )]
    NoTimerHandler,
    /// Each of its instances begins with a lot of memory.
    #[error(
        "each of its instances begins with {0} bytes of memory, and there is one for each event \
         under way. If its stack is that large (zig and zig cc make 16 MiB), link it with \
         -z stack-size=65536"
    )]
    LargeAtRest(usize),
}

fn advice(generation: &Generation, initial_bytes: usize) -> Vec<Advice> {
    let optional = &generation.optional;
    let has_no_handler = optional.sets_timers && !optional.timer_handler;
    let is_large = initial_bytes > generation.host.limits.recycle_above_bytes;
    [
        has_no_handler.then_some(Advice::NoTimerHandler),
        is_large.then_some(Advice::LargeAtRest(initial_bytes)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl LoadError {
    /// Whether the fault is not the file's own, and may be gone in a while.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            LoadError::Read(error) | LoadError::ReadManifest { error, .. } => !matches!(
                error.kind(),
                ErrorKind::FileTooLarge | ErrorKind::InvalidData
            ),
            LoadError::Instantiate(_) | LoadError::RouteTaken { .. } => true,
            _ => false,
        }
    }
}

impl Files {
    /// Reads a component and the manifest beside it, if there is one.
    ///
    /// # Errors
    ///
    /// One of the two cannot be read. A manifest that says something wrong is in the answer.
    pub(super) fn read(component: &Path, defaults: &PluginLimits) -> Result<Files, LoadError> {
        let manifest_path = manifest_path(component);
        let text = read_manifest(&manifest_path).map_err(|error| LoadError::ReadManifest {
            path: manifest_path.clone(),
            error,
        })?;
        let folder = component.parent().unwrap_or(Path::new(""));
        let component = file::read(component, COMPONENT_BYTES)?;
        let mut digest = Sha256::new();
        digest.update((component.len() as u64).to_le_bytes());
        digest.update(&component);
        let written = text.as_deref().unwrap_or_default();
        digest.update((written.len() as u64).to_le_bytes());
        digest.update(written);
        let manifest = Manifest::parse(text.as_deref(), folder, defaults);
        if let Ok(manifest) = &manifest {
            digest.update(manifest.access.key_bytes());
            manifest.settings.digest(&mut digest);
        }
        Ok(Files {
            component,
            manifest_path,
            manifest,
            digest: digest.finalize().into(),
        })
    }

    /// Whether they demand as much of who comes in as the plugin's last generation did, or say
    /// that they do not: a file that is missing or incomplete for a moment opens no door.
    ///
    /// # Errors
    ///
    /// The manifest is missing, or has lost rules.
    pub(super) fn check_rules(&self, former: &FormerRules) -> Result<(), LoadError> {
        let Ok(manifest) = &self.manifest else {
            // What is wrong with it is another error.
            return Ok(());
        };
        let generation = former.generation;
        match (&former.rules, &manifest.rules) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(LoadError::NoManifest {
                path: self.manifest_path.clone(),
                generation,
            }),
            (Some(former), Some(rules)) => match rules.lost(former).as_slice() {
                [] => Ok(()),
                lost => Err(LoadError::LostRules {
                    lost: lost.iter().map(|rule| rule.key).collect(),
                    undo: lost.iter().map(|rule| rule.undo).collect(),
                    generation,
                }),
            },
        }
    }
}

/// A manifest's text, if the file is there.
fn read_manifest(path: &Path) -> io::Result<Option<String>> {
    match file::read_text(path, MANIFEST_BYTES) {
        // A link that leads nowhere is not the absence of a manifest.
        Err(error) if error.kind() == ErrorKind::NotFound && !path.is_symlink() => Ok(None),
        read => read.map(Some),
    }
}

impl Loader {
    /// `directory`: the plugins that those it loads may call.
    pub(super) fn new(
        compiler: Compiler,
        defaults: PluginLimits,
        directory: Weak<Directory>,
        services: Services,
    ) -> wasmtime::Result<Loader> {
        let mut linker = Linker::new(compiler.engine());
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        contract::add_to_linker(&mut linker)?;
        settings::add_to_linker(&mut linker)?;
        keyvalue::add_to_linker(&mut linker)?;
        http::add_to_linker(&mut linker)?;
        Ok(Loader {
            compiler,
            linker,
            defaults,
            directory,
            services,
        })
    }

    /// Makes a generation, ready to take over: compiled, checked, instantiated, started; and
    /// says what of it its author should know.
    pub(super) async fn load(
        &self,
        number: u64,
        router: Router,
        files: Files,
    ) -> Result<(Arc<Generation>, Vec<Advice>), LoadError> {
        let mut manifest = files.manifest?;
        let component = self.compile(files.component).await?;
        let (pre, optional) = self.check(&component, &manifest)?;
        let node = router.namespace().registry().limits();
        manifest.check_with(node, optional.call_handler)?;
        let hostcall_bytes = manifest.limits.hostcall_bytes(node);
        let ticks = manifest.limits.event_timeout.as_millis() / TICK.as_millis();
        let host = Host {
            generation: number,
            router,
            directory: self.directory.clone(),
            limits: manifest.limits.clone(),
            settings: std::mem::take(&mut manifest.settings),
            services: self.services.clone(),
            buckets: manifest.buckets.take(),
            http: manifest.http.take(),
            event_ticks: u64::try_from(ticks).unwrap_or(u64::MAX).max(1),
            ticker: self.compiler.ticker().clone(),
            hostcall_bytes,
        };
        let generation = Generation::new(host, manifest, files.digest, pre, optional);
        match generation.start().await.map_err(LoadError::Instantiate)? {
            Ok(initial_bytes) => {
                let advice = advice(&generation, initial_bytes);
                Ok((generation, advice))
            }
            Err(Refusal::Refused(reason)) => Err(LoadError::Refused(reason)),
            Err(Refusal::Trapped(trapped)) => Err(LoadError::Trapped(trapped.to_string())),
        }
    }

    /// What a component imports and exports, as far as it can be read.
    pub(super) async fn interfaces(&self, component: Vec<u8>) -> Result<Interfaces, LoadError> {
        Ok(self.interfaces_of(&self.compile(component).await?))
    }

    async fn compile(&self, bytes: Vec<u8>) -> Result<Component, LoadError> {
        check_kind(&bytes)?;
        self.compiler
            .compile(bytes)
            .await
            .map_err(LoadError::Invalid)
    }

    fn check(
        &self,
        component: &Component,
        manifest: &Manifest,
    ) -> Result<(PluginPre<Guest>, Optional), LoadError> {
        let interfaces = self.interfaces_of(component);
        if component.get_export_index(None, HANDLER).is_none() {
            return Err(LoadError::NoHandler {
                exports: interfaces.exports,
            });
        }
        let not_served: Vec<_> = interfaces
            .imports
            .iter()
            .filter(|import| served(import) == Served::No)
            .cloned()
            .collect();
        if !not_served.is_empty() {
            return Err(LoadError::NotServed(not_served));
        }
        for import in interfaces.imports {
            if let Served::Granted(grant) = served(&import)
                && !grant.is_in(manifest)
            {
                return Err(LoadError::NotGranted { import, grant });
            }
        }
        let pre = self
            .linker
            .instantiate_pre(component)
            .map_err(LoadError::Mismatch)?;
        let optional = Optional::of(component, &pre).map_err(LoadError::Mismatch)?;
        let pre = PluginPre::new(pre).map_err(LoadError::Mismatch)?;
        Ok((pre, optional))
    }

    fn interfaces_of(&self, component: &Component) -> Interfaces {
        let engine = self.compiler.engine();
        let ty = component.component_type();
        Interfaces {
            imports: ty
                .imports(engine)
                .map(|(name, _)| name.to_owned())
                .collect(),
            exports: ty
                .exports(engine)
                .map(|(name, _)| name.to_owned())
                .collect(),
        }
    }
}

/// The first eight bytes tell a component from a core module and from anything else
/// (<https://github.com/WebAssembly/component-model/blob/main/design/mvp/Binary.md>).
fn check_kind(bytes: &[u8]) -> Result<(), LoadError> {
    match bytes {
        [] => Err(LoadError::Empty),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Err(LoadError::CoreModule),
        [0, b'a', b's', b'm', ..] => Ok(()),
        _ => Err(LoadError::NotWasm),
    }
}

/// Whether a component can have what it imports.
#[derive(Debug, PartialEq, Eq)]
enum Served {
    /// Everybody has it.
    Always,
    /// If its manifest grants it.
    Granted(Grant),
    /// The node does not have it.
    No,
}

/// What a manifest grants by having a section for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// `[keyvalue]`.
    Keyvalue,
    /// `[http]`.
    Http,
}

impl Grant {
    fn is_in(self, manifest: &Manifest) -> bool {
        match self {
            Grant::Keyvalue => manifest.buckets.is_some(),
            Grant::Http => manifest.http.is_some(),
        }
    }
}

/// What to write.
impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Grant::Keyvalue => "[keyvalue] with buckets = [\"default\"], or the names it opens,",
            Grant::Http => "[http] with allow = [\"https://…\"], the hosts it asks, or allow = [],",
        })
    }
}

fn served(import: &str) -> Served {
    // A draft's version is matched exactly.
    if import == settings::INTERFACE {
        return Served::Always;
    }
    if keyvalue::INTERFACES.contains(&import) {
        return Served::Granted(Grant::Keyvalue);
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
                true => Served::Granted(Grant::Http),
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

/// What to do about a component that can't be parsed.
fn hint(error: &wasmtime::Error) -> &'static str {
    let said = format!("{error:#}");
    if said.contains("unexpected end") || said.contains("out of bounds") {
        "; the file ends too early, perhaps it was copied only in part: copy it again"
    } else if said.contains("component model async feature") {
        "; components of the async ABI are not served: build it with synchronous exports"
    } else {
        "; build it again, with a toolchain for components of WASI 0.2"
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
    fn a_manifest_is_not_read_beyond_what_it_may_weigh() {
        let folder = tempfile::tempdir().expect("a folder");
        let component = folder.path().join("chat.wasm");
        std::fs::write(&component, "").expect("a file");
        let longest = "#".repeat(usize::try_from(MANIFEST_BYTES).expect("few bytes"));
        let read = |text: &str| {
            std::fs::write(component.with_extension("toml"), text).expect("a file");
            Files::read(&component, &PluginLimits::default())
        };
        assert!(read(&longest).is_ok());
        let error = read(&format!("{longest}#")).err().expect("a byte too many");
        assert!(
            error.to_string().contains("has 1048577 bytes, more than"),
            "{error}"
        );
        assert!(!error.may_pass());
    }

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
                Served::Granted(Grant::Keyvalue),
            ),
            ("wasi:keyvalue/store@0.2.0-draft", Served::No),
            (
                "wasi:http/outgoing-handler@0.2.6",
                Served::Granted(Grant::Http),
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
