//! `jackfield-soak`, which `cargo xtask soak` builds and runs.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use jackfield_soak::{Options, run};

/// Runs everything at once on several nodes, and checks each message.
#[derive(Parser)]
#[command(name = "jackfield-soak", bin_name = "cargo xtask soak")]
struct Cli {
    /// How long the load goes on; 0.5 is half a minute. There is at least one of each fault
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// What all random choices follow from; without it, a random one, which is printed
    #[arg(long)]
    seed: Option<u64>,
    /// How many clients there are
    #[arg(long, default_value_t = 5000)]
    clients: usize,
    /// How many nodes
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Operations per second, of all clients together
    #[arg(long, default_value_t = 400)]
    rate: u32,
}

fn main() -> ExitCode {
    match soak(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:?}");
            ExitCode::FAILURE
        }
    }
}

fn soak(cli: &Cli) -> Result<()> {
    let time = Duration::try_from_secs_f64(cli.minutes * 60.0)?;
    let seed = cli.seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("the soak: --seed {seed}");
    let report = run(&Options {
        clients: cli.clients.max(2),
        nodes: cli.nodes.max(1),
        time,
        seed,
        rate: cli.rate,
        sabotage: None,
    })?;
    write!(io::stdout(), "{report}")?;
    Ok(())
}
