//! The plugins folder: drop a `NAME.wasm` in, and the plugin `NAME` runs; replace it, and it
//! is reloaded; remove it, and its clients are drained.
//!
//! The folder is looked at every `LOOK`, rather than watched: that works on every file
//! system (network mounts and containers' bind mounts send no events), cannot miss a change,
//! and costs some 30 µs. A file counts once it has settled; only a new digest reloads.

use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parking_lot::RwLock;
use tokio::task::{AbortHandle, JoinSet};

use super::Plugin;
use super::engine::Compiler;
use super::load::{Files, Interfaces, LoadError, Loader, manifest_path};
use crate::counters::Counters;
use crate::id::Incarnation;
use crate::limits::{Limits, PluginLimits, REMOVAL_SETTLE, SETTLE};
use crate::registry::Registry;

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A node's plugins.
pub struct Plugins {
    folder: PathBuf,
    loader: Loader,
    registry: Arc<Registry>,
    plugins: RwLock<BTreeMap<String, Arc<Plugin>>>,
    looking: OnceLock<AbortHandle>,
}

impl Plugins {
    /// Loads what is in the folder. A file that can't be loaded is logged, and waits for its
    /// next change; only a folder that can't be read is an error.
    pub async fn open(
        folder: &Path,
        cache: Option<&Path>,
        defaults: PluginLimits,
        registry: Arc<Registry>,
    ) -> anyhow::Result<Arc<Plugins>> {
        let plugins = Arc::new(Plugins {
            folder: folder.to_owned(),
            loader: Loader::new(Compiler::start(cache)?, defaults)?,
            registry,
            plugins: RwLock::default(),
            looking: OnceLock::new(),
        });
        let found = plugins.look().await.with_context(|| {
            format!(
                "the plugins folder {} cannot be read: create it, or name another one with \
                 --plugins",
                folder.display()
            )
        })?;
        let mut watch = Watch::default();
        for name in found.keys() {
            plugins.load(name).await;
        }
        watch.accept(found);
        let looking = tokio::spawn(plugins.clone().keep_looking(watch));
        plugins.looking.get_or_init(|| looking.abort_handle());
        Ok(plugins)
    }

    /// The plugin of that name.
    pub fn get(&self, name: &str) -> Option<Arc<Plugin>> {
        self.plugins.read().get(name).cloned()
    }

    /// The plugin of the path `/`: `default`, or the only one there is.
    pub fn default_plugin(&self) -> Option<Arc<Plugin>> {
        let plugins = self.plugins.read();
        let mut open = plugins.values().filter(|plugin| plugin.is_open());
        match (plugins.get("default"), open.next(), open.next()) {
            (Some(default), ..) => Some(default.clone()),
            (None, Some(only), None) => Some(only.clone()),
            _ => None,
        }
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Plugin>> {
        self.plugins.read().values().cloned().collect()
    }

    /// Where they come from.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Closes all clients of all plugins with 1012, and ends the plugins.
    pub async fn drain(&self) {
        if let Some(looking) = self.looking.get() {
            looking.abort();
        }
        let timeout = self.registry.limits().drain_timeout;
        let mut drains = JoinSet::new();
        for plugin in self.all() {
            drains.spawn(async move { plugin.drain(1012, "the node restarts", timeout).await });
        }
        drains.join_all().await;
    }

    async fn keep_looking(self: Arc<Self>, mut watch: Watch) {
        let mut is_readable = true;
        loop {
            tokio::time::sleep(LOOK).await;
            let found = match self.look().await {
                Ok(found) => found,
                Err(error) => {
                    // An unmounted folder is no order to close everybody.
                    if std::mem::replace(&mut is_readable, false) {
                        let folder = self.folder.display();
                        tracing::error!(%folder, %error, "the plugins folder cannot be read");
                    }
                    continue;
                }
            };
            is_readable = true;
            for change in watch.changes(found, Instant::now()) {
                match change {
                    Change::Settled(name) => self.load(&name).await,
                    Change::Removed(name) => self.remove(&name),
                }
            }
        }
    }

    async fn look(&self) -> std::io::Result<Found> {
        let folder = self.folder.clone();
        on_blocking_thread(move || look(&folder)).await
    }

    /// Reads, checks and starts a plugin's files, and lets them take over if they are new.
    async fn load(&self, name: &str) {
        let plugin = self.plugin(name);
        let started = Instant::now();
        match self.try_load(&plugin, name).await {
            Ok(None) => {}
            Ok(Some(generation)) => {
                self.registry.counters().generations_loaded.add_one();
                let took = started.elapsed();
                tracing::info!(plugin = name, generation, ?took, "plugin loaded");
            }
            Err(error) => {
                self.registry.counters().loads_failed.add_one();
                let running = plugin.generation();
                let file = self.component_path(name);
                tracing::error!(
                    plugin = name,
                    running,
                    "{} is not loaded: {error}",
                    file.display()
                );
            }
        }
    }

    async fn try_load(&self, plugin: &Plugin, name: &str) -> Result<Option<u64>, LoadError> {
        let path = self.component_path(name);
        let files = on_blocking_thread(move || Files::read(&path)).await?;
        let running = plugin.slot.load_full();
        let is_same = running.is_some_and(|running| running.digest == files.digest());
        if is_same && !plugin.draining.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let number = plugin.loads.load(Ordering::Relaxed) + 1;
        let namespace = plugin.namespace.clone();
        let generation = self
            .loader
            .load(plugin.name.clone(), number, namespace, files)
            .await?;
        plugin.loads.store(number, Ordering::Relaxed);
        plugin.swap(generation);
        Ok(Some(number))
    }

    fn remove(&self, name: &str) {
        let Some(plugin) = self.get(name) else { return };
        tracing::info!(plugin = name, "plugin removed, its clients are drained");
        let timeout = self.registry.limits().drain_timeout;
        tokio::spawn(async move { plugin.drain(1001, "the service has ended", timeout).await });
    }

    fn plugin(&self, name: &str) -> Arc<Plugin> {
        let mut plugins = self.plugins.write();
        let new = || Arc::new(Plugin::new(name, &self.registry));
        plugins.entry(name.to_owned()).or_insert_with(new).clone()
    }

    fn component_path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.wasm"))
    }
}

