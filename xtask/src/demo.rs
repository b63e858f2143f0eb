//! `cargo xtask demo`: a node with the shipped plugins, from nothing.
//!
//! The node runs until it is told to stop. A signal to this command is passed on to the
//! node, which drains; the demo ends when the node has, with the node's exit code.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::iterator::Signals;

use crate::host::{self, Listening, Running, Started, reachable};
use crate::workspace::Workspace;
use crate::{plugins, process};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where the node listens for clients; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: String,
    /// Where the node answers operators, over HTTP; port 0 takes a free one, '' none
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    api: String,
}

pub(crate) fn demo(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    plugins::build(workspace, &[])?;
    host::build(workspace)?;

    // From here on a signal is the node's to answer, even one that comes before it runs.
    let signals = host::signals()?;
    let mut node = Running::start(
        host::command(workspace)
            .args(["node", "--listen", &options.listen])
            .args(["--api", &options.api, "--plugins"])
            .arg(workspace.plugin_folder()),
    )?;
    pass_on(signals, node.id()?);
    report(workspace, &mut node)?;
    Ok(ExitCode::from(process::exit_code(node.wait()?)))
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
fn report(workspace: &Workspace, node: &mut Running) -> Result<()> {
    let Some((first, mut rest)) = node.first_line()? else {
        return Ok(());
    };
    let mut stdout = io::stdout().lock();
    let invitation = serde_json::from_str::<Started>(&first)
        .ok()
        .and_then(|started| invitation(&workspace.shown_plugin_folder(), &started.listening));
    stdout.write_all(invitation.unwrap_or(first).as_bytes())?;
    stdout.flush()?;
    io::copy(&mut rest, &mut stdout)?;
    Ok(())
}

/// None: the node did not say where clients connect.
fn invitation(plugins: &Path, listening: &Listening) -> Option<String> {
    let address = reachable(listening.clients?);
    let api = listening.api.map(reachable).map(|api| {
        format!(
            "  http://{api}/            the node for operators: plugins, clients, deploy and go back\n  \
             http://{api}/docs        the API for backends; the page sends requests, too\n  \
             http://{api}/v1/nodes    what the node says of itself: its plugins and clients\n"
        )
    });
    Some(format!(
        "
Jackfield is running. Open
  http://{address}/            the pages of all plugins
  http://{address}/chat/       the chat page; in two windows, it talks
  http://{address}/everybody/  bin-x/websocket's chat: everybody hears everybody
  ws://{address}/console       every function of the API over JSON, for any WebSocket client
  ws://{address}/echo          the smallest plugin
  ws://{address}/api/wstest?businessid=100   silky's example
{}Drop a .wasm into {} and it is served at ws://{address}/NAME; drop it again to replace it.
ctrl-c ends the node.

",
        api.unwrap_or_default(),
        plugins.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invited(first: &str) -> Result<Option<String>> {
        let started: Started = serde_json::from_str(first)?;
        Ok(invitation(Path::new("target/plugins"), &started.listening))
    }

    #[test]
    fn what_is_to_be_opened_has_the_ports_that_the_node_took() -> Result<()> {
        let first = r#"{"listening":{"api":"127.0.0.1:43212","clients":"0.0.0.0:43211"}}"#;
        let text = invited(first)?.unwrap_or_default();
        for line in [
            "Open\n  http://127.0.0.1:43211/ ",
            "  http://127.0.0.1:43211/chat/ ",
            "  http://127.0.0.1:43212/ ",
            "  http://127.0.0.1:43212/docs ",
            "  http://127.0.0.1:43212/v1/nodes ",
            "Drop a .wasm into target/plugins and",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        Ok(())
    }

    #[test]
    fn a_node_without_an_api_names_none() -> Result<()> {
        let text = invited(r#"{"listening":{"clients":"127.0.0.1:43211"}}"#)?.unwrap_or_default();
        assert!(text.contains("/chat/") && !text.contains("/v1/"), "{text}");
        assert_eq!(
            invited(r#"{"listening":{"register":"127.0.0.1:1"}}"#)?,
            None
        );
        Ok(())
    }
}
