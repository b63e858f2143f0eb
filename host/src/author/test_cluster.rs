//! The nodes of a scenario or of a replay: real nodes in this process, each on threads of its own, with one clock that
//! stands still.
//!
//! After each line that does something, the nodes are waited for until they rest: no event is under way,
//! no timer is due, nothing waits between nodes, and all that was sent has come. A node that does not rest
//! within the time of a line ends the whole.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail, ensure};
use tokio::runtime::Runtime;

use super::build::cache;
use super::scripted_client::ScriptedClient;
use super::sources::replace;
use crate::config::{Config, TrustedProxy};
use crate::counters::Counters;
use crate::guest::{CallError, Caller};
use crate::id::Incarnation;
use crate::live_trace::{SHARES, Step, TraceFound, TraceRequest, TraceStep, TraceTarget};
use crate::mesh::PeerState;
use crate::node::{Activity, Node};
use crate::plugin::Plugin;
use crate::registry::Clock;
use crate::router::client_id;

/// How often timers may fire while one line moves the clock.
const FIRINGS: u128 = 10_000;

/// The pause between two looks at nodes that do not rest yet, after the first ones, which are made at once.
const LOOK: Duration = Duration::from_millis(1);
const LOOKS_AT_ONCE: u32 = 100;

/// The time for clients to be closed when a node is drained.
const DRAIN: Duration = Duration::from_secs(1);

/// After which silence a node is suspect, and after which it is gone, for the others.
const SUSPECT_AFTER: Duration = Duration::from_secs(1);
const GONE_AFTER: Duration = Duration::from_secs(2);

/// The time for nodes to start, to know each other, to notice that one is gone, and to load a build.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(30);

/// What runs on the nodes, and when.
#[derive(Clone, Copy)]
pub(super) struct ClusterSettings<'a> {
    /// The name of the plugin.
    pub(super) plugin: &'a str,
    /// The plugins folder of all nodes.
    pub(super) plugins: &'a Path,
    /// The number of nodes.
    pub(super) nodes: usize,
    /// The most clients of each node.
    pub(super) clients: usize,
    /// The size of the largest message that clients send, in bytes, if it is larger than nodes allow
    /// anyway.
    pub(super) message_bytes: usize,
    /// Where the clock begins.
    pub(super) clock: SystemTime,
    /// How long the nodes may take for one line.
    pub(super) step_timeout: Duration,
}

/// The nodes of a scenario or of a replay.
pub(super) struct TestCluster<'a> {
    settings: ClusterSettings<'a>,
    nodes: Vec<Option<ScenarioNode>>,
    clock: Clock,
    /// The counters of all nodes, also of those that have ended.
    counters: Vec<Arc<Counters>>,
    reloads: u32,
}

/// A node that runs.
struct ScenarioNode {
    node: Option<Node>,
    /// What runs the node. It is ended with all its tasks, as a process is.
    runtime: Option<Runtime>,
    clients: String,
    mesh: Option<String>,
}