/// What `jackfield check` found.
#[derive(Debug)]
pub struct Checked {
    /// What the component imports and exports, as far as it could be read.
    pub interfaces: Interfaces,
    /// Why it would not load.
    pub error: Option<LoadError>,
}

/// Loads a component as a node would, without clients.
pub async fn check(
    component: &Path,
    cache: Option<&Path>,
    defaults: PluginLimits,
) -> anyhow::Result<Checked> {
    let loader = Loader::new(Compiler::start(cache)?, defaults)?;
    let counters = Arc::<Counters>::default();
    let registry = Registry::new(Incarnation::draw()?, Limits::default(), counters, 1);
    let name = component
        .file_stem()
        .map_or("plugin".into(), |stem| stem.to_string_lossy());
    let plugin = Plugin::new(&name, &registry);
    let files = match Files::read(component) {
        Ok(files) => files,
        Err(error) => {
            return Ok(Checked {
                interfaces: Interfaces::default(),
                error: Some(error),
            });
        }
    };
    let interfaces = loader
        .interfaces(files.component.clone())
        .await
        .unwrap_or_default();
    let loaded = loader
        .load(plugin.name.clone(), 1, plugin.namespace.clone(), files)
        .await;
    Ok(Checked {
        interfaces,
        error: loaded.err(),
    })
}

async fn on_blocking_thread<T: Send + 'static, E: From<std::io::Error> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(std::io::Error::other(error).into()),
    }
}

/// What a look at the folder saw of each plugin.
type Found = BTreeMap<String, Stamp>;

/// What changes when a plugin's files do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    component: FileStamp,
    manifest: Option<FileStamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileStamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

fn look(folder: &Path) -> std::io::Result<Found> {
    let mut found = Found::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = plugin_name(&path) else {
            continue;
        };
        if let Some(component) = stamp(&path)? {
            found.insert(
                name.to_owned(),
                Stamp {
                    component,
                    manifest: stamp(&manifest_path(&path))?,
                },
            );
        }
    }
    Ok(found)
}

/// A component's name, which has to fit a path of a URL. Others are not looked at; hidden
/// files are how many tools write.
fn plugin_name(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?.strip_suffix(".wasm")?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (!name.is_empty() && name.bytes().all(fits)).then_some(name)
}

