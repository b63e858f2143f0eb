//! The plugins folder. When a file `NAME.wasm` is added, the plugin `NAME` runs; when the file is
//! replaced, the plugin is reloaded; when the file is removed, the plugin's clients are drained.
//!
//! The node looks at the folder again and again, and does not wait for file system events. This
//! works on every file system (network mounts and containers' bind mounts send no events), cannot
//! miss a change, and costs about 30 µs each time. A file counts once it has settled, and only a
//! new digest causes a reload.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::task::TaskTracker;

use super::builds::Builds;
use super::canary_request::CanaryRequest;
use super::deployments::Deployments;
use super::directory::Directory;
use super::drain::drain_orphans;
use super::drain_reason::DrainReason;
use super::folders::PluginFolders;
use super::handle::Plugin;
use super::load::{BuildSource, LoadError, Loader, PluginFiles};
use super::loads::{EndedLoad, LoadResult, Loads};
use super::look::{Found, look};
use super::preparation::Preparation;
use super::preparations::Preparations;
use super::requests::Requests;
use super::rollback_request::RollbackRequest;
use super::watch::{FolderChange, FolderWatch};
use super::worker::handle_peer_events;
use crate::guest::{CompilerOptions, Components, Services};
use crate::limits::PluginLimits;
use crate::manifest::fits_a_path;
use crate::mesh::Mesh;
use crate::rate_limiter::RateLimits;
use crate::registry::{Registry, ServingState};

/// The time between two rounds that free the instances that were not needed.
const TRIM: Duration = Duration::from_secs(10);

/// The time between two looks at how canaries do.
const JUDGE: Duration = Duration::from_secs(1);

/// The time that a look at the folder may take before an error is logged. A network mount may never
/// answer.
const SLOW_LOOK: Duration = Duration::from_secs(10);

/// The plugins of a node, and the folder that they come from.
pub struct Plugins {
    folder: PathBuf,
    /// The loader of plugins; none if this node runs no plugins.
    pub(super) loader: Option<Loader>,
    pub(super) builds: Builds,
    pub(super) registry: Arc<Registry>,
    pub(super) mesh: Option<Arc<Mesh>>,
    pub(super) plugins: Arc<Directory>,
    /// The rates of plugins that run at other nodes.
    default_rates: RateLimits,
    looking: Mutex<Option<JoinHandle<()>>>,
    /// The tasks that fire timers, handle peers' events, and drain plugins that no node has any
    /// more.
    pub(super) tasks: Mutex<JoinSet<()>>,
    /// The generations that are being retired, and the plugins that drain.
    pub(super) retiring: TaskTracker,
    pub(super) rollbacks: Requests<RollbackRequest>,
    pub(super) canary_requests: Requests<CanaryRequest>,
    pub(super) deployments: Arc<Deployments>,
    pub(super) preparations: Preparations,
    /// The builds that are prepared, and whose loads are to begin.
    pub(super) prepared: Requests<(Arc<Preparation>, PluginFiles)>,
    /// The plugins whose files are to be read again.
    pub(super) reloads: Requests<String>,
    /// Wakes those who run a build on trial, when something was deployed.
    pub(super) deployments_taken: Notify,
    /// The plugins whose deployed builds are being got from other nodes.
    pub(super) getting: Mutex<BTreeSet<String>>,
    /// The plugins whose deployed builds are tried again after a while.
    pub(super) retrying: Mutex<BTreeSet<String>>,
}

impl Plugins {
    /// The time that a node's start usually waits for its plugins.
    pub const PATIENCE: Duration = Duration::from_secs(10);

