//! The load of a plugin, from its files to a generation. Every fault of a plugin's file is found
//! here. Each error says what to do, and changes nothing that runs.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

use super::generation::{Digest, Generation};
use super::look::manifest_path;
use super::probation::Probation;
use crate::file;
use crate::guest::{
    Callees, CompileError, ComponentError, Components, Context, HttpGrant, Identity, Interfaces,
    LogAllowance, MemoryBudget, Pool, Services, StartError, Usage,
};
use crate::limits::{COMPONENT_BYTES, MANIFEST_BYTES, PluginLimits};
use crate::manifest::{FormerRules, Manifest, ManifestError, Rule, Rules};
use crate::registry::ServingSource;
use crate::rollout::Rollout;
use crate::router::Router;

/// The loader that makes generations, from components and the services that guests may use.
pub(super) struct Loader {
    components: Components,
    pub(super) defaults: PluginLimits,
    callees: Weak<dyn Callees>,
    services: Services,
    memory: Arc<MemoryBudget>,
    /// Wakes the task that takes builds back.
    pub(super) build_failed: Arc<Notify>,
}

/// The contents of a plugin's files, as they were read.
pub(super) struct PluginFiles {
    pub(super) component: Vec<u8>,
    manifest_path: PathBuf,
    /// The text of the manifest, if there is one.
    pub(super) text: Option<String>,
    pub(super) manifest: Result<Manifest, ManifestError>,
    pub(super) digest: Digest,
    pub(super) source: BuildSource,
    /// The clients that the build is for, beside the build of the others; none: all.
    pub(super) rollout: Option<Rollout>,
    /// Whether the canary goes on that runs beside the build that this one replaces.
    pub(super) keeps_canary: bool,
    /// The digest that the build is kept under, if it is a kept one. What its manifest names may have
    /// changed since.
    pub(super) kept_as: Option<Digest>,
}

/// Where the files of a load come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BuildSource {
    /// They are those of the plugins folder.
    Folder,
    /// They are those of the deployment.
    Deployed,
    /// They are to be deployed, and wait until that is decided.
    Prepared,
    /// They were kept, and are put back since too many events of what runs have failed.
    PutBack,
    /// They were kept, and an operator asks for them.
    Asked {
        /// Whether the build had been taken back.
        was_refused: bool,
    },
}

impl BuildSource {
    /// The source, in the form that other nodes are told.
    pub(super) fn served(self) -> ServingSource {
        match self {
            BuildSource::Folder => ServingSource::Folder,
            BuildSource::Deployed | BuildSource::Prepared => ServingSource::Deployment,
            BuildSource::PutBack | BuildSource::Asked { .. } => ServingSource::KeptBuild,
        }
    }
}

/// The reason why a plugin's file can't be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The component's file can't be read.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    /// The manifest beside the component can't be read.
    #[error("its manifest {} cannot be read: {error}", path.display())]
    ReadManifest {
        /// The path of the manifest.
        path: PathBuf,
        /// The reason why the manifest cannot be read.
        error: io::Error,
    },
    /// The manifest is missing or empty, and the last generation had one.
    #[error(
        "its manifest {} is missing or empty, and generation {generation} had one; perhaps its copy \
         has only begun. If the plugin is to have none, write one that has a comment and nothing else",
        path.display()
    )]
    NoManifest {
        /// The path where the manifest should be.
        path: PathBuf,
        /// The number of the generation that had a manifest.
        generation: u64,
    },
    /// The manifest demands less of clients than the last one, and does not say that this is meant.
    #[error(
        "its manifest has nothing of {} any more, which generation {generation} had; perhaps a \
         part of it is missing. If it is meant so, write {}",
        .lost.join(", "),
        .undo.join(", ")
    )]
    LostRules {
        /// The manifest's keys for the rules that are lost.
        lost: Vec<&'static str>,
        /// The entries that take back each of these rules.
        undo: Vec<&'static str>,
        /// The number of the generation that had the rules.
        generation: u64,
    },
    /// The plugin's name can't be part of a path.
    #[error("{0:?} is no plugin's name: a-z, A-Z, 0-9, - and _, and .wasm at its end")]
    Name(String),
    /// The component cannot be used.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// The plugin's `on-start` answered with an error.
    #[error("its on-start refused: {0}")]
    Refused(String),
    /// The plugin's `on-start` trapped.
    #[error("its on-start trapped: {0}")]
    Trapped(String),
    /// The manifest is wrong.
    #[error("its manifest is wrong: {0}")]
    Manifest(#[from] ManifestError),
    /// The build was taken back, since too many of its events failed, or by an operator.
    #[error(
        "this build was taken back before: it is loaded again when the component or its manifest \
         changes, or by `jackfield plugins rollback` with its digest"
    )]
    TakenBack,
    /// The build that was deployed has not come from the other nodes yet.
    #[error("the build that was deployed is not here yet: it is got from the other nodes")]
    NotHere,
    /// The build was to be deployed, and is not: it cannot run on another node, or nobody has asked
    /// for it for a while.
    #[error("the deployment was given up")]
    NotDeployed,
    /// The build is for a part of the clients, and there is none for the others.
    #[error(
        "it is for a part of the clients, and no other build of the plugin runs here beside it"
    )]
    NothingBeside,
    /// Newer files have come, or the node has ended.
    #[error("newer files have come meanwhile, or the node ends")]
    Overtaken,
    /// The plugin wants a path that another plugin has.
    #[error(
        "the path {path} is the plugin {owner}'s: take it out of the one or the other manifest"
    )]
    RouteTaken {
        /// The path that both plugins want.
        path: String,
        /// The plugin that has the path.
        owner: String,
    },
}

