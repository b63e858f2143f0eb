//! `jackfield dev`: a node of its own for one plugin, which is built and replaced while the sockets stay
//! open.
//!
//! The node has its state in memory and listens on this machine only. A build that fails, or that does
//! not load, changes nothing: the one before goes on.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;

use super::build::{ProcessGroup, cache, make};
use super::dev_screen::{DevScreen, say};
use super::plugins_folder::PluginsFolder;
use super::project::{PROJECT_FILE, Project, ProjectFlags};
use super::sources;
use super::watched_tree::WatchedTree;
use super::wit;
use crate::config::Config;
use crate::counters::Counters;
use crate::guest::LOG_TARGET;
use crate::log;
use crate::node::Node;
use crate::stdout::print;

/// The file with the addresses of the node, within the project's folder for such things.
const ADDRESSES: &str = "dev.json";

/// The time for clients to be closed at the end.
const DRAIN: Duration = Duration::from_secs(1);

/// The most clients of the node.
const CLIENTS: usize = 1_000;

/// After how many builds that were out of date at their end one is built to its end.
const REPEATS: usize = 3;

/// How the plugin runs while it is written.
#[derive(Args)]
pub struct DevFlags {
    #[command(flatten)]
    project: ProjectFlags,
    /// Where clients connect; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: String,
    /// Where the API of the node is; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    api: String,
    /// What of the node is shown beside what concerns the plugin: error, warn, info, debug, trace, or
    /// directives. Without it, its warnings are.
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
}

/// The addresses of a node that runs a project.
#[derive(Deserialize, Serialize)]
pub(super) struct DevAddresses {
    pub(super) clients: String,
    pub(super) api: String,
}

impl DevAddresses {
    /// The addresses of the node that runs a project now.
    ///
    /// # Errors
    ///
    /// No node runs it.
    pub(super) fn of(project: &Project) -> anyhow::Result<DevAddresses> {
        let path = project.scratch().join(ADDRESSES);
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!(
                "no `jackfield dev` runs in {}: start it first",
                project.folder.display()
            )
        })?;
        serde_json::from_str(&text).with_context(|| format!("{}", path.display()))
    }
}

/// Runs until it is interrupted.
pub(super) fn dev(flags: &DevFlags) -> anyhow::Result<()> {
    let project = Project::find(&flags.project.project)?;
    log::start_for_readers(&directives(flags.log.as_deref()))?;
    let _lock = lock(&project)?;
    let folder = PluginsFolder::create(&project, "plugins")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(run(flags, project, &folder));
    runtime.shutdown_background();
    result
}

/// What is logged: the warnings of the node, and all that is said of the plugin.
fn directives(log: Option<&str>) -> String {
    let log = log.unwrap_or("warn");
    format!("{log},jackfield::plugin=info,{LOG_TARGET}=trace")
}

/// Makes sure that no other `jackfield dev` runs this project, for as long as the file is open.
fn lock(project: &Project) -> anyhow::Result<File> {
    let path = project.scratch().join("lock");
    sources::write(&path, b"")?;
    let file = File::open(&path).with_context(|| format!("{}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "another `jackfield dev` runs in {}: end it first",
            project.folder.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("{}", path.display()))
        }
    }
}

async fn run(flags: &DevFlags, project: Project, folder: &PluginsFolder) -> anyhow::Result<()> {
    let (screen, printing) = DevScreen::start(&project.name, flags.log.is_some());
    let _printing = AbortOnDropHandle::new(printing);
    let node = Node::start(&config(flags, folder)?, Arc::<Counters>::default()).await?;
    let addresses = project.scratch().join(ADDRESSES);
    let is_written = announce(&node, &project, &addresses);
    let _remove = scopeguard::guard(addresses, |path| drop(std::fs::remove_file(path)));
    is_written?;
    let building = pin!(keep_building(project.folder, folder, &screen));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let ended = tokio::select! {
        ended = building => ended,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Into::into),
        _ = terminate.recv() => Ok(()),
        _ = hangup.recv() => Ok(()),
    };
    let _ = tokio::time::timeout(DRAIN * 2, node.drain()).await;
    ended
}

fn config(flags: &DevFlags, folder: &PluginsFolder) -> anyhow::Result<Config> {
    let listen = flags.listen.parse();
    let mut config = Config {
        listen: vec![listen.map_err(|why| anyhow::anyhow!("--listen: {why}"))?],
        api: flags.api.clone(),
        plugins: folder.path().to_owned(),
        // A build that the author has just written stays, whatever it does.
        builds: PathBuf::new(),
        cache: cache()?,
        ..Config::default()
    };
    config.plugin.probation = Duration::ZERO;
    config.limits.clients = CLIENTS;
    config.limits.drain_timeout = DRAIN;
    config.limits.close_timeout = DRAIN;
    Ok(config)
}

/// Prints where the plugin is, and writes it down for the other commands.
fn announce(node: &Node, project: &Project, path: &Path) -> anyhow::Result<()> {
    let clients = node.addresses().first().context("an address for clients")?;
    let api = node.api_address().context("an address of the API")?;
    let name = &project.name;
    print(&format!("{name}  ws://{clients}/{name}\n"))?;
    if project.page().is_some() {
        print(&format!("page  http://{clients}/{name}/\n"))?;
    }
    print(&format!(
        "api   http://{api}/  (for other commands: export JACKFIELD_API_URL=http://{api})\n"
    ))?;
    let addresses = DevAddresses {
        clients: clients.to_string(),
        api: api.to_string(),
    };
    sources::write(path, serde_json::to_string(&addresses)?.as_bytes())
}

/// Builds the project now, and whenever a file has changed.
async fn keep_building(
    folder_of_project: PathBuf,
    folder: &PluginsFolder,
    screen: &DevScreen,
) -> anyhow::Result<()> {
    let mut tree = WatchedTree::new(Vec::new());
    // How many builds in a row had files that changed meanwhile.
    let mut busy = 0;
    loop {
        let built = match prepare(&folder_of_project, &mut tree) {
            Err(error) => Some(Err(error)),
            Ok(project) => tokio::select! {
                built = build(&project, folder) => Some(built),
                // What is built is out of date already. At last it is built all the same.
                changed = tree.changed(), if busy < REPEATS => {
                    screen.change(&changed);
                    None
                }
            },
        };
        busy = match built.is_some() && tree.is_as_before() {
            true => 0,
            false => busy + 1,
        };
        let Some(built) = built else { continue };
        if let Err(error) = built {
            screen.failed(&error);
        }
        if busy > REPEATS {
            say(
                "files change each time the plugin is built, and the last change is not built: save once \
                 more; or if the build itself writes them, leave them out of build.watch",
            );
            prepare(&folder_of_project, &mut tree).ok();
            busy = 0;
        }
        let changed = tree.changed().await;
        screen.change(&changed);
    }
}

/// Reads the project again, with what its manifest grants, and begins to watch its files.
fn prepare(folder: &Path, tree: &mut WatchedTree) -> anyhow::Result<Project> {
    // Also a project that is wrong is watched: it may be mended.
    let wrong = [folder.join(PROJECT_FILE)].to_vec();
    let project = Project::open(folder.to_owned()).inspect_err(|_| tree.set_roots(wrong))?;
    let refreshed = wit::refresh(&project);
    tree.set_roots(project.watched());
    refreshed.map(|()| project)
}

async fn build(project: &Project, folder: &PluginsFolder) -> anyhow::Result<()> {
    make(project, ProcessGroup::Own).await?;
    folder.put(project)
}