impl Drop for ScenarioNode {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl TestCluster<'_> {
    /// Starts the nodes with the plugin, and waits until they know each other.
    ///
    /// # Errors
    ///
    /// A node does not start, or does not load the plugin.
    pub(super) async fn start(settings: ClusterSettings<'_>) -> anyhow::Result<TestCluster<'_>> {
        let mut cluster = TestCluster {
            settings,
            nodes: (0..settings.nodes).map(|_| None).collect(),
            clock: Clock::standing(settings.clock),
            counters: Vec::new(),
            reloads: 0,
        };
        for number in 1..=settings.nodes {
            cluster.start_node(number).await?;
        }
        cluster.wait_for_peers().await?;
        Ok(cluster)
    }

    /// Starts a node that does not run, and waits until the others know it.
    ///
    /// # Errors
    ///
    /// The node runs already, or does not start.
    pub(super) async fn start_again(&mut self, number: usize) -> anyhow::Result<()> {
        ensure!(
            self.nodes[number - 1].is_none(),
            "node {number} runs already"
        );
        self.start_node(number).await?;
        self.wait_for_peers().await
    }

    async fn start_node(&mut self, number: usize) -> anyhow::Result<()> {
        let config = self.config(number)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let (counters, clock) = (Arc::<Counters>::default(), self.clock.clone());
        self.counters.push(counters.clone());
        let starting = runtime.spawn(async move {
            let starting = Box::pin(Node::start_with_clock(&config, counters, clock));
            starting.await
        });
        // What it has begun ends with it.
        let mut started = ScenarioNode {
            node: None,
            runtime: Some(runtime),
            clients: String::new(),
            mesh: None,
        };
        let node = tokio::time::timeout(CHANGE_TIMEOUT, starting).await;
        let node = node.context("the node does not start in time")???;
        let clients = node.addresses().first().context("an address for clients")?;
        started.clients = clients.to_string();
        started.mesh = node.mesh_address().map(|address| address.to_string());
        let plugin = node
            .plugins()
            .get(self.settings.plugin)
            .context("the plugin")?;
        let is_loaded = || plugin.generation().is_some() || plugin.failure().is_some();
        wait(CHANGE_TIMEOUT, is_loaded)
            .await
            .context("the plugin is not loaded in time")?;
        if let Some(why) = plugin.failure() {
            bail!("the node does not load the plugin: {why}");
        }
        started.node = Some(node);
        self.nodes[number - 1] = Some(started);
        Ok(())
    }

    fn config(&self, number: usize) -> anyhow::Result<Config> {
        let listen = "127.0.0.1:0".parse();
        let mut config = Config {
            listen: vec![listen.map_err(|why| anyhow::anyhow!("an address: {why}"))?],
            api: String::new(),
            plugins: self.settings.plugins.to_owned(),
            builds: builds(self.settings.plugins, number),
            cache: cache()?,
            ..Config::default()
        };
        if self.nodes.len() > 1 {
            "127.0.0.1:0".clone_into(&mut config.mesh.listen);
            let others = self.running().filter_map(|(_, node)| node.mesh.clone());
            config.mesh.peers = others.collect();
        }
        // A build that the author has just written stays, whatever it does.
        config.plugin.probation = Duration::ZERO;
        config.limits.clients = self.settings.clients;
        let message_bytes = config.limits.message_bytes.max(self.settings.message_bytes);
        config.limits.message_bytes = message_bytes;
        // The clients are those of whom the scenario or the recording says so.
        let here = IpAddr::from(Ipv4Addr::LOCALHOST);
        config.proxy.trusted = vec![TrustedProxy::Network(here.into())];
        config.proxy.protocol = true;
        config.limits.drain_timeout = DRAIN;
        config.limits.close_timeout = DRAIN;
        config.limits.suspect_after = SUSPECT_AFTER;
        config.limits.gone_after = GONE_AFTER;
        Ok(config)
    }

    fn running(&self) -> impl Iterator<Item = (usize, &ScenarioNode)> {
        let nodes = self.nodes.iter().enumerate();
        nodes.filter_map(|(index, node)| Some((index + 1, node.as_ref()?)))
    }

    fn node(&self, number: usize) -> anyhow::Result<&ScenarioNode> {
        let node = self.nodes[number - 1].as_ref();
        node.with_context(|| format!("node {number} does not run"))
    }

    /// The address at which a node has its clients.
    ///
    /// # Errors
    ///
    /// The node does not run.
    pub(super) fn address(&self, number: usize) -> anyhow::Result<&str> {
        Ok(&self.node(number)?.clients)
    }

    /// Ends a node as its process would be killed, and waits until the others have noticed.
    ///
    /// # Errors
    ///
    /// The node does not run, or the others do not notice.
    pub(super) async fn kill(&mut self, number: usize) -> anyhow::Result<()> {
        self.node(number)?;
        self.nodes[number - 1] = None;
        self.wait_for_peers().await
    }

    /// Drains a node, which closes its clients with 1012, and waits until the others have noticed.
    ///
    /// # Errors
    ///
    /// The node does not run, or the others do not notice.
    pub(super) async fn drain(&mut self, number: usize) -> anyhow::Result<()> {
        self.node(number)?;
        if let Some(mut ended) = self.nodes[number - 1].take()
            && let (Some(node), Some(runtime)) = (ended.node.take(), &ended.runtime)
        {
            runtime.spawn(node.drain()).await?;
        }
        self.wait_for_peers().await
    }

    /// Loads the component again, as a new generation, on all nodes.
    ///
    /// # Errors
    ///
    /// A node does not load it.
    pub(super) async fn reload(&mut self) -> anyhow::Result<()> {
        self.reloads += 1;
        let plugins = self.plugins();
        let former: Vec<_> = plugins.iter().map(|plugin| plugin.generation()).collect();
        let component = self
            .settings
            .plugins
            .join(self.settings.plugin)
            .with_extension("wasm");
        let manifest = component.with_extension("toml");
        // A manifest with one more comment means the same, and is another build.
        let text = std::fs::read_to_string(&manifest).context("the manifest")?;
        let text = format!("{text}\n# reload {}\n", self.reloads);
        replace(&manifest, text.as_bytes())?;
        let is_loaded = || {
            let now = plugins.iter().map(|plugin| plugin.generation());
            now.zip(&former).all(|(now, former)| now != *former)
        };
        wait(CHANGE_TIMEOUT, is_loaded)
            .await
            .context("the component is not loaded again in time")
    }

    /// Calls the plugin on a node, as a backend does.
    ///
    /// # Errors
    ///
    /// The node does not run.
    pub(super) async fn call(
        &self,
        number: usize,
        method: String,
        payload: Vec<u8>,
    ) -> anyhow::Result<Result<Vec<u8>, CallError>> {
        let node = self.node(number)?;
        let plugin = self.plugin_of(node).context("the plugin")?;
        let runtime = node.runtime.as_ref().context("the node's threads")?;
        let calling = async move { plugin.on_call(Caller::Api("test"), &method, &payload).await };
        let answered =
            tokio::time::timeout(self.settings.step_timeout, runtime.spawn(calling)).await;
        Ok(answered.with_context(|| {
            format!("no answer comes within {:?}", self.settings.step_timeout)
        })??)
    }

    /// Begins to record all clients that connect to a node.
    ///
    /// # Errors
    ///
    /// The node does not run.
    pub(super) async fn begin_recording(&self, number: usize) -> anyhow::Result<()> {
        self.recorded(number, false).await.map(drop)
    }

    /// Reads some of what was recorded on a node; nothing: there is no more.
    ///
    /// # Errors
    ///
    /// The node does not run, or the recording was not read for too long.
    pub(super) async fn read_recording(&self, number: usize) -> anyhow::Result<Vec<TraceStep>> {
        let steps = self.recorded(number, true).await?;
        let is_lost = steps.iter().any(|step| step.step == Some(Step::Missed(0)));
        ensure!(!is_lost, "one step has taken more than ten seconds");
        Ok(steps)
    }

    async fn recorded(&self, number: usize, is_again: bool) -> anyhow::Result<Vec<TraceStep>> {
        let request = TraceRequest {
            trace: 1,
            target: TraceTarget::Share(SHARES),
            with_payloads: true,
            is_recording: true,
            is_again,
        };
        let plugin = self.plugin_of(self.node(number)?).context("the plugin")?;
        let read = plugin.namespace().read_trace(&request, Duration::ZERO);
        Ok(read.await?)
    }

    /// Gives a client of a node this uid, these groups and this info, in place of what it has.
    ///
    /// # Errors
    ///
    /// The node does not run, the client is not there, or the limits do not allow it.
    pub(super) async fn put_in_state(
        &self,
        number: usize,
        client: &str,
        state: &TraceFound,
    ) -> anyhow::Result<()> {
        let plugin = self.plugin_of(self.node(number)?).context("the plugin")?;
        let (router, client) = (plugin.router(), client_id(client)?);
        match &state.uid {
            Some(uid) => router.bind_uid(client, uid).await?,
            None => drop(router.unbind_uid(client, None).await?),
        }
        for group in plugin.namespace().client_status(client)?.groups {
            if !state.groups.iter().any(|kept| **kept == *group) {
                router.leave_group(client, &group).await?;
            }
        }
        for group in &state.groups {
            router.join_group(client, group).await?;
        }
        let info = state.info.clone().into_iter().collect();
        Ok(router.set_info(client, info).await?)
    }

    /// Moves the clock. Timers fire in their order, and what each of them sends has come before the clock
    /// moves on.
    ///
    /// # Errors
    ///
    /// The nodes do not rest, or too many timers fire.
    pub(super) async fn advance(
        &self,
        by: Duration,
        clients: &[&ScriptedClient],
    ) -> anyhow::Result<()> {
        let until = self.clock.now() + by;
        check_firings(self.planned_firings(until))?;
        let mut firings = 0;
        while self.advance_to_next_timer(until).await? {
            firings += 1;
            check_firings(firings)?;
            self.rest(clients).await?;
        }
        self.rest(clients).await
    }

    /// Moves the clock to the time when the next timer fires, or to the end. Returns whether one fires.
    ///
    /// # Errors
    ///
    /// The nodes do not agree on who fires the timers.
    pub(super) async fn advance_to_next_timer(&self, until: Instant) -> anyhow::Result<bool> {
        let fire = || {
            self.running()
                .all(|(_, node)| activity(node).fires_its_share)
        };
        let all_fire = wait(CHANGE_TIMEOUT, fire).await;
        all_fire.context("the nodes do not agree in time on who fires the timers")?;
        let next = self.next_timer().filter(|next| *next <= until);
        let to = next.unwrap_or(until);
        self.clock
            .advance(to.saturating_duration_since(self.clock.now()));
        Ok(next.is_some())
    }

    /// The time of the clock.
    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// How often the timers that are set fire up to this time, on the node where that is most. Their events may
    /// set others.
    fn planned_firings(&self, until: Instant) -> u128 {
        let of_plugin = |plugin: Arc<Plugin>| {
            let (timers, _) = plugin.namespace().timers().all_after(None, usize::MAX);
            let firings = timers.into_iter().map(|(.., schedule)| {
                let left = until.checked_duration_since(schedule.at);
                left.map_or(0, |left| {
                    let every = schedule.every.map_or(u128::MAX, |every| every.as_nanos());
                    1 + left.as_nanos() / every.max(1)
                })
            });
            firings.sum()
        };
        self.plugins().into_iter().map(of_plugin).max().unwrap_or(0)
    }

    fn next_timer(&self) -> Option<Instant> {
        let plugins = self.plugins().into_iter();
        plugins
            .filter_map(|plugin| plugin.namespace().timers().next_due())
            .min()
    }

    /// Waits until the nodes rest, and the clients have all that was sent to them.
    ///
    /// # Errors
    ///
    /// The nodes do not rest in time. The error says which one does what.
    pub(super) async fn rest(&self, clients: &[&ScriptedClient]) -> anyhow::Result<()> {
        let (mut unrested, mut looks) = (String::new(), 0);
        let resting = async {
            loop {
                let before = self.activities();
                match self.why_busy(&before, clients) {
                    Some(why) => unrested = why,
                    None if self.activities() == before => return,
                    None => {}
                }
                looks += 1;
                match looks < LOOKS_AT_ONCE {
                    true => tokio::task::yield_now().await,
                    false => tokio::time::sleep(LOOK).await,
                }
            }
        };
        let rested = tokio::time::timeout(self.settings.step_timeout, resting).await;
        rested.map_err(|_| {
            anyhow::anyhow!(
                "after {:?}, {unrested} (--timeout allows more)",
                self.settings.step_timeout
            )
        })?;
        clients.iter().try_for_each(|client| client.check_room())
    }

    fn activities(&self) -> Vec<(usize, Activity)> {
        self.running()
            .map(|(number, node)| (number, activity(node)))
            .collect()
    }

    fn why_busy(
        &self,
        activities: &[(usize, Activity)],
        clients: &[&ScriptedClient],
    ) -> Option<String> {
        let open = || clients.iter().filter(|client| client.is_open());
        for (number, activity) in activities {
            let own = || open().filter(|client| client.node == *number);
            let (sessions, connected) = (activity.sessions, own().count());
            if activity.is_busy {
                return Some(format!(
                    "node {number} is still busy with an event or a timer"
                ));
            }
            if sessions != connected {
                return Some(format!(
                    "node {number} has {sessions} clients, and {connected} are connected"
                ));
            }
            let sent = activity.frames;
            let came: u64 = own().map(|client| client.frames()).sum();
            if sent != came {
                return Some(format!(
                    "node {number} has sent {sent} frames to its clients, and {came} have come"
                ));
            }
        }
        let handled = self.handled();
        for client in open() {
            if self.nodes[client.node - 1].is_none() {
                return Some(format!(
                    "a client of node {} is not closed yet",
                    client.node
                ));
            }
            if client.handled > handled {
                return Some("a message is not handled yet".to_owned());
            }
        }
        None
    }

    /// How many messages all nodes have handled.
    pub(super) fn handled(&self) -> u64 {
        self.counters
            .iter()
            .map(|counters| counters.messages_in.get())
            .sum()
    }

    /// How many events have trapped on all nodes.
    pub(super) fn traps(&self) -> u64 {
        let counts = self
            .counters
            .iter()
            .flat_map(|counters| counters.snapshot());
        let traps = counts.filter(|(name, ..)| name.starts_with("traps_"));
        traps.map(|(.., count)| count).sum()
    }

    fn plugins(&self) -> Vec<Arc<Plugin>> {
        self.running()
            .filter_map(|(_, node)| self.plugin_of(node))
            .collect()
    }

    fn plugin_of(&self, node: &ScenarioNode) -> Option<Arc<Plugin>> {
        node.node.as_ref()?.plugins().get(self.settings.plugin)
    }

    /// Waits until each node knows the others that run, and no others.
    async fn wait_for_peers(&self) -> anyhow::Result<()> {
        let own = |node: &ScenarioNode| node.node.as_ref().map(Node::incarnation);
        let all: Vec<Incarnation> = self.running().filter_map(|(_, node)| own(node)).collect();
        let know_each_other = || {
            self.running().all(|(_, node)| {
                let peers = activity(node).peers;
                let others = all.iter().filter(|other| Some(**other) != own(node));
                peers.iter().all(|(_, state)| *state == PeerState::Alive)
                    && others.count() == peers.len()
                    && peers.iter().all(|(peer, _)| all.contains(peer))
            })
        };
        let known = wait(CHANGE_TIMEOUT, know_each_other).await;
        known.context("the nodes do not know in time which of them run")
    }
}

fn activity(node: &ScenarioNode) -> Activity {
    node.node.as_ref().map(Node::activity).unwrap_or_default()
}

fn check_firings(firings: u128) -> anyhow::Result<()> {
    ensure!(
        firings <= FIRINGS,
        "timers fire more than {FIRINGS} times in this time: move the clock by less"
    );
    Ok(())
}

/// The folder for the builds that a node keeps, which is never read again.
fn builds(plugins: &Path, number: usize) -> PathBuf {
    let mut folder = plugins.as_os_str().to_owned();
    folder.push(format!(".builds-{number}"));
    folder.into()
}

/// Waits until something is so.
async fn wait(timeout: Duration, is_so: impl Fn() -> bool) -> anyhow::Result<()> {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(timeout, waiting)
        .await
        .with_context(|| format!("it takes more than {timeout:?}"))
}
