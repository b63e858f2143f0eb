//! `cargo deny check`: what is among the dependencies, by the rules of `deny.toml`.
//!
//! Advisories are left to the public CI: their database is not at the registry.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::process::{self, cargo};
use crate::workspace::Workspace;

/// The version that `deny.toml` is written for.
const VERSION: &str = "0.20.2";

pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let program = match process::find_program("cargo-deny") {
        Some(program) => program,
        None => install(workspace)?,
    };
    process::run(
        Command::new(program)
            .args(["--workspace", "check", "bans", "licenses", "sources"])
            .current_dir(&workspace.root),
    )
}

/// Installs it into the target folder, once: nothing of the machine's changes.
fn install(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.root.join("target/tools");
    let program = folder.join("bin/cargo-deny");
    if !program.is_file() {
        process::run(
            cargo()
                .args(["install", "cargo-deny", "--locked", "--debug"])
                .args(["--version", VERSION, "--root"])
                .arg(&folder)
                .current_dir(&workspace.root),
        )?;
    }
    Ok(program)
}
