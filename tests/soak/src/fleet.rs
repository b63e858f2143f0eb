//! The nodes, each in a process of its own and behind a proxy for its peers, and their register.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use jackfield_tests::{
    Api, Counters, DEADLINE, Log, LogLine, Node, Protocol, Proxy, Register, component,
};

/// How often the nodes are asked what they know of each other.
const LOOK: Duration = Duration::from_millis(50);

/// How long a node may take to drain: the default of `drain_timeout`.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Files that a node may have open at its end beside those that it began with: connections of
/// peers and of the API come and go.
const FILES_MORE: usize = 8;

/// Counters of what must not happen, whatever fault there is.
const NEVER: &[&str] = &[
    "accepts_failed",
    "api_denied",
    "clients_broke_protocol",
    "clients_silent",
    "clients_too_fast",
    "close_timed_out",
    "events_lost",
    "events_overloaded",
    "files_limited",
    "handshakes_limited",
    "handshakes_refused",
    "handshakes_timed_out",
    "loads_failed",
    "mesh_not_understood",
    "messages_too_big",
    "on_close_lost",
    "outbox_closed",
    "outbox_dropped",
    "traps_deadline",
    "traps_exit",
    "traps_memory",
    "traps_other",
    "traps_out_of_bounds",
    "traps_panic",
    "traps_retired",
    "traps_stack",
    "traps_unreachable",
    "traps_wait",
];

/// Lines of a node that the soak's faults explain begin so, or with `jackfield::mesh`.
const MESH: &str = "jackfield::mesh";

pub(crate) struct Fleet {
    register: Register,
    members: Vec<Member>,
    /// Two builds of the same plugin, which differ in a section that nobody reads.
    builds: [Vec<u8>; 2],
    build: usize,
    config: String,
}

struct Member {
    proxy: Proxy,
    node: Option<Node>,
    generation: u64,
    files: usize,
}

impl Fleet {
    /// So many nodes that know each other.
    pub(crate) async fn start(nodes: usize, clients: usize) -> Result<Fleet> {
        let plugin = std::fs::read(component("console")?)?;
        // A custom section: its id, its length, and its content, which begins with its name.
        let other = [&plugin[..], &[0, 6, 4], b"soak", b"2"].concat();
        let mut fleet = Fleet {
            register: Register::start().await?,
            members: Vec::new(),
            builds: [plugin, other],
            build: 0,
            // More than there are, and no more than the node has files for, of which it would warn.
            config: format!("[limits]\nclients = {}\n", clients + 200),
        };
        for _ in 0..nodes {
            fleet.members.push(Member {
                proxy: Proxy::start().await?,
                node: None,
                generation: 0,
                files: 0,
            });
        }
        for node in 0..nodes {
            fleet.start_node(node).await?;
        }
        Ok(fleet)
    }

    /// Starts a node that was not there, or has ended.
    pub(crate) async fn start_node(&mut self, node: usize) -> Result<()> {
        let build = &self.builds[self.build];
        let put = |folder: &Path| Ok(std::fs::write(folder.join("console.wasm"), build)?);
        let builder = Node::builder()
            .alone()
            .config(&self.config)
            .change_folder(put);
        let builder = builder.registered_at(&[&self.register]);
        let member = &mut self.members[node];
        let started = builder.start_behind(&member.proxy).await?;
        member.generation = 1;
        member.node = Some(started);
        Ok(())
    }

    /// Notes how many files a node has open when it has no clients.
    pub(crate) fn note_files(&mut self, node: usize) -> Result<()> {
        self.members[node].files = self.node(node)?.open_files()?;
        Ok(())
    }

    pub(crate) fn node(&self, node: usize) -> Result<&Node> {
        let found = self.members[node].node.as_ref();
        found.with_context(|| format!("node {node} is not there"))
    }

