//! Several nodes that know each other, and the register that tells them.

use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use crate::command::node_command;
use crate::{Console, Log, Node, NodeBuilder, within};

/// A register, in a process of its own. It is killed when it is dropped.
#[derive(Debug)]
pub struct Register {
    process: Child,
    address: SocketAddr,
    log: Log,
}

impl Register {
    /// Starts one, on any port.
    pub async fn start() -> anyhow::Result<Register> {
        Register::start_at("127.0.0.1:0", &[]).await
    }

    /// Starts one at this address, with these arguments.
    pub async fn start_at(address: &str, arguments: &[&str]) -> anyhow::Result<Register> {
        let mut command = node_command()?;
        command
            .args(["register", "--listen", address, "--log-format", "json"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut process = command.spawn()?;
        let log = Log::read(process.stderr.take().context("stderr is piped")?);
        let stdout = process.stdout.take().context("stdout is piped")?;
        let mut lines = BufReader::new(stdout).lines();
        let first = within("the first line on stdout", lines.next_line()).await?;
        let Some(first) = first else {
            log.end().await?;
            bail!("the register did not start:\n{}", log.tail());
        };
        let first: Value = serde_json::from_str(&first)?;
        let address = first["listening"]["register"].as_str();
        Ok(Register {
            process,
            address: address.context("no listening.register")?.parse()?,
            log,
        })
    }

    /// Where nodes connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Ends it without a word.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        let id = self.process.id().context("the register has ended")?;
        let id = Pid::from_raw(i32::try_from(id)?).context("a process has a number")?;
        kill_process(id, Signal::KILL)?;
        within("the register's end", self.process.wait()).await?;
        Ok(())
    }
}

/// Nodes that know each other.
#[derive(Debug)]
pub struct Cluster {
    register: Register,
    nodes: Vec<Node>,
}

impl Cluster {
    /// So many nodes, each built by `build`, once all of them know all others.
    pub async fn start(
        nodes: usize,
        build: impl Fn(NodeBuilder) -> NodeBuilder,
    ) -> anyhow::Result<Cluster> {
        let register = Register::start().await?;
        let mut cluster = Cluster {
            register,
            nodes: Vec::new(),
        };
        for _ in 0..nodes {
            let builder = build(Node::builder().alone()).registered_at(&[&cluster.register]);
            cluster.nodes.push(builder.start().await?);
        }
        for node in &cluster.nodes {
            node.wait_for_peers(nodes - 1).await?;
        }
        Ok(cluster)
    }

    /// The nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The nodes, to be taken apart.
    pub fn nodes_mut(&mut self) -> &mut Vec<Node> {
        &mut self.nodes
    }

    /// Their register.
    pub fn register(&self) -> &Register {
        &self.register
    }
}

impl std::ops::Index<usize> for Cluster {
    type Output = Node;

    fn index(&self, number: usize) -> &Node {
        &self.nodes[number]
    }
}

/// Clients of another plugin, one at each node, that let whoever passes know that all nodes
/// have told all others what they had to say.
#[derive(Debug)]
pub struct Barrier(tokio::sync::Mutex<Vec<Console>>);

/// The plugin of those clients.
pub(crate) const BARRIER: &str = "barrier";

impl Barrier {
    /// One for these nodes, which run the plugin `barrier`.
    pub async fn new(nodes: impl IntoIterator<Item = &Node>) -> anyhow::Result<Barrier> {
        let mut consoles = Vec::new();
        for node in nodes {
            consoles.push(node.console_at(BARRIER, &[]).await?);
        }
        Ok(Barrier(tokio::sync::Mutex::new(consoles)))
    }

    /// What happened at any node before this call is known at all of them after it: a message
    /// from each to each comes after everything that was told before it.
    pub async fn pass(&self) -> anyhow::Result<()> {
        let mut consoles = self.0.lock().await;
        let ids: Vec<String> = consoles
            .iter()
            .map(|console| console.id().to_owned())
            .collect();
        for sender in consoles.iter_mut() {
            let own = sender.id().to_owned();
            for id in ids.iter().filter(|id| **id != own) {
                sender
                    .ok_at_once(json!({ "do": "send-to-client", "client": id, "text": "pass" }))
                    .await?;
            }
        }
        for receiver in consoles.iter_mut() {
            for _ in 1..ids.len() {
                let message = receiver.next().await?;
                ensure!(
                    message.to_text()? == "pass",
                    "{message:?} came to the barrier"
                );
            }
        }
        Ok(())
    }
}
