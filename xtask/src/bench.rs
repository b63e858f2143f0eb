//! `cargo xtask bench`: everything the benchmark measures, built as it is shipped, then the
//! benchmark. `docs/benchmarks.md` says what it does and what came out.

use anyhow::Result;

use crate::process::{self, cargo};
use crate::workspace::Workspace;
use crate::{guests, plain, plugins};

#[derive(clap::Args)]
#[command(
    override_usage = "cargo xtask bench [echo|fanout|idle|mesh|gateway|api|event|all] [OPTIONS]"
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
    process::run(
        std::process::Command::new(workspace.target.join("release/jackfield-bench"))
            .arg("run")
            .args(&options.args)
            .current_dir(&workspace.root)
            .env("JACKFIELD_PLUGINS", workspace.plugin_folder())
            .env("JACKFIELD_GUESTS", workspace.guest_folder()),
    )
}
