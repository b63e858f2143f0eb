//! A node, in a process of its own.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::command::node_command;
use crate::{Client, Console, Counters, Log, LogLine, PluginFolder, Raw, Response};
use crate::{upgrade_request, within};

/// A running node. It is killed when it is dropped.
#[derive(Debug)]
pub struct Node {
    process: Child,
    address: SocketAddr,
    folder: PluginFolder,
    log: Log,
    /// The node may read it again for as long as it runs.
    _config: NamedTempFile,
    has_ended_well: bool,
}

/// What a node starts with.
#[derive(Debug)]
pub struct NodeBuilder {
    folder: anyhow::Result<PluginFolder>,
    config: String,
}

/// A node that has ended.
#[derive(Debug)]
pub struct Stopped {
    /// How.
    pub status: ExitStatus,
    /// What it had counted.
    pub counters: Counters,
    /// Everything it had logged.
    pub log: Log,
}

impl NodeBuilder {
    /// A plugin named like its component.
    pub fn plugin(self, name: &str) -> NodeBuilder {
        self.plugin_from(name, name)
    }

    /// The plugin `name`, from the component `source`.
    pub fn plugin_from(self, name: &str, source: &str) -> NodeBuilder {
        self.with_folder(|folder| folder.put(name, source))
    }

    /// The plugin's manifest.
    pub fn manifest(self, plugin: &str, text: &str) -> NodeBuilder {
        self.with_folder(|folder| folder.put_manifest(plugin, text))
    }

    /// The node's configuration file.
    pub fn config(mut self, text: &str) -> NodeBuilder {
        self.config.push_str(text);
        self
    }

    /// Starts the node and waits until it listens.
    pub async fn start(self) -> anyhow::Result<Node> {
        let (mut node, mut stdout) = self.spawn()?;
        let first = within("the first line on stdout", stdout.next_line()).await?;
        let Some(first) = first else {
            node.log.end().await?;
            bail!("the node did not start:\n{}", node.log.tail());
        };
        node.address = listening(&first).with_context(|| format!("the first line: {first}"))?;
        Ok(node)
    }

    /// Starts the node and sends it a signal once it has logged this line, before it listens;
    /// how it ended.
    pub async fn start_and_interrupt(
        self,
        wanted: impl Fn(&LogLine) -> bool,
        signal: Signal,
    ) -> anyhow::Result<ExitStatus> {
        let (mut node, mut stdout) = self.spawn()?;
        node.wait_for_log(wanted).await?;
        node.signal(signal)?;
        let status = within("the node's end", node.process.wait()).await?;
        let first = stdout.next_line().await?;
        anyhow::ensure!(first.is_none(), "it listened already: {first:?}");
        node.has_ended_well = true;
        Ok(status)
    }

    fn spawn(self) -> anyhow::Result<(Node, Lines<BufReader<ChildStdout>>)> {
        let folder = self.folder?;
        let mut config = NamedTempFile::with_suffix(".toml")?;
        config.write_all(self.config.as_bytes())?;
        let mut command = node_command()?;
        command.arg("node").arg("--config").arg(config.path());
        command.arg("--plugins").arg(folder.path());
        command.args(["--listen", "127.0.0.1:0", "--log-format", "json"]);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut process = command.spawn()?;
        let log = Log::read(process.stderr.take().context("stderr is piped")?);
        let stdout = process.stdout.take().context("stdout is piped")?;
        let node = Node {
            process,
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            folder,
            log,
            _config: config,
            has_ended_well: false,
        };
        Ok((node, BufReader::new(stdout).lines()))
    }

    fn with_folder(mut self, work: impl Fn(&PluginFolder) -> anyhow::Result<()>) -> NodeBuilder {
        self.folder = self
            .folder
            .and_then(|folder| work(&folder).map(|()| folder));
        self
    }
}

impl Node {
    /// A node without plugins and with an empty configuration, to be filled.
    pub fn builder() -> NodeBuilder {
        NodeBuilder {
            folder: PluginFolder::new(),
            config: String::new(),
        }
    }

    /// A node that runs one plugin.
    pub async fn start(plugin: &str) -> anyhow::Result<Node> {
        Node::builder().plugin(plugin).start().await
    }

    /// Where its clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its plugins folder.
    pub fn folder(&self) -> &PluginFolder {
        &self.folder
    }

    /// A client at `path`, query and all.
    pub async fn client(&self, path: &str) -> anyhow::Result<Client> {
        Client::connect(self.address, path, &[]).await
    }

    /// A client of the plugin `console`, with this query.
    pub async fn console(&self, query: &[(&str, &str)]) -> anyhow::Result<Console> {
        Console::connect(self.address, "/console", query).await
    }

