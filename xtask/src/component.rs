//! One crate built as a component.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::file::{self, Outcome};
use crate::process::{self, cargo};
use crate::wasm_target::TARGET;
use crate::workspace::{Package, Workspace};

/// Builds `package`, with `feature` if one is given, and returns the file cargo left it in.
/// The next build of the same package overwrites that file.
///
/// One package a call: cargo unifies the features of all packages it builds together, and a
/// plugin must come out the same whether it is built alone or among others, or a running
/// node would reload it for nothing.
pub(crate) fn build(
    workspace: &Workspace,
    package: &Package,
    feature: Option<&str>,
) -> Result<PathBuf> {
    let mut command = cargo();
    // `rustc` and not `build`, to name the crate type: a crate that is also an rlib, for its
    // native tests, would be built without the profile's LTO and come out a fifth larger.
    command
        .args(["rustc", "--profile", "plugin", "--target", TARGET])
        .args([
            "--package",
            &package.name,
            "--lib",
            "--crate-type",
            "cdylib",
        ]);
    if let Some(feature) = feature {
        command.args(["--features", feature]);
    }
    process::run(command.current_dir(&workspace.root))
        .with_context(|| format!("cannot build {}", package.name))?;
    let file = format!("{}.wasm", package.name.replace('-', "_"));
    Ok(workspace.target.join(TARGET).join("plugin").join(file))
}

/// Puts the component in `built` at `path` and says so in one line.
pub(crate) fn install(workspace: &Workspace, built: &Path, path: &Path) -> Result<()> {
    let outcome = file::copy(built, path)?;
    let kib = fs::metadata(path)?.len() / 1024;
    let shown = path.strip_prefix(&workspace.root).unwrap_or(path).display();
    match outcome {
        Outcome::Replaced => eprintln!("  {shown} ({kib} KiB)"),
        Outcome::Unchanged => eprintln!("  {shown} ({kib} KiB, unchanged)"),
    }
    Ok(())
}
