//! The binary as a command: run to its end, what it said and how it ended.

use anyhow::Context as _;
use tokio::process::Command;

use crate::components::cache;
use crate::{Turns, binary_path, within};

/// What a command has said, and how it has ended.
#[derive(Debug)]
pub struct Output {
    /// Its exit code.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Output {
    /// Everything it wrote.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs `jackfield` with these arguments, to its end.
pub async fn run_node_binary(arguments: &[&str]) -> anyhow::Result<Output> {
    run_node_binary_in(&[], arguments).await
}

/// Runs `jackfield` with these arguments in this environment, to its end.
pub async fn run_node_binary_in(
    environment: &[(&str, &str)],
    arguments: &[&str],
) -> anyhow::Result<Output> {
    let mut command = node_command()?;
    command.args(arguments).envs(environment.iter().copied());
    run(command).await
}

/// Runs `jackfield` with these arguments, to its end, which a shell becomes after this script.
pub async fn run_node_binary_after(script: &str, arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = node_command()?;
    command.args(arguments);
    run(after_script(script, &command)).await
}

async fn run(mut command: Command) -> anyhow::Result<Output> {
    command.kill_on_drop(true);
    let output = within("the command's end", command.output()).await?;
    Ok(Output {
        code: output.status.code().context("the command was killed")?,
        stdout: String::from_utf8(output.stdout)?,
        stderr: String::from_utf8(output.stderr)?,
    })
}

/// The binary's command, which a shell becomes after this script: `ulimit -n 256` or `trap '' HUP` then hold
/// for it.
pub(crate) fn after_script(script: &str, command: &Command) -> Command {
    let command = command.as_std();
    let mut shell = Command::new(command.get_program());
    let mut arguments = command.get_args();
    shell.args(arguments.next()).args(["sh", "-c"]);
    shell.arg(format!("{script}; exec \"$0\" \"$@\""));
    shell.args(arguments);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

/// The binary, without what is meant for the tests (or for a node that a person runs) in its
/// environment, and without their ignored signals: tests in the background ignore ctrl-c.
pub fn node_command() -> anyhow::Result<Command> {
    let mut command = Command::new("env");
    command.arg("--default-signal").arg(binary_path()?);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("JACKFIELD_") {
            command.env_remove(name);
        }
    }
    command.env("JACKFIELD_CACHE", cache());
    Turns::from_environment().apply(&mut command);
    Ok(command)
}