    /// Several clients of the plugin `console`.
    pub async fn consoles<const N: usize>(&self) -> anyhow::Result<[Console; N]> {
        let mut clients = Vec::with_capacity(N);
        for _ in 0..N {
            clients.push(self.console(&[]).await?);
        }
        clients
            .try_into()
            .map_err(|_| anyhow::anyhow!("as many as were asked for"))
    }

    /// A client of `console` under another name.
    pub async fn console_named(
        &self,
        plugin: &str,
        query: &[(&str, &str)],
    ) -> anyhow::Result<Console> {
        Console::connect(self.address, &format!("/{plugin}"), query).await
    }

    /// A client of the plugin `console` that hears of every client that has left.
    pub async fn watcher(&self) -> anyhow::Result<Console> {
        self.console(&[("group", "watch-close")]).await
    }

    /// The HTTP answer to a client that is turned away at `path`.
    pub async fn refusal(&self, path: &str) -> anyhow::Result<Response> {
        let mut raw = self.raw().await?;
        raw.write(upgrade_request(path, &[]).as_bytes()).await?;
        let response = raw.response().await?;
        anyhow::ensure!(response.status != 101, "{path} was let in");
        Ok(response)
    }

    /// A TCP connection that has said nothing yet.
    pub async fn raw(&self) -> anyhow::Result<Raw> {
        Raw::connect(self.address).await
    }

    /// Its log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Waits for a line in the log.
    pub async fn wait_for_log(&self, wanted: impl Fn(&LogLine) -> bool) -> anyhow::Result<LogLine> {
        self.log.nth(1, wanted).await
    }

    /// Waits until this generation of a plugin has taken over.
    pub async fn generation_loaded(&self, plugin: &str, generation: u64) -> anyhow::Result<()> {
        let wanted = |line: &LogLine| {
            line.message() == "plugin loaded"
                && line.text("plugin") == plugin
                && line.number("generation") == Some(generation)
        };
        self.wait_for_log(wanted).await.map(drop)
    }

    /// Lets an event of the client sleep, and waits until it does; the id of its request.
    pub async fn put_to_sleep(&self, client: &mut Console, ms: u64) -> anyhow::Result<u64> {
        let good_night = format!("good night, {}", client.id());
        client
            .start(json!({ "do": "log", "text": good_night }))
            .await?;
        let nap = client.start(json!({ "do": "sleep", "ms": ms })).await?;
        self.wait_for_log(|line| line.message() == good_night)
            .await?;
        Ok(nap)
    }

    /// What it has counted so far.
    pub async fn counters(&self) -> anyhow::Result<Counters> {
        let before = self.log.so_far(Counters::is_in).len();
        self.signal(Signal::USR1)?;
        Ok(Counters::from_line(
            &self.log.nth(before + 1, Counters::is_in).await?,
        ))
    }

    /// Asks until a counter has reached `value`; it must not pass it.
    pub async fn wait_for_counter(&self, name: &str, value: u64) -> anyhow::Result<()> {
        let reached = async {
            while self.counters().await?.get(name)? < value {}
            anyhow::Ok(())
        };
        within(&format!("the counter {name} to reach {value}"), reached).await?;
        let now = self.counters().await?.get(name)?;
        anyhow::ensure!(now == value, "the counter {name} is {now}, not {value}");
        Ok(())
    }

    /// Resident memory of its process.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid()?.as_raw_nonzero()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line
            .and_then(|line| line.trim().strip_suffix(" kB"))
            .context("no VmRSS")?;
        Ok(kib.parse::<u64>()? * 1024)
    }

    /// Sends its process a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill_process(self.pid()?, signal)?)
    }

    /// Ends it as an operator would, and waits for the end.
    pub async fn stop(self) -> anyhow::Result<Stopped> {
        self.signal(Signal::TERM)?;
        self.wait().await
    }

    /// Waits for its end.
    pub async fn wait(mut self) -> anyhow::Result<Stopped> {
        let status = within("the node's end", self.process.wait()).await?;
        self.log.end().await?;
        let lines = self.log.so_far(Counters::is_in);
        let last = lines
            .last()
            .context("the node logged no counters at its end")?;
        let counters = Counters::from_line(last);
        self.has_ended_well = true;
        Ok(Stopped {
            status,
            counters,
            log: self.log.clone(),
        })
    }

    fn pid(&self) -> anyhow::Result<Pid> {
        let id = self.process.id().context("the node has ended")?;
        Pid::from_raw(i32::try_from(id)?).context("a process has a number")
    }
}

impl Drop for Node {
    /// A failed test shows what its node had to say; a passed one's output is not seen.
    fn drop(&mut self) {
        if !self.has_ended_well {
            eprintln!("the node's log:\n{}", self.log.tail());
        }
    }
}

fn listening(line: &str) -> anyhow::Result<SocketAddr> {
    let line: Value = serde_json::from_str(line)?;
    Ok(line["listening"]["clients"]
        .as_str()
        .context("no listening.clients")?
        .parse()?)
}
