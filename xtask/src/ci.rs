//! `cargo xtask ci`: every check a change must pass, the quickest first. It stops at the
//! first that fails, and the table at the end says what each one took.

use std::io::{self, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::process::{self, cargo};
use crate::workspace::Workspace;
use crate::{deny, docs, guests, plugins, progress, test, wasm_target};

struct Step {
    name: &'static str,
    run: fn(&Workspace) -> Result<()>,
}

const STEPS: &[Step] = &[
    Step {
        name: "format",
        run: check_format,
    },
    Step {
        name: "wasm target",
        run: wasm_target::ensure,
    },
    Step {
        name: "components",
        run: build_components,
    },
    Step {
        name: "lints",
        run: lint,
    },
    Step {
        name: "tests",
        run: run_tests,
    },
    Step {
        name: "documentation",
        run: document,
    },
    Step {
        name: "site",
        run: docs::docs,
    },
    Step {
        name: "dependencies",
        run: deny::check,
    },
];

pub(crate) fn ci(workspace: &Workspace) -> Result<()> {
    test::require_programs()?;
    let mut durations = Vec::new();
    let outcome = run_steps(workspace, &mut durations);
    print_durations(&durations)?;
    outcome
}

fn run_steps(workspace: &Workspace, durations: &mut Vec<(&'static str, Duration)>) -> Result<()> {
    for (position, step) in STEPS.iter().enumerate() {
        eprintln!("== {} ({} of {})", step.name, position + 1, STEPS.len());
        let started = Instant::now();
        let outcome = (step.run)(workspace);
        durations.push((step.name, started.elapsed()));
        eprintln!(
            "== {}: {}",
            step.name,
            progress::duration(started.elapsed())
        );
        outcome.with_context(|| format!("step `{}`", step.name))?;
    }
    Ok(())
}

fn check_format(workspace: &Workspace) -> Result<()> {
    in_root(workspace, cargo().args(["fmt", "--all", "--check"]))
        .context("run `cargo fmt --all` and look at what it changed")
}

fn build_components(workspace: &Workspace) -> Result<()> {
    plugins::build(workspace, &[])?;
    guests::build(workspace)
}

fn lint(workspace: &Workspace) -> Result<()> {
    in_root(
        workspace,
        cargo().args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--",
            "-D",
            "warnings",
        ]),
    )
}

fn run_tests(workspace: &Workspace) -> Result<()> {
    test::build_node_and_run(workspace, &test::Options::default())
}

fn document(workspace: &Workspace) -> Result<()> {
    in_root(
        workspace,
        cargo()
            .args(["doc", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}

fn in_root(workspace: &Workspace, command: &mut Command) -> Result<()> {
    process::run(command.current_dir(&workspace.root))
}

fn print_durations(durations: &[(&str, Duration)]) -> Result<()> {
    let total = durations.iter().map(|(_, duration)| *duration).sum();
    let mut stdout = io::stdout().lock();
    for (name, duration) in durations.iter().copied().chain([("total", total)]) {
        writeln!(stdout, "{name:<14} {:>12}", progress::duration(duration))?;
    }
    Ok(())
}
