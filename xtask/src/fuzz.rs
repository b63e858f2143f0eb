//! `cargo xtask fuzz-api`: schemathesis (<https://schemathesis.readthedocs.io>) against a
//! node's own description of its API. Whatever fits the description, and whatever nearly does,
//! is answered as the description says, and never with a fault of the node.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::host::{self, Running, Started};
use crate::plugins;
use crate::process;
use crate::workspace::Workspace;

/// What is held against each answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Requests for each function, at most
    #[arg(long, default_value_t = 100)]
    examples: u32,
    /// More arguments for schemathesis: `--seed N` …
    #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
    args: Vec<String>,
}

pub(crate) fn fuzz(workspace: &Workspace, options: &Options) -> Result<()> {
    ensure!(
        process::find_program("schemathesis").is_some(),
        "schemathesis is not on PATH; install it: pip install schemathesis"
    );
    plugins::build(workspace, &["console".to_owned()])?;
    host::build_debug(workspace)?;
    let mut node = Command::new(host::debug_program(workspace));
    node.args(["node", "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0"])
        .args(["--log", "error", "--plugins"])
        .arg(workspace.plugin_folder());
    let mut node = Running::start(&mut node)?;
    let (line, _stdout) = node.first_line()?.context("the node did not start")?;
    let started: Started = serde_json::from_str(&line)?;
    let api = started.listening.api.context("the node has no API")?;

    let settings = workspace.target.join("schemathesis.toml");
    // There is one plugin to ask for; what it has no name for is looked for elsewhere.
    std::fs::write(
        &settings,
        "[parameters]\nplugin = \"console\"\nmethod = \"echo\"\n",
    )?;
    process::run(
        Command::new("schemathesis")
            .arg("--config-file")
            .arg(settings)
            .args(["run", &format!("http://{api}/openapi.json")])
            // A stream without an end.
            .args(["--exclude-path", "/v1/events", "--checks", CHECKS])
            .args(["--max-examples", &options.examples.to_string()])
            .args(&options.args),
    )?;
    ensure!(node.ended()?.is_none(), "the node has ended");
    Ok(())
}
