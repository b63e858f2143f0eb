//! `jackfield dev`: a node of its own for one plugin, which is built and replaced while the sockets stay
//! open.
//!
//! The node has its state in memory and listens on this machine only. A build that fails, or that does
//! not load, changes nothing: the one before goes on.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio_util::task::AbortOnDropHandle;

use super::build::make;
use super::dev_screen::DevScreen;
use super::plugins_folder::PluginsFolder;
use super::project::{Project, ProjectFlags};
use super::sources;
use super::watched_tree::WatchedTree;
use super::wit;
use crate::config::Config;
use crate::counters::Counters;
use crate::log;
use crate::node::Node;
use crate::stdout::print;

/// The file with the addresses of the node, within the project's folder for such things.
const ADDRESSES: &str = "dev.json";

/// The time for clients to be closed at the end.
const DRAIN: Duration = Duration::from_secs(1);

/// The most clients of the node.
const CLIENTS: usize = 1_000;

/// How often a build may change what it is built from before it is left alone.
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
    /// What the node logs beside the lines of the plugin: error, warn, info, debug, trace, or directives.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: String,
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
    let folder = PluginsFolder::create(&project, "plugins")?;
    log::start_for_readers(&flags.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(run(flags, project, &folder));
    runtime.shutdown_background();
    result
}

async fn run(flags: &DevFlags, project: Project, folder: &PluginsFolder) -> anyhow::Result<()> {
    let (screen, printing) = DevScreen::start(&project.name);
    let _printing = AbortOnDropHandle::new(printing);
    let node = Node::start(&config(flags, folder)?, Arc::<Counters>::default()).await?;
    let addresses = project.scratch().join(ADDRESSES);
    let is_written = announce(&node, &project, &addresses);
    let _remove = scopeguard::guard(addresses, |path| drop(std::fs::remove_file(path)));
    is_written?;
    let building = pin!(keep_building(project, folder, &screen));
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let ended = tokio::select! {
        ended = building => ended,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Into::into),
        _ = terminate.recv() => Ok(()),
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
        ..Config::default()
    };
    config.plugin.probation = Duration::ZERO;
    config.limits.clients = CLIENTS;
    config.limits.drain_timeout = DRAIN;
    config.limits.close_timeout = DRAIN;
    Ok(config)
}

/// Prints where the plugin is, and writes it down for the other commands.
fn announce(node: &Node, project: &Project, path: &std::path::Path) -> anyhow::Result<()> {
    let clients = node.addresses().first().context("an address for clients")?;
    let api = node.api_address().context("an address of the API")?;
    let name = &project.name;
    print(&format!("{name}  ws://{clients}/{name}\n"))?;
    if project.folder.join("page").is_dir() {
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
    mut project: Project,
    folder: &PluginsFolder,
    screen: &DevScreen,
) -> anyhow::Result<()> {
    let mut tree = WatchedTree::new(project.watched());
    let mut repeats = 0;
    loop {
        let built = tokio::select! {
            built = build(&project, folder) => Some(built),
            changed = tree.changed() => {
                screen.change(&changed);
                None
            }
        };
        match built {
            // What was built is out of date already.
            None => repeats += 1,
            Some(built) => {
                repeats = 0;
                if let Err(error) = built {
                    screen.failed(&error);
                }
                let changed = tree.changed().await;
                screen.change(&changed);
            }
        }
        if repeats > REPEATS {
            print(
                "files change all the time while the plugin is built: if the build itself writes them, \
                 leave them out of build.watch\n",
            )?;
            repeats = 0;
            let changed = tree.changed().await;
            screen.change(&changed);
        }
        match Project::open(project.folder.clone()) {
            Ok(changed) => {
                project = changed;
                tree.set_roots(project.watched());
            }
            Err(error) => screen.failed(&error),
        }
    }
}

async fn build(project: &Project, folder: &PluginsFolder) -> anyhow::Result<()> {
    wit::refresh(project)?;
    make(project).await?;
    folder.put(project)
}
