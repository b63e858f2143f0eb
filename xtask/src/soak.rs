//! `cargo xtask soak`: everything at once on several nodes, for as long as one wants. The tests
//! have half a minute of it; `docs/mesh.md` says what a long run has shown.

use anyhow::Result;

use crate::process::{self, cargo};
use crate::workspace::Workspace;
use crate::{host, plugins};

#[derive(clap::Args)]
#[command(
    after_help = "The seed is printed, and fixes what is chosen, not what coincides with what. A message \
    that is lost, that comes twice, out of order or to somebody else, and memory that grows, end the run with \
    an error. Otherwise the report is a table."
)]
pub(crate) struct Options {
    /// How long the load goes on, also a fraction; there is at least one of each fault
    #[arg(long, default_value = "30")]
    minutes: String,
    /// What all random choices follow from; a random one if none is given
    #[arg(long)]
    seed: Option<String>,
    /// How many clients there are
    #[arg(long, default_value = "5000")]
    clients: String,
    /// How many nodes
    #[arg(long, default_value = "3")]
    nodes: String,
    /// Operations per second, of all clients together
    #[arg(long, default_value = "400")]
    rate: String,
    /// Take the nodes as the tests have them, which are built sooner and are less optimised
    #[arg(long)]
    debug: bool,
}

pub(crate) fn soak(workspace: &Workspace, options: &Options) -> Result<()> {
    plugins::build(workspace, &["console".to_owned()])?;
    // The load as the tests have it, with what is compiled for them already.
    process::run(
        cargo()
            .args(["build", "--workspace", "--bin", "jackfield-soak"])
            .args(["--bin", "jackfield"])
            .current_dir(&workspace.root),
    )?;
    let node = match options.debug {
        true => host::debug_program(workspace),
        false => host::build_release(workspace)?,
    };
    let mut soak = std::process::Command::new(workspace.target.join("debug/jackfield-soak"));
    soak.args(["--minutes", &options.minutes])
        .args(["--clients", &options.clients])
        .args(["--nodes", &options.nodes])
        .args(["--rate", &options.rate]);
    if let Some(seed) = &options.seed {
        soak.args(["--seed", seed]);
    }
    process::run(
        soak.current_dir(&workspace.root)
            .env("CARGO_TARGET_DIR", &workspace.target)
            .env("JACKFIELD_BIN", node)
            .env("JACKFIELD_PLUGINS", workspace.plugin_folder()),
    )
}
