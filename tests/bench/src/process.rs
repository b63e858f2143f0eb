//! A server in a process of its own, and where it says that it listens.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

/// A server that runs; dropped, it is ended.
pub(crate) struct Process {
    child: Child,
    listening: Value,
}

impl Process {
    /// Starts one, and waits until it listens.
    pub(crate) fn start(command: &mut Command) -> Result<Process> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut process = Process {
            child: child.with_context(|| format!("cannot start {command:?}"))?,
            listening: Value::Null,
        };
        let stdout = process.child.stdout.as_mut().context("it has no stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let mut said: Value = serde_json::from_str(&line)
            .with_context(|| format!("{command:?} said {line:?} and not where it listens"))?;
        process.listening = said["listening"].take();
        Ok(process)
    }

    /// Where it listens for these.
    pub(crate) fn address(&self, what: &str) -> Result<SocketAddr> {
        let address = self.listening[what].as_str();
        Ok(address
            .with_context(|| format!("no {what} in {}", self.listening))?
            .parse()?)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
