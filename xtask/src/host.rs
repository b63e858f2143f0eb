//! The host's program, built and run by us: what `demo` and `cluster` share.
//!
//! A process started here does not outlive us, unless we are killed, and answers no signal
//! from the terminal but those that we pass on.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::process::{self, cargo};
use crate::workspace::Workspace;

/// Builds it to be looked at: in half the time of a release, and slower than one.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    process::run(
        cargo()
            .args(["build", "--profile", "demo", "--package", "jackfield"])
            .current_dir(&workspace.root),
    )
}

/// Builds it as the tests use it. Cargo unifies features over what it builds, and with another
/// choice than `--workspace`, which the tests have, it would compile the dependencies a second
/// time.
pub(crate) fn build_debug(workspace: &Workspace) -> Result<()> {
    process::run(
        cargo()
            .args(["build", "--workspace", "--bin", "jackfield"])
            .current_dir(&workspace.root),
    )
}

/// The program that [`build_debug`] builds.
pub(crate) fn debug_program(workspace: &Workspace) -> PathBuf {
    workspace.target.join("debug/jackfield")
}

/// Builds it as it is shipped, and returns the program.
pub(crate) fn build_release(workspace: &Workspace) -> Result<PathBuf> {
    process::run(
        cargo()
            .args(["build", "--release", "--package", "jackfield"])
            .current_dir(&workspace.root),
    )?;
    Ok(workspace.target.join("release/jackfield"))
}

/// The program that [`build`] builds; arguments are still to be added.
pub(crate) fn command(workspace: &Workspace) -> Command {
    let mut command = Command::new(workspace.target.join("demo/jackfield"));
    command.current_dir(&workspace.root);
    command
}

/// What tells a person's wish to end us. From here on we do not end by ourselves.
pub(crate) fn signals() -> Result<Signals> {
    Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot wait for signals")
}

/// A running node or register. Dropped while it runs, it is told to end and waited for.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Result<Running> {
        command
            .stdout(Stdio::piped())
            // A group of its own: ctrl-c reaches it once, through us, and not a second time from
            // the terminal, which a node may take for impatience.
            .process_group(0)
            .spawn()
            .map(Running)
            .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))
    }

    pub(crate) fn id(&self) -> Result<Pid> {
        i32::try_from(self.0.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("the process has no id")
    }

    /// Its first line, which says where it listens, and what it prints after. None: it has
    /// ended without one, and has said why on stderr.
    pub(crate) fn first_line(&mut self) -> Result<Option<(String, BufReader<ChildStdout>)>> {
        let stdout = self.0.stdout.take().context("its stdout is not ours")?;
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdout
            .read_line(&mut line)
            .context("cannot read what the node prints")?;
        Ok((!line.is_empty()).then_some((line, stdout)))
    }

    /// What it logs, where that is piped, once.
    pub(crate) fn stderr(&mut self) -> Option<ChildStderr> {
        self.0.stderr.take()
    }

    /// Tells it to end, if it has not.
    pub(crate) fn terminate(&mut self) {
        if let (Ok(None), Ok(id)) = (self.0.try_wait(), self.id()) {
            let _ = kill_process(id, Signal::TERM);
        }
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.0.try_wait().context("cannot look after the node")
    }

    pub(crate) fn wait(&mut self) -> Result<ExitStatus> {
        self.0.wait().context("cannot wait for the node")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.terminate();
        let _ = self.0.wait();
    }
}

/// The first line of a node or a register:
/// `{"listening":{"api":"127.0.0.1:8081","clients":"127.0.0.1:8080"}}`.
#[derive(Deserialize)]
pub(crate) struct Started {
    pub(crate) listening: Listening,
}

#[derive(Deserialize)]
pub(crate) struct Listening {
    pub(crate) clients: Option<SocketAddr>,
    pub(crate) api: Option<SocketAddr>,
    pub(crate) register: Option<SocketAddr>,
}

/// An address a browser on this machine can open: `0.0.0.0` is for listening only.
pub(crate) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_understood_also_when_it_says_more() -> Result<()> {
        let line = r#"{"listening":{"clients":"127.0.0.1:43211","metrics":"127.0.0.1:43212"}}"#;
        let started: Started = serde_json::from_str(line)?;
        assert_eq!(started.listening.clients, Some("127.0.0.1:43211".parse()?));
        assert_eq!(started.listening.api, None);
        Ok(())
    }

    #[test]
    fn an_address_for_listening_becomes_one_for_opening() -> Result<()> {
        assert_eq!(reachable("0.0.0.0:80".parse()?), "127.0.0.1:80".parse()?);
        assert_eq!(reachable("[::]:80".parse()?), "[::1]:80".parse()?);
        assert_eq!(reachable("10.0.0.7:80".parse()?), "10.0.0.7:80".parse()?);
        Ok(())
    }

    #[test]
    fn a_process_without_a_first_line_has_ended_and_a_dropped_one_ends() -> Result<()> {
        let mut silent = Running::start(Command::new("sh").args(["-c", "exit 3"]))?;
        assert!(silent.first_line()?.is_none());
        assert_eq!(silent.wait()?.code(), Some(3));

        let mut running =
            Running::start(Command::new("sh").args(["-c", "echo up; exec sleep 60"]))?;
        let (line, _) = running.first_line()?.context("it prints one")?;
        assert_eq!(line, "up\n");
        assert!(running.ended()?.is_none());
        let id = running.id()?;
        drop(running);
        assert!(
            rustix::process::test_kill_process(id).is_err(),
            "it is gone"
        );
        Ok(())
    }
}
