//! The client library of `clients/js`: `target/clients/js`, built as its users build it.
//!
//! Without Node.js and npm it is left out, and that is said.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::file;
use crate::process;
use crate::skipped::is_skipped;
use crate::workspace::Workspace;

/// The folder of the library as it was built.
pub(crate) fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("clients/js")
}

/// Builds the library, and checks its types.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    let to = folder(workspace);
    fs::create_dir_all(&to)?;
    if is_skipped("clients/js", &["node", "npm"], &to)? {
        return Ok(());
    }
    eprintln!("== clients/js in {}", to.display());
    let own = ["src", "test"];
    for folder in own.iter().chain(&["dist"]) {
        file::remove(&to.join(folder))?;
    }
    for folder in own {
        let from = workspace.root.join("clients/js").join(folder);
        file::copy_folder(&from, &to.join(folder))?;
    }
    let mut is_new = !to.join("node_modules").exists();
    for name in ["package.json", "package-lock.json", "tsconfig.json"] {
        let from = workspace.root.join("clients/js").join(name);
        let copied = file::copy(&from, &to.join(name))?;
        is_new |= name == "package-lock.json" && copied == file::Outcome::Replaced;
    }
    let npm = |arguments: &[&str]| {
        let mut command = Command::new("npm");
        process::run(command.args(arguments).current_dir(&to))
    };
    if is_new {
        npm(&["ci", "--ignore-scripts", "--no-audit", "--no-fund"])?;
    }
    npm(&["run", "--silent", "pretest"])
}