/// Advice for the author of a plugin that can be loaded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Advice {
    /// The plugin sets timers, but exports no handler for them.
    #[error(
        "it imports set-timer and does not export timer-handler: its timers fire and nothing \
         happens. In Rust, write jackfield_sdk::export!(NAME, timer_handler)"
    )]
    NoTimerHandler,
    /// Each instance of the plugin begins with a lot of memory.
    #[error(
        "each of its instances begins with {0} bytes of memory, and there is one for each event \
         under way. If its stack is that large (zig and zig cc make 16 MiB), link it with \
         -z stack-size=65536"
    )]
    LargeAtRest(usize),
}

fn advice(generation: &Generation, initial_bytes: usize) -> Vec<Advice> {
    let pool = &generation.pool;
    let has_no_handler = pool.sets_timers() && !pool.hears_timers();
    let is_large = initial_bytes > generation.limits().recycle_above_bytes;
    [
        has_no_handler.then_some(Advice::NoTimerHandler),
        is_large.then_some(Advice::LargeAtRest(initial_bytes)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl LoadError {
    /// Returns whether the fault may lie outside the file and be gone after a while.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            LoadError::Read(error) | LoadError::ReadManifest { error, .. } => !matches!(
                error.kind(),
                ErrorKind::FileTooLarge | ErrorKind::InvalidData
            ),
            LoadError::Component(
                ComponentError::Instantiate(_) | ComponentError::Compile(CompileError::Run(_)),
            )
            | LoadError::RouteTaken { .. } => true,
            _ => false,
        }
    }
}

impl PluginFiles {
    /// Reads a component and the manifest beside it, if there is one.
    ///
    /// # Errors
    ///
    /// One of the two files cannot be read. A manifest that can be read but is wrong is part of the
    /// result.
    pub(super) fn read(
        component: &Path,
        defaults: &PluginLimits,
    ) -> Result<PluginFiles, LoadError> {
        let manifest_path = manifest_path(component);
        let text = read_manifest(&manifest_path).map_err(|error| LoadError::ReadManifest {
            path: manifest_path.clone(),
            error,
        })?;
        let bytes = file::read(component, COMPONENT_BYTES)?;
        Ok(PluginFiles::new(bytes, text, component, defaults))
    }

    /// Makes the contents of the files of the plugin whose component is at `path`. The files that the
    /// manifest names are read.
    pub(super) fn new(
        component: Vec<u8>,
        text: Option<String>,
        path: &Path,
        defaults: &PluginLimits,
    ) -> PluginFiles {
        let folder = path.parent().unwrap_or(Path::new(""));
        let written = text.as_deref().unwrap_or_default();
        let mut digest = content_digest(&component, written.as_bytes());
        let manifest = Manifest::parse(text.as_deref(), folder, defaults);
        if let Ok(manifest) = &manifest {
            digest.update(manifest.access.key_bytes());
            manifest.settings.digest(&mut digest);
        }
        PluginFiles {
            component,
            manifest_path: manifest_path(path),
            text,
            manifest,
            digest: digest.finalize().into(),
            source: BuildSource::Folder,
            rollout: None,
            keeps_canary: false,
            kept_as: None,
        }
    }

    /// Makes the contents of a build that is kept, to be put back.
    pub(super) fn put_back(
        digest: &Digest,
        (component, text): (Vec<u8>, Option<String>),
        path: &Path,
        defaults: &PluginLimits,
    ) -> PluginFiles {
        PluginFiles {
            source: BuildSource::PutBack,
            kept_as: Some(*digest),
            ..PluginFiles::new(component, text, path, defaults)
        }
    }

    /// Says that the canary goes on that runs beside the build that this one replaces.
    pub(super) fn beside_the_canary(self) -> PluginFiles {
        PluginFiles {
            keeps_canary: true,
            ..self
        }
    }

    /// Says that the build is for a part of the clients.
    pub(super) fn for_clients_of(self, rollout: Rollout) -> PluginFiles {
        let rollout = Some(rollout);
        PluginFiles { rollout, ..self }
    }

    /// Says where the files come from. If they were kept without a manifest, it is not missing.
    pub(super) fn from(self, source: BuildSource) -> PluginFiles {
        PluginFiles { source, ..self }
    }

    fn is_kept(&self) -> bool {
        self.source.served() == ServingSource::KeptBuild
    }

