//! What Jackfield costs: the node under load, beside the bare server that is the floor.
//!
//! `cargo xtask bench` builds what this needs and runs it; `docs/benchmarks.md` says what is
//! measured and what came out.

mod api;
mod bare;
mod burst;
mod chart;
mod cluster;
mod compile;
mod compress;
mod connection;
mod crowd;
mod frame;
mod gateway;
mod idle;
mod load;
mod machine;
mod measure;
mod mesh;
mod process;
mod run;
mod save;
mod server;
mod table;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::crowd::Waiting;
use crate::load::{Echo, Load as _};
use crate::run::Amount;
use crate::server::Built;

/// What Jackfield costs, measured beside a bare server.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure, and print tables.
    Run(Run),
    /// Load an echo of any server, and say how much came back: for a look at it with a profiler.
    Load(Load),
    /// The bare server: echo, and a group, with tokio-tungstenite and nothing else.
    Bare {
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
}

#[derive(Args)]
struct Run {
    /// What to measure.
    #[arg(value_enum, default_value_t = What::All)]
    what: What,
    /// How often each server is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..1000))]
    rounds: u16,
    /// How long, each time.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..600))]
    seconds: u64,
    /// Clients look for answers all the time and do not sleep: the server then pays no
    /// wake-ups for them, which clients on other machines would not cost it either.
    #[arg(long)]
    polling_clients: bool,
    /// The node's binary, with the feature `bench-native`; else the one beside this program.
    #[arg(long, value_name = "FILE")]
    node: Option<PathBuf>,
    /// Another build of the node, which `echo`, `fanout` and `idle` measure beside this one in the
    /// same rounds.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// A program that `echo`, `fanout`, `idle` and `burst` measure as well: a server with the paths of
    /// the bare one, which says where it listens as that does.
    #[arg(long, value_name = "FILE")]
    beside: Option<PathBuf>,
    /// The folder of `ws`, the package of npm that `compress` measures beside the node.
    #[arg(long, value_name = "DIR")]
    ws: Option<PathBuf>,
    /// A component that `compile` measures as well.
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    /// The folder with a project for each language, `target/languages`, which `save` builds again.
    #[arg(long, value_name = "DIR")]
    languages: Option<PathBuf>,
    /// A folder for charts of `echo`, `fanout`, `compress` and `workers`, as SVG.
    #[arg(long, value_name = "DIR")]
    charts: Option<PathBuf>,
    /// The folder of echo.wasm and console.wasm; else `JACKFIELD_PLUGINS`, or `plugins` beside
    /// this program's folder.
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
}

#[derive(Args)]
struct Load {
    /// Where the server listens.
    address: SocketAddr,
    /// Where it echoes.
    #[arg(default_value = "/echo")]
    path: String,
    #[arg(long, default_value_t = 100)]
    clients: usize,
    /// Messages that each client has under way.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    in_flight: u32,
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// Echo through a plugin, beside a native handler and the bare server.
    Echo,
    /// Deliveries to a group of 1,000.
    Fanout,
    /// A group of 1,000 with compression and without, beside the package `ws` of npm.
    Compress,
    /// Memory for each of 10,000 idle clients.
    Idle,
    /// Memory that is kept after a burst.
    Burst,
    /// Echo with one worker and with two, on both processors.
    Workers,
    /// From a component's file to an instance of it.
    Compile,
    /// From a saved source to a client that hears it, in each language.
    Save,
    /// Several nodes: one message, what a third node knows, a group.
    Mesh,
    /// Echo of clients whose plugin runs at another node.
    Gateway,
    /// Sends through the API, over HTTP and gRPC, single and in batches.
    Api,
    /// One event inside the host: the call of a guest, and its send.
    Event,
    /// All of these.
    All,
}

/// Files that a run opens at most, in one process: 10,000 clients, and some.
const OPEN_FILES: u64 = 10_500;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(run) => measure(&run),
        Command::Load(load) => load_echo(&load),
        Command::Bare { listen } => bare::serve(listen),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("jackfield-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(run: &Run) -> Result<()> {
    machine::raise_file_limit(OPEN_FILES)?;
    let built = run.built()?;
    let amount = Amount {
        rounds: run.rounds.into(),
        duration: Duration::from_secs(run.seconds),
        waiting: match run.polling_clients {
            true => Waiting::Polling,
            false => Waiting::Sleeping,
        },
    };
    if matches!(run.what, What::Echo | What::All) {
        run::run_echo(&built, amount)?;
    }
    if matches!(run.what, What::Fanout | What::All) {
        run::run_fan_out(&built, amount)?;
    }
    if matches!(run.what, What::Compress | What::All) {
        compress::run_compress(&built, amount)?;
    }
    if matches!(run.what, What::Workers | What::All) {
        run::run_workers(&built, amount)?;
    }
    if matches!(run.what, What::Idle | What::All) {
        idle::run_idle(&built, amount.rounds)?;
    }
    if matches!(run.what, What::Burst | What::All) {
        burst::run_burst(&built, amount.rounds)?;
    }
    if matches!(run.what, What::Compile | What::All) {
        compile::run_compile(&built, run.component.as_deref(), amount.rounds)?;
    }
    if matches!(run.what, What::Save | What::All) {
        let languages = run.languages.as_deref();
        let languages = languages.context("`save` needs --languages: `cargo xtask bench save`")?;
        save::run_save(&built, languages, amount.rounds)?;
    }
    if matches!(run.what, What::Mesh | What::All) {
        mesh::run_mesh(&built, amount)?;
    }
    if matches!(run.what, What::Gateway | What::All) {
        gateway::run_gateway(&built, amount)?;
    }
    if matches!(run.what, What::Api | What::All) {
        api::run_api(&built, amount)?;
    }
    if matches!(run.what, What::Event | What::All) {
        run_event()?;
    }
    Ok(())
}

/// The one measurement that is a program of its own: it has the node in it, which takes minutes
/// to build.
fn run_event() -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = std::process::Command::new(cargo)
        .args(["bench", "--bench", "event", "--bench", "fairness"])
        // As `cargo xtask bench` builds these, or their dependencies would be compiled again.
        .args(["--package", "jackfield", "--package", "jackfield-bench"])
        .args(["--features", "jackfield/bench-native"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "cargo bench failed ({status})");
    Ok(())
}

fn load_echo(options: &Load) -> Result<()> {
    let duration = Duration::from_secs(options.seconds);
    let mut load = Echo::connect(
        options.address,
        &options.path,
        options.clients,
        options.in_flight,
    )?;
    let answered = load.run(Instant::now() + duration)?;
    load.finish()?;
    let rate = answered / options.seconds.max(1);
    writeln!(
        std::io::stdout(),
        "{rate} messages/s, all as they should be"
    )?;
    Ok(())
}

impl Run {
    fn built(&self) -> Result<Built> {
        let program = std::env::current_exe()?;
        let profile = program.parent().context("this program is in no folder")?;
        let target = profile.parent().context("its folder is in no folder")?;
        Ok(Built {
            node: self
                .node
                .clone()
                .unwrap_or_else(|| profile.join("jackfield")),
            against: self.against.clone(),
            beside: self.beside.clone(),
            charts: self.charts.clone(),
            ws: self.ws.clone(),
            plugins: self
                .plugins
                .clone()
                .or_else(|| std::env::var_os("JACKFIELD_PLUGINS").map(PathBuf::from))
                .unwrap_or_else(|| target.join("plugins")),
        })
    }
}