    pub(crate) fn proxy(&self, node: usize) -> &Proxy {
        &self.members[node].proxy
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn api(&self, node: usize) -> Result<Api> {
        self.node(node)?.calls(Protocol::Http)
    }

    /// Waits until each node knows each other one, and all that it holds.
    pub(crate) async fn wait_until_all_are_alive(&self) -> Result<()> {
        for node in 0..self.len() {
            self.wait_for_alive_peers(node, self.len() - 1).await?;
        }
        Ok(())
    }

    pub(crate) async fn wait_for_alive_peers(&self, node: usize, wanted: usize) -> Result<()> {
        let started = Instant::now();
        loop {
            let peers = self.node(node)?.peers().await?;
            let alive = peers.iter().filter(|peer| peer["state"] == "alive");
            if alive.count() == wanted && peers.len() == wanted {
                return Ok(());
            }
            ensure!(
                started.elapsed() < DEADLINE,
                "node {node} does not have {wanted} peers that are alive: {peers:?}"
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until a node has no other clients than these, and has done with all that have left.
    pub(crate) async fn wait_for_clients(&self, node: usize, clients: usize) -> Result<()> {
        let started = Instant::now();
        loop {
            let counters = self.node(node)?.counters().await?;
            let [accepted, left] =
                ["clients_accepted", "clients_left"].map(|name| counters.get(name));
            let there = accepted? - left?;
            if there == u64::try_from(clients)? {
                return Ok(());
            }
            ensure!(
                started.elapsed() < DEADLINE,
                "node {node} has {there} clients, and should have {clients}"
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Replaces the plugin by its other build, at all nodes.
    pub(crate) async fn reload(&mut self) -> Result<()> {
        self.build = 1 - self.build;
        for member in &mut self.members {
            let node = member.node.as_ref().context("a node")?;
            node.folder()
                .put_bytes("console", &self.builds[self.build])?;
            member.generation += 1;
        }
        for member in &self.members {
            let node = member.node.as_ref().context("a node")?;
            node.generation_loaded("console", member.generation).await?;
        }
        Ok(())
    }

    /// Kills a node.
    pub(crate) async fn kill(&mut self, node: usize) -> Result<()> {
        let killed = self.members[node].node.take().context("a node")?;
        let log = killed.log().clone();
        killed.kill().await?;
        check_log(&log).with_context(|| format!("node {node}"))
    }

    /// Drains a node, and waits for its end; how long it took.
    pub(crate) async fn drain(&mut self, node: usize) -> Result<Duration> {
        let started = Instant::now();
        let drained = self.members[node].node.take().context("a node")?;
        let stopped = drained.stop().await?;
        let took = started.elapsed();
        let what = || format!("node {node} at its end");
        ensure!(stopped.status.success(), "{}: {}", what(), stopped.status);
        ensure!(took < DRAIN_TIMEOUT, "{} took {took:?}", what());
        check_log(&stopped.log).with_context(what)?;
        check_counters(&stopped.counters).with_context(what)?;
        Ok(took)
    }

    /// Waits until a node has no more files open than it had without clients: how many it had, and
    /// has.
    pub(crate) async fn check_files(&self, node: usize) -> Result<[usize; 2]> {
        let started = Instant::now();
        let before = self.members[node].files;
        loop {
            let now = self.node(node)?.open_files()?;
            if now <= before + FILES_MORE {
                return Ok([before, now]);
            }
            if started.elapsed() > DEADLINE {
                bail!("node {node} has {now} files open without clients, and had {before}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn check_log(log: &Log) -> Result<()> {
    let is_unexplained = |line: &LogLine| match line.level() {
        "INFO" => false,
        "WARN" => !line.target().starts_with(MESH),
        // `ERROR`, and what is no line of a log: a panic.
        _ => true,
    };
    let lines = log.so_far(is_unexplained);
    let lines: Vec<_> = lines.iter().map(|line| line.to_string()).collect();
    ensure!(lines.is_empty(), "nothing explains:\n{}", lines.join("\n"));
    Ok(())
}

fn check_counters(counters: &Counters) -> Result<()> {
    for name in NEVER {
        let count = counters.get(name)?;
        ensure!(count == 0, "the counter {name} is {count}");
    }
    Ok(())
}