    /// Returns the rules of a former generation that these files do not have. Of a build that was kept,
    /// each rule must be the same: nobody has just written it.
    fn lost_rules(&self, former: &Rules, rules: Option<&Rules>) -> Vec<&'static Rule> {
        let none = Rules::default();
        let rules = rules.unwrap_or(&none);
        match self.is_kept() {
            true => rules.changed(former),
            false => rules.lost(former),
        }
    }

    /// Checks that the files demand as much of clients as the plugin's last generation did, or say
    /// that they do not. A file that is missing or incomplete for a moment must not let more
    /// clients in.
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
            (Some(_), None) if !self.is_kept() => Err(LoadError::NoManifest {
                path: self.manifest_path.clone(),
                generation,
            }),
            (Some(former), rules) => match self.lost_rules(former, rules.as_ref()).as_slice() {
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

/// Begins the digest of a build with its component and its manifest. If the manifest names no files,
/// and has no settings, that is all of it.
pub(super) fn content_digest(component: &[u8], manifest: &[u8]) -> Sha256 {
    let mut digest = Sha256::new();
    for part in [component, manifest] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    digest
}

/// Reads the text of a manifest, if the file is there.
fn read_manifest(path: &Path) -> io::Result<Option<String>> {
    match file::read_text(path, MANIFEST_BYTES) {
        // A link that leads nowhere is not the absence of a manifest.
        Err(error) if error.kind() == ErrorKind::NotFound && !path.is_symlink() => Ok(None),
        read => read.map(Some),
    }
}

impl Loader {
    /// Creates a loader. `callees` are the plugins that a loaded plugin may call, and
    /// `memory_bytes` is the memory that all guests together may have.
    pub(super) fn new(
        components: Components,
        defaults: PluginLimits,
        callees: Weak<dyn Callees>,
        services: Services,
        memory_bytes: usize,
    ) -> Loader {
        Loader {
            build_failed: Arc::default(),
            components,
            defaults,
            callees,
            services,
            memory: MemoryBudget::new(memory_bytes),
        }
    }

    /// Makes a generation that is ready to take over: compiled, checked, instantiated and started.
    /// Also returns advice for the plugin's author. `usage` is what the plugin's generations use
    /// together.
    ///
    /// # Errors
    ///
    /// The component or its manifest cannot be used, or `on-start` did not end well.
    pub(super) async fn load(
        &self,
        number: u64,
        router: Router,
        usage: Arc<Usage>,
        files: PluginFiles,
    ) -> Result<(Arc<Generation>, Vec<Advice>), LoadError> {
        let manifest = files.manifest?;
        let linked = self
            .components
            .link(router.namespace().name(), files.component, &manifest)
            .await?;
        let registry = router.namespace().shared();
        manifest.check_with(&registry.limits(), linked.takes_calls())?;
        let requests = manifest.limits.http_requests;
        let context = Context {
            identity: Identity {
                plugin: router.namespace().name().into(),
                generation: number,
                counters: registry.counters().clone(),
                log: Arc::new(LogAllowance::new(manifest.limits.log_bytes_per_second)),
            },
            callees: self.callees.clone(),
            processors: linked.processors.clone(),
            memory: self.memory.clone(),
            usage,
            limits: manifest.limits,
            settings: manifest.settings,
            services: self.services.clone(),
            buckets: manifest.buckets,
            times: Arc::default(),
            is_superseded: AtomicBool::new(false),
            http: manifest.http.map(|hosts| HttpGrant::new(hosts, requests)),
            router,
        };
        let generation = Arc::new(Generation {
            number,
            pool: Pool::new(linked, context),
            policies: manifest.policies,
            routes: manifest.routes,
            access: manifest.access,
            rules: manifest.rules,
            digest: files.digest,
            callers: manifest.callers,
            has_logged_timers: AtomicBool::new(false),
            probation: Probation::default(),
            build_failed: self.build_failed.clone(),
            source: Mutex::new(files.source.served()),
            loaded_at_ms: AtomicU64::new(0),
            canary: ArcSwapOption::empty(),
        });
        let mut first = generation.pool.first().await?;
        let initial_bytes = first.initial_bytes();
        match first.on_start().await {
            Ok(()) => {
                let advice = advice(&generation, initial_bytes);
                Ok((generation, advice))
            }
            Err(StartError::Refused(reason)) => Err(LoadError::Refused(reason)),
            Err(StartError::Trapped(trapped)) => Err(LoadError::Trapped(trapped.to_string())),
        }
    }

    /// Waits until all that was compiled is in the cache.
    pub(super) async fn idle(&self) {
        self.components.idle().await;
    }

    /// Returns what a component imports and exports.
    ///
    /// # Errors
    ///
    /// The bytes are not a valid component.
    pub(super) async fn interfaces(
        &self,
        plugin: &str,
        component: Vec<u8>,
    ) -> Result<Interfaces, LoadError> {
        Ok(self.components.interfaces(plugin, component).await?)
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
            PluginFiles::read(&component, &PluginLimits::default())
        };
        assert!(read(&longest).is_ok());
        let error = read(&format!("{longest}#")).err().expect("a byte too many");
        assert!(
            error.to_string().contains("has 1048577 bytes, more than"),
            "{error}"
        );
        assert!(!error.may_pass());
    }
}
