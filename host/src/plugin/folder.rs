//! The plugins folder. When a file `NAME.wasm` is added, the plugin `NAME` runs; when the file is
//! replaced, the plugin is reloaded; when the file is removed, the plugin's clients are drained.
//!
//! The node looks at the folder again and again, and does not wait for file system events. This
//! works on every file system (network mounts and containers' bind mounts send no events), cannot
//! miss a change, and costs about 30 µs each time. A file counts once it has settled, and only a
//! new digest causes a reload.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parking_lot::Mutex;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::task::TaskTracker;

use super::builds::Builds;
use super::directory::Directory;
use super::drain::drain_orphans;
use super::drain_reason::DrainReason;
use super::folders::PluginFolders;
use super::handle::Plugin;
use super::load::{LoadError, Loader, PluginFiles};
use super::loads::{EndedLoad, Load, LoadResult, Loads};
use super::look::{Found, look};
use super::rollback_request::RollbackRequests;
use super::slot::Slot;
use super::watch::{FolderChange, FolderWatch};
use super::worker::handle_peer_events;
use crate::guest::{CompilerOptions, Components, Services};
use crate::limits::PluginLimits;
use crate::manifest::{fits_a_path, name_in};
use crate::mesh::Mesh;
use crate::rate_limiter::RateLimits;
use crate::registry::{Registry, ServingState};

