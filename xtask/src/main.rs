//! The project's own commands: `cargo xtask demo`, `cluster`, `build-plugins`, `test`,
//! `bench`, `soak`, `fuzz-api`, `autobahn`, `dist`, `docs` and `ci`.
//!
//! Each makes sure of everything it needs, the wasm target included, so that a fresh
//! machine with a Rust toolchain runs any of them first. What is up to date is not built
//! again. Progress goes to stderr, results to stdout.

mod apt;
mod autobahn;
mod bench;
mod ci;
mod clients;
mod cluster;
mod component;
mod demo;
mod deny;
mod dist;
mod docs;
mod file;
mod fuzz;
mod guests;
mod host;
mod languages;
mod plain;
mod plugins;
mod process;
mod programs;
mod progress;
mod skipped;
mod soak;
mod test;
mod tools;
mod wasm_target;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

#[derive(Parser)]
#[command(
    name = "xtask",
    bin_name = "cargo xtask",
    about = "Jackfield's own commands"
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build everything, start a node with the shipped plugins and say what to open
    Demo(demo::Options),
    /// The same with several nodes that know each other, and a register
    Cluster(cluster::Options),
    /// Build plugins into target/plugins, where a running node picks them up
    BuildPlugins {
        /// Folders in plugins/; all of them if none is named
        names: Vec<String>,
    },
    /// Build what the tests need and run them
    Test(test::Options),
    /// Build everything for release and measure what it costs
    Bench(bench::Options),
    /// Run thousands of clients on several nodes while nodes, links and plugins come and go
    Soak(soak::Options),
    /// Build a node and try what its API's description allows, with schemathesis
    FuzzApi(fuzz::Options),
    /// Run the Autobahn test suite, 301 cases of the WebSocket protocol, against a node
    Autobahn,
    /// Make what is passed on: a tarball, a Debian package, and the context of an image
    Dist,
    /// Make a site of the documents in target/docs, and check that its links lead where they say
    Docs,
    /// Everything a change must pass: formatting, lints, tests, documentation
    Ci,
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::load()?;
    match task {
        Task::Demo(options) => return demo::demo(&workspace, &options),
        Task::Cluster(options) => return cluster::cluster(&workspace, &options),
        Task::BuildPlugins { names } => plugins::build(&workspace, &names)?,
        Task::Test(options) => test::test(&workspace, &options)?,
        Task::Bench(options) => bench::bench(&workspace, &options)?,
        Task::Soak(options) => soak::soak(&workspace, &options)?,
        Task::FuzzApi(options) => fuzz::fuzz(&workspace, &options)?,
        Task::Autobahn => autobahn::autobahn(&workspace)?,
        Task::Dist => dist::dist(&workspace)?,
        Task::Docs => docs::docs(&workspace)?,
        Task::Ci => ci::ci(&workspace)?,
    }
    Ok(ExitCode::SUCCESS)
}
