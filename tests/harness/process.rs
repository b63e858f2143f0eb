//! A server in a process of its own: what it says first, what it logs, and its end.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{ExitStatus, Stdio};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::{Log, within};

/// A running `jackfield`. It is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: Log,
    stdout: Lines<BufReader<ChildStdout>>,
    listening: Value,
}

impl Process {
    /// Starts it; it may not listen yet.
    pub(crate) fn spawn(mut command: Command) -> anyhow::Result<Process> {
        let mut child = command
            // A terminal here would make a SIGHUP mean its end.
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let log = Log::read(child.stderr.take().context("stderr is piped")?);
        let stdout = child.stdout.take().context("stdout is piped")?;
        Ok(Process {
            child,
            log,
            stdout: BufReader::new(stdout).lines(),
            listening: Value::Null,
        })
    }

    /// Waits until it has said where it listens.
    pub(crate) async fn listen(&mut self) -> anyhow::Result<()> {
        let first = within("the first line on stdout", self.stdout.next_line()).await?;
        let Some(first) = first else {
            self.log.end().await?;
            bail!("it did not start:\n{}", self.log.tail());
        };
        let first: Value = serde_json::from_str(&first)?;
        self.listening = first["listening"].clone();
        Ok(())
    }

    /// Where it listens for these.
    pub(crate) fn listening(&self, what: &str) -> anyhow::Result<SocketAddr> {
        let listening = &self.listening[what];
        // The first, where there are several.
        let address = listening.get(0).unwrap_or(listening).as_str();
        Ok(address
            .with_context(|| format!("it does not listen for {what}"))?
            .parse()?)
    }

    /// What it has said about where it listens for these.
    pub(crate) fn all_listening(&self, what: &str) -> &Value {
        &self.listening[what]
    }

    /// Its log.
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill_process(self.pid()?, signal)?)
    }

    /// Ends it without a word.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        kill(&mut self.child).await
    }

    /// Waits for its end.
    pub(crate) async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        within("the process's end", self.child.wait()).await
    }

    /// It must not have said that it listens.
    pub(crate) async fn says_nothing(&mut self) -> anyhow::Result<()> {
        let first = self.stdout.next_line().await?;
        ensure!(first.is_none(), "it listened already: {first:?}");
        Ok(())
    }

    pub(crate) fn pid(&self) -> anyhow::Result<Pid> {
        pid(&self.child)
    }

    /// Its resident memory.
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<u64> {
        let resident = self.status("VmRSS:")?;
        let kib = resident.strip_suffix(" kB").context("kilobytes")?;
        Ok(kib.parse::<u64>()? * 1024)
    }

    /// What the kernel says of it, on the line that begins so.
    pub(crate) fn status(&self, line: &str) -> anyhow::Result<String> {
        let id = self.pid()?.as_raw_nonzero();
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let mut lines = status.lines();
        let value = lines.find_map(|text| text.strip_prefix(line));
        Ok(value
            .with_context(|| format!("no {line}"))?
            .trim()
            .to_owned())
    }
}

/// Ends a process without a word.
pub(crate) async fn kill(child: &mut Child) -> anyhow::Result<()> {
    kill_process(pid(child)?, Signal::KILL)?;
    within("the process's end", child.wait()).await?;
    Ok(())
}

fn pid(child: &Child) -> anyhow::Result<Pid> {
    let id = child.id().context("the process has ended")?;
    Pid::from_raw(i32::try_from(id)?).context("a process has a number")
}

/// An address for a server that takes no port 0, and is to have the same one when it is started
/// again: of this machine, and nobody else's. A port of 127.0.0.1 could be anybody's meanwhile.
pub(crate) fn own_address() -> anyhow::Result<SocketAddr> {
    let [a, b, c] = std::array::from_fn(|_| fastrand::u8(1..=254));
    Ok(TcpListener::bind((Ipv4Addr::new(127, a, b, c), 0))?.local_addr()?)
}

/// Waits until a program takes connections.
pub(crate) async fn listens(
    name: &str,
    process: &mut Child,
    address: SocketAddr,
) -> anyhow::Result<()> {
    let answers = async {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            let ended = process.try_wait()?;
            ensure!(ended.is_none(), "{name} has ended: {ended:?}");
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    };
    within(name, answers).await
}