    /// Loads the plugins in the folder. A file that can't be loaded is logged, and is tried again
    /// when it changes. A load that failed because of the machine is also tried again later. A plugin
    /// that takes longer than `patience` is loaded while the node serves the others.
    ///
    /// # Errors
    ///
    /// The folder cannot be read, or the component engine cannot be set up.
    pub async fn open(
        PluginFolders {
            plugins: folder,
            builds,
        }: PluginFolders<'_>,
        compiler: CompilerOptions,
        defaults: PluginLimits,
        registry: Arc<Registry>,
        mesh: Option<Arc<Mesh>>,
        services: Services,
        patience: Duration,
    ) -> anyhow::Result<Arc<Plugins>> {
        let directory = Arc::<Directory>::default();
        let callees: Weak<Directory> = Arc::downgrade(&directory);
        let (components, rates) = (Components::new(compiler)?, defaults.rates());
        let memory_bytes = registry.limits().guest_memory_bytes();
        let builds = match builds.as_os_str().is_empty() {
            true => components.builds(folder),
            false => Some(builds.to_owned()),
        };
        let loader = Loader::new(components, defaults, callees, services, memory_bytes);
        let opened = on_blocking_thread(move || {
            let deployments = Deployments::open(builds.clone());
            Ok::<_, std::io::Error>((Builds::new(builds), deployments))
        });
        let plugins = Plugins::new(
            folder,
            Some(loader),
            opened.await?,
            directory,
            registry,
            mesh,
            rates,
        );
        let found = plugins.look().await.with_context(|| {
            format!(
                "the plugins folder {} cannot be read: create it, or name another one with \
                 --plugins",
                folder.display()
            )
        })?;
        let mut watch = FolderWatch::default();
        let mut loads = Loads::default();
        for name in plugins.names(&found) {
            loads.enqueue(name);
        }
        watch.accept(found, Instant::now());
        let all = plugins.load_all(&mut loads, &mut watch);
        if tokio::time::timeout(patience, all).await.is_err() {
            let late = loads.plugins();
            // Their clients are told to come back.
            for name in late.iter().filter(|name| fits_a_path(name)) {
                let plugin = plugins.plugin(name);
                if !plugin.runs() {
                    plugin.serve(ServingState::Away);
                }
            }
            let late = late.join(", ");
            tracing::warn!(
                plugins = late,
                "plugins are still being loaded, the others are served"
            );
        }
        let looking = tokio::spawn(plugins.clone().keep_looking(watch, loads));
        *plugins.looking.lock() = Some(looking);
        Ok(plugins)
    }

