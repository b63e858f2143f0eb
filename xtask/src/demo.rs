//! `cargo xtask demo`: a node with the shipped plugins, from nothing.
//!
//! The node runs until it is told to stop. A signal to this command is passed on to the
//! node, which drains; the demo ends when the node has, with the node's exit code.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::thread;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::plugins;
use crate::process::{self, cargo};
use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where the node listens for clients; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: String,
}

pub(crate) fn demo(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    plugins::build(workspace, &[])?;
    process::run(
        cargo()
            .args(["build", "--release", "--package", "jackfield"])
            .current_dir(&workspace.root),
    )?;

    // From here on a signal is the node's to answer, even one that comes before it runs.
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot wait for signals")?;
    let mut node = start_node(workspace, options)?;
    pass_on(signals, node.id()?);
    if let Some(stdout) = node.0.stdout.take() {
        report(workspace, BufReader::new(stdout))?;
    }
    let status = node.0.wait().context("cannot wait for the node")?;
    Ok(ExitCode::from(process::exit_code(status)))
}

/// A node that does not outlive us: dropped while it runs, it is told to end and waited for.
struct Node(Child);

impl Node {
    fn id(&self) -> Result<Pid> {
        i32::try_from(self.0.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("the node has no process id")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let (Ok(None), Ok(id)) = (self.0.try_wait(), self.id()) {
            let _ = kill_process(id, Signal::TERM);
            let _ = self.0.wait();
        }
    }
}

fn start_node(workspace: &Workspace, options: &Options) -> Result<Node> {
    let binary = workspace.target.join("release/jackfield");
    Command::new(&binary)
        .args(["node", "--listen", &options.listen, "--plugins"])
        .arg(workspace.plugin_folder())
        .current_dir(&workspace.root)
        .stdout(Stdio::piped())
        // A group of its own: ctrl-c reaches it once, through us, and not a second time from
        // the terminal, which a node may take for impatience.
        .process_group(0)
        .spawn()
        .map(Node)
        .with_context(|| format!("cannot start {}", binary.display()))
}

fn pass_on(mut signals: Signals, node: Pid) {
    thread::spawn(move || {
        for signal in signals.forever().filter_map(Signal::from_named_raw) {
            // It fails when the node has gone, and then we are about to go too.
            let _ = kill_process(node, signal);
        }
    });
}

/// Waits for the node to listen, says what to open, and passes on what else it prints until
/// it ends. A node that does not come up says why on stderr, which is ours too.
fn report(workspace: &Workspace, mut node: BufReader<ChildStdout>) -> Result<()> {
    let mut first = String::new();
    node.read_line(&mut first)
        .context("cannot read what the node prints")?;
    if first.is_empty() {
        return Ok(());
    }
    let mut stdout = io::stdout().lock();
    match serde_json::from_str::<Started>(&first) {
        Ok(started) => {
            stdout.write_all(invitation(workspace, started.listening.clients).as_bytes())?
        }
        Err(_) => stdout.write_all(first.as_bytes())?,
    }
    stdout.flush()?;
    io::copy(&mut node, &mut stdout).context("cannot pass on what the node prints")?;
    Ok(())
}

/// The node's first line: `{"listening":{"clients":"127.0.0.1:8080"}}`.
#[derive(Deserialize)]
struct Started {
    listening: Listening,
}

#[derive(Deserialize)]
struct Listening {
    clients: SocketAddr,
}

fn invitation(workspace: &Workspace, listening: SocketAddr) -> String {
    let address = reachable(listening);
    let folder = workspace.plugin_folder();
    format!(
        "
Jackfield is running. Open
  http://{address}/chat/       the chat page; in two windows, it talks
  ws://{address}/console       every function of the API over JSON, for any WebSocket client
  ws://{address}/echo          the smallest plugin
Drop a .wasm into {} and it is served at ws://{address}/NAME; drop it again to replace it.
ctrl-c ends the node.

",
        folder
            .strip_prefix(&workspace.root)
            .unwrap_or(&folder)
            .display()
    )
}

/// An address a browser on this machine can open: `0.0.0.0` is for listening only.
fn reachable(mut address: SocketAddr) -> SocketAddr {
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
    fn the_first_line_of_a_node_is_understood_also_when_it_says_more() -> Result<()> {
        let line = r#"{"listening":{"clients":"127.0.0.1:43211","api":"127.0.0.1:43212"}}"#;
        let started: Started = serde_json::from_str(line)?;
        assert_eq!(started.listening.clients.port(), 43211);
        Ok(())
    }

    #[test]
    fn an_address_for_listening_becomes_one_for_opening() -> Result<()> {
        assert_eq!(reachable("0.0.0.0:80".parse()?), "127.0.0.1:80".parse()?);
        assert_eq!(reachable("[::]:80".parse()?), "[::1]:80".parse()?);
        assert_eq!(reachable("10.0.0.7:80".parse()?), "10.0.0.7:80".parse()?);
        Ok(())
    }
}
