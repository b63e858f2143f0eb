//! `cargo xtask bench`: everything the benchmark measures, built as it is shipped, then the
//! benchmark. `docs/benchmarks.md` says what it does and what came out.

use std::path::PathBuf;

use anyhow::Result;

use crate::process::{self, cargo};
use crate::workspace::Workspace;
use crate::{guests, host, languages, plain, plugins};

#[derive(clap::Args)]
#[command(
    override_usage = "cargo xtask bench [echo|fanout|compress|workers|idle|burst|compile|save|mesh|gateway|api|event|all] [OPTIONS]"
)]
pub(crate) struct Options {
    /// For `jackfield-bench run`: what to measure, `--rounds N`, `--seconds S` …
    #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
    args: Vec<String>,
}

pub(crate) fn bench(workspace: &Workspace, options: &Options) -> Result<()> {
    plugins::build(workspace, &["console".to_owned(), "echo".to_owned()])?;
    guests::build(workspace)?;
    plain::build(workspace)?;
    // Both at once: cargo unifies features over what it builds, and each by itself would
    // compile some of their dependencies a second time.
    process::run(
        cargo()
            .args(["build", "--release"])
            .args(["--package", "jackfield", "--package", "jackfield-bench"])
            .args(["--features", "jackfield/bench-native"])
            .current_dir(&workspace.root),
    )?;
    let mut bench = std::process::Command::new(workspace.target.join("release/jackfield-bench"));
    bench.arg("run");
    let what = options.args.first().map_or("all", String::as_str);
    // Without a name, everything is measured.
    if ["all", "compress"].contains(&what) || what.starts_with('-') {
        bench.arg("--ws").arg(install_ws(workspace)?);
    }
    if ["all", "save"].contains(&what) || what.starts_with('-') {
        host::build_debug(workspace)?;
        languages::build(workspace)?;
        bench.arg("--languages").arg(languages::folder(workspace));
    }
    process::run(
        bench
            .args(&options.args)
            .current_dir(&workspace.root)
            .env("JACKFIELD_PLUGINS", workspace.plugin_folder())
            .env("JACKFIELD_GUESTS", workspace.guest_folder()),
    )
}

/// Installs the package `ws` of npm, which compression is measured beside, and returns its folder.
fn install_ws(workspace: &Workspace) -> Result<PathBuf> {
    let source = workspace.root.join("tests/bench/ws");
    let folder = workspace.target.join("bench-ws");
    std::fs::create_dir_all(&folder)?;
    for name in ["package.json", "package-lock.json", "server.mjs"] {
        std::fs::copy(source.join(name), folder.join(name))?;
    }
    let mut npm = std::process::Command::new("npm");
    process::run(
        npm.args(["ci", "--no-audit", "--no-fund"])
            .current_dir(&folder),
    )?;
    Ok(folder)
}