    /// The names of the plugins in the folder that do not run. A gateway runs none, and misses none.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub async fn not_running(&self) -> std::io::Result<Vec<String>> {
        if self.loader.is_none() {
            return Ok(Vec::new());
        }
        let found = self.look().await?;
        let runs = |name: &String| self.get(name).is_some_and(|plugin| plugin.runs());
        let names = self.names(&found).into_iter();
        Ok(names.filter(|name| !runs(name)).collect())
    }

    /// The names of the plugins that this node is to run: those in the folder, and those that were
    /// deployed everywhere.
    fn names(&self, found: &Found) -> BTreeSet<String> {
        let deployed = self.deployments.all().into_iter();
        let deployed = deployed.filter(|one| one.everywhere && !one.is_withdrawn());
        let names = deployed.map(|deployment| deployment.plugin);
        names.chain(found.plugins.keys().cloned()).collect()
    }

    /// Creates the plugins of a gateway, which run at other nodes. The gateway takes its pages from
    /// `folder`, if there are any.
    pub fn of_gateway(
        folder: &Path,
        defaults: &PluginLimits,
        registry: Arc<Registry>,
        mesh: Arc<Mesh>,
    ) -> Arc<Plugins> {
        let (none, rates) = (Arc::default(), defaults.rates());
        let builds = (Builds::new(None), Deployments::open(None));
        Plugins::new(folder, None, builds, none, registry, Some(mesh), rates)
    }

    fn new(
        folder: &Path,
        loader: Option<Loader>,
        (builds, deployments): (Builds, Deployments),
        directory: Arc<Directory>,
        registry: Arc<Registry>,
        mesh: Option<Arc<Mesh>>,
        default_rates: RateLimits,
    ) -> Arc<Plugins> {
        let plugins = Arc::new(Plugins {
            default_rates,
            folder: folder.to_owned(),
            loader,
            builds,
            registry,
            mesh,
            plugins: directory,
            looking: Mutex::default(),
            tasks: Mutex::default(),
            retiring: TaskTracker::new(),
            rollbacks: Requests::default(),
            canary_requests: Requests::default(),
            deployments: Arc::new(deployments),
            preparations: Preparations::default(),
            prepared: Requests::default(),
            reloads: Requests::default(),
            deployments_taken: Notify::new(),
            getting: Mutex::default(),
            retrying: Mutex::default(),
        });
        if let Some(mesh) = &plugins.mesh {
            plugins.join_deployments(mesh);
            let mut tasks = plugins.tasks.lock();
            if let Some(events) = mesh.peer_events() {
                let most = plugins.registry.limits().peer_events;
                tasks.spawn(handle_peer_events(plugins.plugins.clone(), events, most));
            }
            let (plugins, retiring) = (plugins.plugins.clone(), plugins.retiring.clone());
            tasks.spawn(drain_orphans(plugins, retiring, mesh.clone()));
        }
        plugins
    }

    /// Returns the folder that the plugins come from.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Closes all clients of all plugins with the code 1012, and ends the plugins.
    pub async fn drain(&self) {
        // Ended, and not only told to: a load that is nearly done must not take over now.
        let looking = self.looking.lock().take();
        if let Some(looking) = looking {
            looking.abort();
            let _ = looking.await;
        }
        for plugin in self.all() {
            self.spawn_drain(plugin, DrainReason::Restart);
        }
        self.rollbacks.end().await;
        self.canary_requests.end().await;
        self.prepared.end().await;
        self.reloads.end().await;
        self.retiring.close();
        self.retiring.wait().await;
    }

    fn spawn_drain(&self, plugin: Arc<Plugin>, reason: DrainReason) {
        let generation = plugin.stop_accepting(reason);
        self.retiring
            .spawn(async move { plugin.drain(generation, reason).await });
    }

    /// Runs all loads to their ends.
    async fn load_all(self: &Arc<Self>, loads: &mut Loads, watch: &mut FolderWatch) {
        self.begin(loads, watch).await;
        while !loads.is_empty() {
            let ended = loads.next().await;
            self.load_ended(ended, watch);
            self.begin(loads, watch).await;
        }
    }

    async fn keep_looking(self: Arc<Self>, mut watch: FolderWatch, mut loads: Loads) {
        let mut is_readable = true;
        let (mut trimmed, mut judged) = (Instant::now(), Instant::now());
        loop {
            if judged.elapsed() > JUDGE {
                judged = Instant::now();
                self.judge_canaries().await;
            }
            self.begin(&mut loads, &mut watch).await;
            tokio::select! {
                () = tokio::time::sleep(watch.pause(Instant::now())) => {}
                ended = loads.next() => {
                    self.load_ended(ended, &mut watch);
                    continue;
                }
                () = self.build_failed() => {
                    self.take_builds_back(&mut loads).await;
                    continue;
                }
                request = self.rollbacks.next() => {
                    self.begin_rollback(request, &mut loads).await;
                    continue;
                }
                request = self.canary_requests.next() => {
                    self.change_canary(request).await;
                    continue;
                }
                (preparation, files) = self.prepared.next() => {
                    self.begin_prepared(preparation, files, &mut loads);
                    continue;
                }
                name = self.reloads.next() => {
                    self.reload(name, &mut loads, &watch).await;
                    continue;
                }
            }
            let looked = self.look().await;
            self.log_folder(&watch, &looked, is_readable);
            is_readable = looked.is_ok();
            // One at a time: what was seen of the others may be old.
            let change = looked.ok().and_then(|f| watch.change(f, Instant::now()));
            match change {
                // A build that fails must not keep a better one from being deployed.
                Some(FolderChange::Settled(name))
                    if watch.is_retry(&name) && self.preparations.is_under_way(&name) =>
                {
                    watch.retry_later(&name, Instant::now());
                }
                Some(FolderChange::Settled(name)) => {
                    if self.deployments.get(&name).is_some() {
                        let file = self.component_path(&name);
                        tracing::warn!(
                            plugin = name,
                            "{} or its manifest has changed and is not loaded, since another build of \
                             the plugin is deployed: `jackfield undeploy {name}` lets the folder count \
                             again",
                            file.display()
                        );
                    }
                    loads.enqueue(name);
                }
                Some(FolderChange::Removed(name)) => self.reload(name, &mut loads, &watch).await,
                Some(FolderChange::Displaced(name)) => {
                    let file = self.component_path(&name);
                    tracing::error!(
                        plugin = name,
                        "{} is missing from a folder that is another one than before: what runs \
                         goes on. To remove the plugin, delete its file from a folder that has it",
                        file.display()
                    );
                }
                None => {}
            }
            if trimmed.elapsed() > TRIM {
                trimmed = Instant::now();
                for plugin in self.all() {
                    plugin.trim().await;
                }
            }
        }
    }

    /// Logs what has become of the folder itself, once for each change.
    fn log_folder(&self, watch: &FolderWatch, looked: &std::io::Result<Found>, was_readable: bool) {
        let folder = self.folder.display();
        match looked {
            // An unmounted folder is no order to close everybody.
            Err(error) if was_readable => tracing::error!(
                %folder, %error, "the plugins folder cannot be read: what runs goes on"
            ),
            Err(_) => {}
            Ok(found) if watch.is_other_folder(found) => tracing::warn!(
                %folder, "the plugins folder is another one than before: unmounted, moved, or made anew"
            ),
            Ok(_) if !was_readable => {
                tracing::info!(%folder, "the plugins folder can be read again");
            }
            Ok(_) => {}
        }
    }

    async fn look(&self) -> std::io::Result<Found> {
        let folder = self.folder.clone();
        let mut looking = pin!(on_blocking_thread(move || look(&folder)));
        let slow = tokio::time::timeout(SLOW_LOOK, &mut looking);
        if let Ok(found) = slow.await {
            return found;
        }
        let folder = self.folder.display();
        tracing::error!(
            %folder,
            "the plugins folder does not answer: what runs goes on, and nothing is reloaded until \
             it does"
        );
        looking.await
    }

    /// Begins the loads that can begin: reads and checks the plugins' files, one after the other.
    async fn begin(self: &Arc<Self>, loads: &mut Loads, watch: &mut FolderWatch) {
        while let Some(name) = loads.first().map(str::to_owned) {
            let started = Instant::now();
            self.end_withdrawn_canary(&name, false);
            // Until it is read, the plugin waits: this task may end here.
            let read = self.read(&name).await;
            loads.cancel(&name);
            let prepared = read.and_then(|wanted| self.prepare(&name, wanted, loads, started));
            match prepared {
                Ok(Some(load)) => loads.start(name, load),
                Ok(None) => self.loaded(&name, Ok(None), watch),
                // It may be about to give up the path.
                Err(LoadError::RouteTaken { owner, .. }) if loads.is_under_way(&owner) => {
                    loads.enqueue_after(name, owner);
                }
                Err(error) => {
                    let is_taken_back = matches!(error, LoadError::TakenBack);
                    if matches!(error, LoadError::NotHere) {
                        self.end_withdrawn_canary(&name, true);
                    }
                    self.loaded(&name, Err(error), watch);
                    if is_taken_back {
                        self.load_last_good(&name, loads).await;
                    }
                }
            }
        }
    }

    /// Logs and remembers the end of a load.
    fn load_ended(self: &Arc<Self>, ended: EndedLoad, watch: &mut FolderWatch) {
        let plugin = &*ended.plugin;
        let error = match (ended.source, ended.result) {
            (BuildSource::Folder | BuildSource::Deployed, result) | (_, result @ Ok(_)) => {
                return self.loaded(plugin, result, watch);
            }
            // What is to run is another build, and it is not this one that is tried again.
            (_, Err(error)) => error,
        };
        let runs = self.get(plugin).is_some_and(|plugin| plugin.runs());
        if ended.source == BuildSource::PutBack && !runs {
            self.try_another(plugin, &ended.digest);
        }
        match (ended.source, error) {
            (BuildSource::Prepared, error @ (LoadError::NotDeployed | LoadError::Overtaken)) => {
                tracing::warn!(plugin, "a build that was ready is dropped: {error}");
            }
            (source, error) => {
                self.registry.counters().loads_failed.add_one();
                let what = match source {
                    BuildSource::Prepared => "is to be deployed",
                    _ => "was kept",
                };
                tracing::error!(plugin, "a build that {what} is not loaded: {error}");
            }
        }
    }

    /// Logs and remembers the end of a load of what is in the folder, or that a build has taken over.
    fn loaded(self: &Arc<Self>, name: &str, result: LoadResult, watch: &mut FolderWatch) {
        if let Some(loader) = &self.loader {
            // A build that fails may have waited for this one.
            loader.build_failed.notify_one();
        }
        let file = match self.deployments.get(name) {
            Some(_) => "the deployed build".to_owned(),
            None => self.component_path(name).display().to_string(),
        };
        let running = || self.plugins.read().get(name)?.generation();
        match result {
            Ok(generation) => {
                self.plugin(name).load_ended(None);
                if watch.loaded(name) && generation.is_none() {
                    let running = running();
                    tracing::info!(
                        plugin = name,
                        running,
                        "{file} is again as it was loaded: nothing to do"
                    );
                }
            }
            Err(error @ LoadError::Name(_)) => tracing::error!("{file} is not loaded: {error}"),
            Err(error @ LoadError::NotHere) => {
                let plugin = self.plugin(name);
                if !plugin.runs() {
                    plugin.serve(ServingState::Away);
                }
                plugin.load_ended(Some(&error.to_string()));
                tracing::info!(plugin = name, "{error}");
            }
            Err(error) => {
                self.registry.counters().loads_failed.add_one();
                let running = running();
                let plugin = self.plugin(name);
                if running.is_none() {
                    plugin.serve(ServingState::Away);
                }
                let failure = error.to_string();
                plugin.load_ended(Some(&failure));
                let (may_pass, is_deployed) =
                    (error.may_pass(), self.deployments.get(name).is_some());
                if watch.failed(name, failure, may_pass && !is_deployed, Instant::now()) {
                    tracing::error!(plugin = name, running, "{file} is not loaded: {error}");
                }
                if may_pass && is_deployed {
                    self.retry_later(name);
                }
            }
        }
    }

    pub(super) fn remove(&self, name: &str) {
        let Some(plugin) = self.get(name) else { return };
        plugin.load_ended(None);
        if !plugin.runs() {
            plugin.serve(ServingState::None);
            return;
        }
        tracing::info!(plugin = name, "plugin removed, its clients are drained");
        self.spawn_drain(plugin, DrainReason::Removed);
    }

    pub(super) fn plugin(&self, name: &str) -> Arc<Plugin> {
        let mut plugins = self.plugins.write();
        let mesh = self.mesh.as_ref();
        let new = || {
            let rates = self.default_rates;
            let plugin = Plugin::new(name, &self.registry, mesh, &self.retiring, rates);
            let plugin = Arc::new(plugin);
            let timers = plugin.namespace().timers().clone();
            let firing = Plugin::keep_firing(Arc::downgrade(&plugin), timers);
            let mut tasks = self.tasks.lock();
            // Those of plugins that are gone.
            while tasks.try_join_next().is_some() {}
            tasks.spawn(firing);
            plugin
        };
        plugins.entry(name.to_owned()).or_insert_with(new).clone()
    }
}

pub(super) async fn on_blocking_thread<
    T: Send + 'static,
    E: From<std::io::Error> + Send + 'static,
>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(std::io::Error::other(error).into()),
    }
}