/// The time between two rounds that free the instances that were not needed.
const TRIM: Duration = Duration::from_secs(10);

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
    mesh: Option<Arc<Mesh>>,
    plugins: Arc<Directory>,
    /// The rates of plugins that run at other nodes.
    default_rates: RateLimits,
    looking: Mutex<Option<JoinHandle<()>>>,
    /// The tasks that fire timers, handle peers' events, and drain plugins that no node has any
    /// more.
    pub(super) tasks: Mutex<JoinSet<()>>,
    /// The generations that are being retired, and the plugins that drain.
    retiring: TaskTracker,
    pub(super) rollbacks: RollbackRequests,
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
        let builds = Builds::new(builds);
        let plugins = Plugins::new(
            folder,
            Some(loader),
            builds,
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
        for name in found.plugins.keys() {
            loads.enqueue(name.clone());
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
        let found = self.look().await?.plugins.into_keys();
        let runs = |name: &String| self.get(name).is_some_and(|plugin| plugin.runs());
        Ok(found.filter(|name| !runs(name)).collect())
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
        let builds = Builds::new(None);
        Plugins::new(folder, None, builds, none, registry, Some(mesh), rates)
    }

    fn new(
        folder: &Path,
        loader: Option<Loader>,
        builds: Builds,
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
            rollbacks: RollbackRequests::default(),
        });
        if let Some(mesh) = &plugins.mesh {
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

    /// Returns the plugin of that name, if this node knows it.
    pub fn get(&self, name: &str) -> Option<Arc<Plugin>> {
        let find = || self.plugins.read().get(name).cloned();
        find().or_else(|| {
            self.adopt();
            find()
        })
    }

    /// Adds the plugins that other nodes have to those that this node knows.
    fn adopt(&self) {
        let elsewhere = self.mesh.iter().flat_map(|mesh| mesh.plugins_elsewhere());
        for name in elsewhere {
            let is_here = self.plugins.read().contains_key(&*name);
            // A peer is trusted, and yet: of another version, it may have other names.
            if !is_here && fits_a_path(&name) {
                self.plugin(&name);
            }
        }
    }

    /// Returns the plugin whose clients come in at this path: the plugin of that name, a plugin
    /// with that route, or the plugin with the longest matching prefix.
    pub fn at(&self, path: &str) -> Option<Arc<Plugin>> {
        let exact = match path {
            "/" => path,
            _ => path.strip_suffix('/').unwrap_or(path),
        };
        let named = || {
            let plugin = self.plugins.read().get(name_in(exact)?).cloned();
            plugin.filter(|plugin| plugin.is_known())
        };
        let runs = |plugin: &Arc<Plugin>| plugin.runs() || plugin.is_open();
        if let Some(plugin) = named().filter(runs) {
            return Some(plugin);
        }
        self.adopt();
        let named = named();
        if named.as_ref().is_some_and(runs) {
            return named;
        }
        let plugins = self.all();
        let routed = plugins.iter().find(|plugin| plugin.has_route(exact));
        let prefixed = || {
            let longest = |plugin: &&Arc<Plugin>| plugin.longest_prefix(path);
            plugins
                .iter()
                .max_by_key(longest)
                .filter(|plugin| longest(plugin).is_some())
        };
        // A name that does not run (its client gets 503) takes no path from one that does.
        routed
            .cloned()
            .or(named)
            .or_else(|| self.default_plugin().filter(|_| path == "/"))
            .or_else(|| prefixed().cloned())
    }

    /// Returns the plugin of the path `/`: the plugin `default`, or the only open one.
    fn default_plugin(&self) -> Option<Arc<Plugin>> {
        let plugins = self.plugins.read();
        let mut open = plugins.values().filter(|plugin| plugin.is_open());
        match (plugins.get("default"), open.next(), open.next()) {
            (Some(default), ..) => Some(default.clone()),
            (None, Some(only), None) => Some(only.clone()),
            _ => None,
        }
    }

    /// Returns whether there may be plugins that this node has not heard of yet. This is so for a
    /// gateway that has just started, since a gateway runs no plugins itself.
    pub fn may_be_unknown(&self) -> bool {
        let mesh = self.mesh.as_ref().filter(|_| self.loader.is_none());
        mesh.is_some_and(|mesh| !mesh.is_settled())
    }

    /// Returns all plugins that this node knows, in the order of their names.
    pub fn all(&self) -> Vec<Arc<Plugin>> {
        self.plugins.read().values().cloned().collect()
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
        let mut trimmed = Instant::now();
        loop {
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
            }
            let looked = self.look().await;
            self.log_folder(&watch, &looked, is_readable);
            is_readable = looked.is_ok();
            // One at a time: what was seen of the others may be old.
            let change = looked.ok().and_then(|f| watch.change(f, Instant::now()));
            match change {
                Some(FolderChange::Settled(name)) => loads.enqueue(name),
                Some(FolderChange::Removed(name)) => {
                    loads.cancel(&name);
                    self.remove(&name);
                }
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
            // Until it is read, the plugin waits: this task may end here.
            let read = self.read(&name).await;
            loads.cancel(&name);
            let prepared = read.and_then(|files| self.prepare(&name, files, loads, started));
            match prepared {
                Ok(Some(load)) => loads.start(name, load),
                Ok(None) => self.loaded(&name, Ok(None), watch),
                // It may be about to give up the path.
                Err(LoadError::RouteTaken { owner, .. }) if loads.is_under_way(&owner) => {
                    loads.enqueue_after(name, owner);
                }
                Err(error) => {
                    let is_taken_back = matches!(error, LoadError::TakenBack);
                    self.loaded(&name, Err(error), watch);
                    if is_taken_back {
                        self.load_last_good(&name, loads).await;
                    }
                }
            }
        }
    }

    async fn read(&self, name: &str) -> Result<PluginFiles, LoadError> {
        if !fits_a_path(name) {
            return Err(LoadError::Name(name.to_owned()));
        }
        let path = self.component_path(name);
        let defaults = self.loader.as_ref().map(|loader| loader.defaults.clone());
        on_blocking_thread(move || PluginFiles::read(&path, &defaults.unwrap_or_default())).await
    }

    /// Checks a plugin's files beside what runs and what is loaded. Nothing is returned if they are
    /// those that run.
    fn prepare(
        self: &Arc<Self>,
        name: &str,
        files: PluginFiles,
        loads: &Loads,
        started: Instant,
    ) -> Result<Option<Load>, LoadError> {
        let plugin = self.plugin(name);
        let running = plugin.running();
        let is_same = running.is_some_and(|running| running.digest == files.digest);
        if is_same && !matches!(**plugin.slot(), Slot::Draining(_)) {
            return Ok(None);
        }
        if self.builds.is_refused(name, &files.digest) {
            return Err(LoadError::TakenBack);
        }
        let load = self.checked_load(plugin, files, loads, started)?;
        Ok(Some(load))
    }

    /// Logs and remembers the end of a load.
    fn load_ended(&self, ended: EndedLoad, watch: &mut FolderWatch) {
        match &ended.result {
            // What the folder has is another build, and it is not this one that is tried again.
            Err(error) if !ended.is_of_folder => {
                self.registry.counters().loads_failed.add_one();
                let plugin = &*ended.plugin;
                tracing::error!(plugin, "a build that was kept is not loaded: {error}");
            }
            _ => self.loaded(&ended.plugin, ended.result, watch),
        }
    }

    /// Logs and remembers the end of a load of what is in the folder, or that a build has taken over.
    fn loaded(&self, name: &str, result: LoadResult, watch: &mut FolderWatch) {
        if let Some(loader) = &self.loader {
            // A build that fails may have waited for this one.
            loader.build_failed.notify_one();
        }
        let file = self.component_path(name);
        let file = file.display();
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
            Err(error) => {
                self.registry.counters().loads_failed.add_one();
                let running = running();
                let plugin = self.plugin(name);
                if running.is_none() {
                    plugin.serve(ServingState::Away);
                }
                let failure = error.to_string();
                plugin.load_ended(Some(&failure));
                if watch.failed(name, failure, error.may_pass(), Instant::now()) {
                    tracing::error!(plugin = name, running, "{file} is not loaded: {error}");
                }
            }
        }
    }

    fn remove(&self, name: &str) {
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

    pub(super) fn component_path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.wasm"))
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
