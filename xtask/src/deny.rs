//! `cargo deny check`: what is among the dependencies, by the rules of `deny.toml`.
//!
//! Advisories are left to the public CI: their database is not at the registry.

use std::process::Command;

use anyhow::Result;

use crate::process;
use crate::tools::Tool;
use crate::workspace::Workspace;

/// The version is the one that `deny.toml` is written for.
const DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
    features: None,
};

pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    process::run(
        Command::new(DENY.find(workspace)?)
            .args(["--workspace", "check", "bans", "licenses", "sources"])
            .current_dir(&workspace.root),
    )
}
