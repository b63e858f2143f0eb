//! Several nodes that know each other, and the register that tells them.

use std::net::SocketAddr;
use std::process::ExitStatus;

use anyhow::ensure;
use rustix::process::Signal;
use serde_json::json;
use tokio::process::Command;

use crate::command::{after_script, node_command};
use crate::process::Process;
use crate::{Console, Log, Node, NodeBuilder, Place};

/// A register, in a process of its own. It is killed when it is dropped.
#[derive(Debug)]
pub struct Register {
    process: Process,
    address: SocketAddr,
}

impl Register {
    /// Starts one, on any port.
    pub async fn start() -> anyhow::Result<Register> {
        Register::start_at("127.0.0.1:0", &[]).await
    }

    /// Starts one at this address, with these arguments.
    pub async fn start_at(address: &str, arguments: &[&str]) -> anyhow::Result<Register> {
        let mut command = register_command(address)?;
        command.args(arguments);
        Register::from_process(Process::spawn(command)?).await
    }

    /// Starts one, on any port, which a shell becomes after this script.
    pub async fn start_after_script(script: &str) -> anyhow::Result<Register> {
        let command = after_script(script, &register_command("127.0.0.1:0")?);
        Register::from_process(Process::spawn(command)?).await
    }

    /// Starts one at this place of a wire.
    pub async fn start_in(place: &Place) -> anyhow::Result<Register> {
        let command = register_command(&place.any_port())?;
        Register::from_process(place.spawn(command)?).await
    }

    async fn from_process(mut process: Process) -> anyhow::Result<Register> {
        process.listen().await?;
        let address = process.listening("register")?;
        Ok(Register { process, address })
    }

    /// Where nodes connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its log.
    pub fn log(&self) -> &Log {
        self.process.log()
    }

    /// Resident memory of its process.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        self.process.resident_bytes()
    }

    /// Sends its process a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.process.signal(signal)
    }

    /// Waits for its end.
    pub async fn wait(mut self) -> anyhow::Result<ExitStatus> {
        self.process.wait().await
    }

    /// Ends it without a word.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.process.kill().await
    }
}

fn register_command(address: &str) -> anyhow::Result<Command> {
    let mut command = node_command()?;
    command.args(["register", "--listen", address, "--log-format", "json"]);
    Ok(command)
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
