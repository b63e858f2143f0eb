//! The commands for a node that runs, such as `jackfield status`: they ask its API over HTTP.
//!
//! A command prints a table for people, or with `--json` what the API has answered. It ends with 1 if
//! the API refuses.

mod api_client;
mod call;
mod canary;
mod clients;
mod deploy;
mod event_stream;
mod flags;
mod logs;
mod names;
mod nodes;
mod oci;
mod output;
mod plugins;
mod record;
mod sends;
mod state;
mod tail;
mod trace;

use clap::Subcommand;

use self::call::CallFlags;
use self::canary::CanaryFlags;
use self::clients::{ClientFlags, ClientsFlags, KickFlags};
use self::deploy::{DeployFlags, UndeployFlags};
use self::flags::ApiFlags;
use self::logs::LogsFlags;
use self::names::NamesFlags;
use self::plugins::PluginsFlags;
use self::record::RecordFlags;
use self::sends::SendFlags;
use self::state::StateFlags;
use self::tail::TailFlags;
use self::trace::TraceFlags;

pub use self::record::{RECORDING_VERSION, RecordingHeader};

/// A command for a node that runs.
#[derive(Subcommand)]
pub enum RemoteCommand {
    /// Show a node: whether it is ready, its plugins, and the nodes that it knows.
    Status(ApiFlags),
    /// List the nodes of the cluster, as one of them sees them.
    Nodes(ApiFlags),
    /// List the plugins of all nodes, or look after the builds of one.
    Plugins(PluginsFlags),
    /// Run a build of a plugin on all nodes that run the plugin, or on none if one of them cannot.
    /// Without such a node, it is for all nodes that run plugins.
    Deploy(DeployFlags),
    /// Withdraw the deployment of a plugin: each node runs what its plugins folder has.
    Undeploy(UndeployFlags),
    /// List what is deployed.
    Deployments(ApiFlags),
    /// Look after a build that runs beside another one, for a part of the clients.
    Canary(CanaryFlags),
    /// List clients of the whole cluster.
    Clients(ClientsFlags),
    /// Show one client: its uid, groups and info, its address, and what it has sent and got.
    Client(ClientFlags),
    /// Close a client, all clients with a uid, or all clients in a group.
    Kick(KickFlags),
    /// Send a message to clients.
    Send(SendFlags),
    /// Call a plugin, as a backend does, and print its answer.
    Call(CallFlags),
    /// List the groups of a plugin, with the number of their clients.
    Groups(NamesFlags),
    /// List the uids of a plugin, with the number of their clients.
    Uids(NamesFlags),
    /// Print what happens on a node, as it happens.
    Tail(TailFlags),
    /// Print what a node logs, as it is written.
    Logs(LogsFlags),
    /// Print everything that happens to a client, or to the clients of a uid, as it happens.
    Trace(TraceFlags),
    /// Write what clients send, and what is sent to them, into a file for `jackfield replay`.
    Record(RecordFlags),
    /// List the timers of a plugin that a node knows.
    Timers(NamesFlags),
    /// Copy the state of a node's plugins into a file, or back, while the node runs.
    State(StateFlags),
    /// End a node, as SIGTERM does: its clients are closed with 1012, and come to other nodes.
    Drain(ApiFlags),
}

impl RemoteCommand {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// The API cannot be reached, or refuses.
    #[tokio::main(flavor = "current_thread")]
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            RemoteCommand::Status(api) => nodes::status(&api).await,
            RemoteCommand::Nodes(api) => nodes::list(&api).await,
            RemoteCommand::Plugins(flags) => plugins::run(flags).await,
            RemoteCommand::Deploy(flags) => deploy::deploy(flags).await,
            RemoteCommand::Undeploy(flags) => deploy::undeploy(flags).await,
            RemoteCommand::Deployments(api) => deploy::list(&api).await,
            RemoteCommand::Canary(flags) => canary::run(flags).await,
            RemoteCommand::Clients(flags) => clients::list(&flags).await,
            RemoteCommand::Client(flags) => clients::show(&flags).await,
            RemoteCommand::Kick(flags) => clients::kick(&flags).await,
            RemoteCommand::Send(flags) => sends::send(&flags).await,
            RemoteCommand::Call(flags) => call::call(&flags).await,
            RemoteCommand::Groups(flags) => names::groups(&flags).await,
            RemoteCommand::Uids(flags) => names::uids(&flags).await,
            RemoteCommand::Tail(flags) => tail::tail(&flags).await,
            RemoteCommand::Logs(flags) => logs::logs(&flags).await,
            RemoteCommand::Trace(flags) => trace::trace(&flags).await,
            RemoteCommand::Record(flags) => record::record(&flags).await,
            RemoteCommand::Timers(flags) => names::timers(&flags).await,
            RemoteCommand::State(flags) => state::run(flags).await,
            RemoteCommand::Drain(api) => nodes::drain(&api).await,
        }
    }
}
