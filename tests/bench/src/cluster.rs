//! Several nodes that know each other, in processes of their own, and a client that waits.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::connection::Connecting;
use crate::frame;
use crate::machine;
use crate::process::Process;
use crate::server::Built;

/// How long nodes may take to know each other.
const PATIENCE: Duration = Duration::from_secs(20);

/// Nodes, one worker each, wherever the system runs them.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    register: SocketAddr,
    _register: Process,
    folder: TempDir,
}

/// One of them.
pub(crate) struct Node {
    process: Process,
    pub(crate) clients: SocketAddr,
    api: SocketAddr,
}

impl Cluster {
    /// So many nodes, once all of them know all others.
    pub(crate) fn start(nodes: usize, built: &Built) -> Result<Cluster> {
        Cluster::of(&vec!["full"; nodes], "console.wasm", built)
    }

    /// A gateway, and then a node that runs `echo` for it.
    pub(crate) fn start_gateway(built: &Built) -> Result<Cluster> {
        let cluster = Cluster::of(&["gateway", "full"], "echo.wasm", built)?;
        cluster.nodes[0].wait_for(|peers| {
            let mut peers = peers.iter();
            peers.any(|peer| peer["plugins"][0]["name"] == "echo")
        })?;
        Ok(cluster)
    }

    /// Nodes of these roles.
    fn of(roles: &[&str], component: &str, built: &Built) -> Result<Cluster> {
        let folder = tempfile::tempdir()?;
        std::fs::copy(built.plugins.join(component), folder.path().join(component))
            .with_context(|| format!("{component} is missing: `cargo xtask build-plugins`"))?;
        let mut register = Command::new(&built.node);
        register.args(["register", "--listen", "127.0.0.1:0", "--log", "warn"]);
        let register = Process::start(&mut register)?;
        let mut cluster = Cluster {
            nodes: Vec::new(),
            register: register.address("register")?,
            _register: register,
            folder,
        };
        for role in roles {
            cluster.add_as(role, built)?;
        }
        for node in &cluster.nodes {
            node.wait_for(|peers| {
                peers.len() + 1 == roles.len() && peers.iter().all(|peer| peer["state"] == "alive")
            })?;
        }
        Ok(cluster)
    }

    /// One more node, which does not know the others yet.
    pub(crate) fn add(&mut self, built: &Built) -> Result<&Node> {
        self.add_as("full", built)
    }

    fn add_as(&mut self, role: &str, built: &Built) -> Result<&Node> {
        let mut node = Command::new(&built.node);
        node.args(["node", "--workers", "1", "--log", "warn", "--role", role])
            .args(["--listen", "127.0.0.1:0", "--api", "127.0.0.1:0"])
            .args(["--mesh", "127.0.0.1:0"])
            .args(["--register", &self.register.to_string()])
            .args(["--set", "limits.connects_per_second=0"])
            .args(["--set", "limits.groups_per_client=1000000"])
            .arg("--plugins")
            .arg(self.folder.path())
            .arg("--cache")
            .arg(self.folder.path().join("cache"));
        let process = Process::start(&mut node)?;
        self.nodes.push(Node {
            clients: process.address("clients")?,
            api: process.address("api")?,
            process,
        });
        self.nodes.last().context("there is one now")
    }

    /// Where clients connect.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.clients).collect()
    }
}

impl Node {
    /// CPU time it has used.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        machine::cpu_of(self.process.id())
    }

    /// What it has allocated.
    pub(crate) fn allocated_bytes(&self) -> Result<u64> {
        Ok(machine::resident(self.process.id())?.anonymous_bytes)
    }

    /// Waits until its peers are as wanted, and says how long the last look at them took.
    pub(crate) fn wait_for(&self, wanted: impl Fn(&[Value]) -> bool) -> Result<Duration> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let asked = Instant::now();
            let nodes = self.get("/v1/nodes")?;
            if wanted(nodes["peers"].as_array().context("no peers")?) {
                return Ok(asked.elapsed());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the nodes do not know each other after {PATIENCE:?}")
    }

    /// Waits until it knows of so many members of a group, here and on the other nodes.
    pub(crate) fn wait_for_members(&self, plugin: &str, group: &str, members: u64) -> Result<()> {
        let path = format!("/v1/plugins/{plugin}/get-client-count-by-group?group={group}");
        let started = Instant::now();
        while self.get(&path)?["value"] != members {
            ensure!(
                started.elapsed() < PATIENCE,
                "not all members of the group are known after {PATIENCE:?}"
            );
        }
        Ok(())
    }

    /// Deliveries that it has queued for its peers.
    pub(crate) fn deliveries(&self) -> Result<u64> {
        let nodes = self.get("/v1/nodes")?;
        let peers = nodes["peers"].as_array().context("no peers")?;
        Ok(peers
            .iter()
            .filter_map(|peer| peer["deliveries"].as_u64())
            .sum())
    }

    fn get(&self, path: &str) -> Result<Value> {
        let mut socket = TcpStream::connect(self.api)?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.api
        );
        socket.write_all(request.as_bytes())?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        Ok(serde_json::from_str(body)?)
    }
}

/// A client of `console` that asks and waits.
pub(crate) struct Talker {
    socket: TcpStream,
    input: Vec<u8>,
}

impl Talker {
    /// Connects, and takes the greeting.
    pub(crate) fn connect(address: SocketAddr, path: &str) -> Result<(Talker, String)> {
        let (socket, input) = Connecting::start(address, path)?.open()?;
        let mut talker = Talker { socket, input };
        let greeting: Value = serde_json::from_str(&talker.next()?)?;
        let id = greeting["client"]
            .as_str()
            .context("no client id")?
            .to_owned();
        Ok((talker, id))
    }

    /// Sends a request.
    pub(crate) fn say(&mut self, request: &str) -> Result<()> {
        let mut bytes = Vec::with_capacity(request.len() + 8);
        frame::append_masked(&mut bytes, frame::TEXT, request.as_bytes());
        Ok(self.socket.write_all(&bytes)?)
    }

    /// Asks, and waits for the answer, which must be good.
    pub(crate) fn ask(&mut self, request: &str) -> Result<String> {
        self.say(request)?;
        let answer = self.next()?;
        ensure!(
            answer.contains("\"ok\""),
            "{request} was answered with {answer}"
        );
        Ok(answer)
    }

    /// Waits for the next message.
    pub(crate) fn next(&mut self) -> Result<String> {
        loop {
            if let Some((frame, length)) = frame::first(&self.input)? {
                let is_text = frame.opcode == frame::TEXT;
                let text = String::from_utf8_lossy(frame.payload).into_owned();
                self.input.drain(..length);
                if is_text {
                    return Ok(text);
                }
                continue;
            }
            let mut bytes = [0; 4096];
            let read = self.socket.read(&mut bytes)?;
            ensure!(read > 0, "the node closed the connection");
            self.input.extend_from_slice(&bytes[..read]);
        }
    }
}