fn stamp(path: &Path) -> std::io::Result<Option<FileStamp>> {
    match std::fs::metadata(path) {
        Ok(file) if file.is_file() => Ok(Some(FileStamp {
            inode: file.ino(),
            bytes: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        })),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What has been seen of the folder, and what was done about it.
#[derive(Debug, Default)]
struct Watch(BTreeMap<String, Watched>);

#[derive(Debug)]
struct Watched {
    seen: Option<Stamp>,
    since: Instant,
    acted_on: Option<Stamp>,
}

#[derive(Debug, PartialEq, Eq)]
enum Change {
    /// The plugin's files are new, and have been still for long enough.
    Settled(String),
    /// The component has been missing for long enough.
    Removed(String),
}

impl Watch {
    /// Takes what was found as acted on.
    fn accept(&mut self, found: Found) {
        let since = Instant::now();
        self.0 = found
            .into_iter()
            .map(|(name, stamp)| {
                let stamp = Some(stamp);
                (
                    name,
                    Watched {
                        seen: stamp,
                        since,
                        acted_on: stamp,
                    },
                )
            })
            .collect();
    }

    /// Takes a look at the folder, and says what is to be done.
    fn changes(&mut self, mut found: Found, now: Instant) -> Vec<Change> {
        let known: HashSet<String> = self.0.keys().cloned().collect();
        for name in found.keys().filter(|name| !known.contains(*name)) {
            self.0.insert(
                name.clone(),
                Watched {
                    seen: None,
                    since: now,
                    acted_on: None,
                },
            );
        }
        let mut changes = Vec::new();
        for (name, watched) in &mut self.0 {
            let stamp = found.remove(name);
            if stamp != watched.seen {
                watched.seen = stamp;
                watched.since = now;
            }
            let settle = if stamp.is_some() {
                SETTLE
            } else {
                REMOVAL_SETTLE
            };
            if stamp == watched.acted_on || now - watched.since < settle {
                continue;
            }
            watched.acted_on = stamp;
            changes.push(match stamp {
                Some(_) => Change::Settled(name.clone()),
                None => Change::Removed(name.clone()),
            });
        }
        self.0
            .retain(|_, watched| watched.seen.is_some() || watched.acted_on.is_some());
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp_of(bytes: u64) -> Stamp {
        let file = FileStamp {
            inode: 1,
            bytes,
            modified: (0, 0),
            changed: (0, 0),
        };
        Stamp {
            component: file,
            manifest: None,
        }
    }

    /// What a watch that has acted on `before` says to these looks, 100 ms apart.
    fn said(before: Option<u64>, looks: &[Option<u64>]) -> Vec<(usize, Change)> {
        let found = |bytes: Option<u64>| -> Found {
            bytes
                .map(|bytes| ("chat".to_owned(), stamp_of(bytes)))
                .into_iter()
                .collect()
        };
        let mut watch = Watch::default();
        watch.accept(found(before));
        let start = Instant::now();
        let mut said = Vec::new();
        for (number, bytes) in looks.iter().enumerate() {
            let now = start + LOOK * u32::try_from(number).expect("few looks");
            said.extend(
                watch
                    .changes(found(*bytes), now)
                    .into_iter()
                    .map(|c| (number, c)),
            );
        }
        said
    }

    #[test]
    fn a_file_counts_once_it_is_still() {
        let settled = |at| vec![(at, Change::Settled("chat".to_owned()))];
        assert_eq!(
            said(None, &[None, Some(9), Some(9), Some(9), Some(9)]),
            settled(3)
        );
        assert_eq!(
            said(
                Some(1),
                &[Some(1), Some(2), Some(3), Some(4), Some(4), Some(4)]
            ),
            settled(5)
        );
        assert_eq!(said(Some(1), &[Some(1); 9]), vec![]);
    }

    #[test]
    fn a_file_that_is_missing_for_a_moment_is_not_removed() {
        let mut looks = vec![
            Some(1),
            None,
            None,
            None,
            Some(1),
            Some(1),
            Some(1),
            Some(1),
        ];
        assert_eq!(said(Some(1), &looks), vec![]);
        looks = vec![None; 11];
        assert_eq!(
            said(Some(1), &looks),
            vec![(10, Change::Removed("chat".to_owned()))]
        );
    }

    #[test]
    fn only_names_that_fit_a_path_are_plugins() {
        assert_eq!(plugin_name(Path::new("/p/chat-2_b.wasm")), Some("chat-2_b"));
        for path in [
            "/p/.chat.wasm",
            "/p/a b.wasm",
            "/p/.wasm",
            "/p/chat.toml",
            "/p/chat.wasm.tmp",
        ] {
            assert_eq!(plugin_name(Path::new(path)), None, "{path}");
        }
    }
}
