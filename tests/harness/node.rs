//! A node, in a process of its own.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::cluster::BARRIER;
use crate::command::{after_script, node_command};
use crate::process::Process;
use crate::wire::TOKEN;
use crate::{
    Api, Barrier, Client, Console, Counters, Log, LogLine, Place, PluginFolder, Protocol, Proxy,
    Raw, Register, Response,
};
use crate::{upgrade_request, within};

/// A running node. It is killed when it is dropped.
#[derive(Debug)]
pub struct Node {
    process: Process,
    address: SocketAddr,
    api: SocketAddr,
    folder: Arc<PluginFolder>,
    /// Where several nodes stand for one: the others, and who tells them of each other.
    others: Vec<Node>,
    /// It is a gateway, and the others run its plugins.
    is_gateway: bool,
    _register: Option<Box<Register>>,
    barrier: Option<Arc<Barrier>>,
    next: AtomicUsize,
    /// The node may read it again for as long as it runs.
    config: NamedTempFile,
    has_ended_well: bool,
}

/// What a node starts with.
#[derive(Debug)]
pub struct NodeBuilder {
    folder: anyhow::Result<PluginFolder>,
    config: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// What a shell does before it becomes the node.
    script: Option<String>,
    place: Option<Place>,
    is_meshed: bool,
    stand: Stand,
}

/// What stands for one node, where a test does not care: what `JACKFIELD_TESTS_NODES` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// So many. Clients come to each in turn, and know of each other what those of one would.
    Nodes(usize),
    /// A gateway, where the clients are, and a node that runs its plugins.
    Gateway,
}

impl Stand {
    fn from_environment() -> Stand {
        match std::env::var("JACKFIELD_TESTS_NODES").as_deref() {
            Ok("gateway") => Stand::Gateway,
            Ok(nodes) => Stand::Nodes(nodes.parse().unwrap_or(1)),
            Err(_) => Stand::Nodes(1),
        }
    }
}

/// Whether one node stands for one.
pub(crate) fn is_one_node() -> bool {
    Stand::from_environment() == Stand::Nodes(1)
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

    /// Another file beside the plugins.
    pub fn file(self, name: &str, text: &str) -> NodeBuilder {
        self.with_folder(|folder| folder.put_file(name, text.as_bytes()))
    }

    /// Whatever else is done to the folder before the node starts.
    pub fn change_folder(self, change: impl Fn(&Path) -> anyhow::Result<()>) -> NodeBuilder {
        self.with_folder(|folder| change(folder.path()))
    }

    /// The node's configuration file.
    pub fn config(mut self, text: &str) -> NodeBuilder {
        self.config.push_str(text);
        self
    }

    /// Changes what its configuration file says.
    pub fn change_config(mut self, change: impl Fn(&str) -> String) -> NodeBuilder {
        self.config = change(&self.config);
        self
    }

    /// One node, also where several stand for one.
    pub fn alone(mut self) -> NodeBuilder {
        self.stand = Stand::Nodes(1);
        self
    }

    /// It holds clients, and runs no plugins.
    pub fn gateway(self) -> NodeBuilder {
        self.alone().arguments(&["--role", "gateway"])
    }

    /// More arguments.
    pub fn arguments(mut self, arguments: &[&str]) -> NodeBuilder {
        self.arguments
            .extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// A variable of its environment.
    pub fn environment(mut self, name: &str, value: &str) -> NodeBuilder {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A shell runs this script, and then becomes the node.
    pub fn after_script(mut self, script: &str) -> NodeBuilder {
        self.script = Some(script.to_owned());
        self
    }

    /// It takes part in a mesh, and learns of the others from these registers.
    pub fn registered_at(self, registers: &[&Register]) -> NodeBuilder {
        let mut builder = self.meshed();
        for register in registers {
            let address = register.address().to_string();
            builder = builder.arguments(&["--register", &address]);
        }
        builder
    }

    /// It takes part in a mesh.
    pub fn meshed(mut self) -> NodeBuilder {
        self.is_meshed = true;
        self
    }

    /// It is at this place of a wire, alone and with the wire's secret.
    pub fn at(mut self, place: &Place) -> NodeBuilder {
        self.place = Some(place.clone());
        self.alone()
    }

    /// It takes part in a mesh, where the others reach it through this proxy.
    pub async fn start_behind(self, proxy: &Proxy) -> anyhow::Result<Node> {
        let advertised = proxy.address().to_string();
        let node = self
            .arguments(&["--advertise", &advertised])
            .start()
            .await?;
        proxy.lead_to(node.mesh_address()?);
        Ok(node)
    }

    /// Starts the node and waits until it listens.
    pub async fn start(self) -> anyhow::Result<Node> {
        match self.stand {
            Stand::Nodes(1) => self.start_one().await,
            Stand::Nodes(_) | Stand::Gateway => Box::pin(self.start_several()).await,
        }
    }

    async fn start_several(mut self) -> anyhow::Result<Node> {
        let stand = std::mem::replace(&mut self.stand, Stand::Nodes(1));
        let register = Register::start().await?;
        let first = self
            .plugin_from(BARRIER, "console")
            .registered_at(&[&register]);
        let folder = Arc::new(first.folder?);
        let builder = || {
            Ok::<_, anyhow::Error>(NodeBuilder {
                folder: Ok(PluginFolder::new()?),
                config: first.config.clone(),
                arguments: first.arguments.clone(),
                environment: first.environment.clone(),
                script: first.script.clone(),
                place: first.place.clone(),
                is_meshed: first.is_meshed,
                stand: Stand::Nodes(1),
            })
        };
        let builders = match stand {
            Stand::Gateway => vec![builder()?.gateway(), builder()?],
            Stand::Nodes(nodes) => (0..nodes).map(|_| builder()).collect::<Result<_, _>>()?,
        };
        let mut started = Vec::new();
        for builder in builders {
            started.push(builder.start_in(folder.clone()).await?);
        }
        for node in &started {
            node.wait_for_peers(started.len() - 1).await?;
        }
        if stand == Stand::Gateway {
            started[0].wait_for_plugins_of(&started[1]).await?;
        }
        let barrier = Barrier::new(&started).await?;
        let mut node = started.remove(0);
        node.is_gateway = stand == Stand::Gateway;
        node.others = started;
        node._register = Some(Box::new(register));
        node.barrier = Some(Arc::new(barrier));
        Ok(node)
    }

    async fn start_one(mut self) -> anyhow::Result<Node> {
        let folder = std::mem::replace(&mut self.folder, PluginFolder::new())?;
        self.start_in(Arc::new(folder)).await
    }

    async fn start_in(self, folder: Arc<PluginFolder>) -> anyhow::Result<Node> {
        let mut node = self.spawn(folder)?;
        node.process.listen().await?;
        node.address = node.process.listening("clients")?;
        node.api = node.process.listening("api")?;
        Ok(node)
    }

    /// Starts the node and sends it a signal once it has logged this line, before it listens;
    /// how it ended.
    pub async fn start_and_interrupt(
        self,
        wanted: impl Fn(&LogLine) -> bool,
        signal: Signal,
    ) -> anyhow::Result<ExitStatus> {
        let mut builder = self;
        let folder = std::mem::replace(&mut builder.folder, PluginFolder::new())?;
        let mut node = builder.spawn(Arc::new(folder))?;
        node.wait_for_log(wanted).await?;
        node.signal(signal)?;
        let status = node.process.wait().await?;
        node.process.says_nothing().await?;
        node.has_ended_well = true;
        Ok(status)
    }

    fn spawn(self, folder: Arc<PluginFolder>) -> anyhow::Result<Node> {
        let mut config = NamedTempFile::with_suffix(".toml")?;
        config.write_all(self.config.as_bytes())?;
        let mut command = node_command()?;
        command.arg("node").arg("--config").arg(config.path());
        command.arg("--plugins").arg(folder.path());
        command.env("JACKFIELD_BUILDS", folder.beside("builds"));
        let any_port = match &self.place {
            Some(place) => place.any_port(),
            None => "127.0.0.1:0".to_owned(),
        };
        command.args(["--listen", &any_port, "--api", &any_port]);
        if self.is_meshed {
            command.args(["--mesh", &any_port]);
        }
        command.args(["--log-format", "json"]).args(&self.arguments);
        // A test's client answers pings while the test reads from it, and it may have something
        // else to wait for, a browser or a compiler, for a minute.
        if !self.config.contains("ping_every") {
            command.env("JACKFIELD_LIMITS__PING_EVERY", "10m");
        }
        command.envs(self.environment);
        if let Some(script) = &self.script {
            command = after_script(script, &command);
        }
        let process = match &self.place {
            Some(place) => {
                command.arg("--api-tokens").arg(place.tokens());
                place.spawn(command)?
            }
            None => Process::spawn(command)?,
        };
        Ok(Node {
            process,
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            api: SocketAddr::from(([0, 0, 0, 0], 0)),
            folder,
            others: Vec::new(),
            is_gateway: false,
            _register: None,
            barrier: None,
            next: AtomicUsize::new(0),
            config,
            has_ended_well: false,
        })
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
            arguments: Vec::new(),
            environment: Vec::new(),
            script: None,
            place: None,
            is_meshed: false,
            stand: Stand::from_environment(),
        }
    }

    /// A node that runs one plugin.
    pub async fn start(plugin: &str) -> anyhow::Result<Node> {
        Node::builder().plugin(plugin).start().await
    }

    /// The same, and no other nodes with it.
    pub async fn start_alone(plugin: &str) -> anyhow::Result<Node> {
        Node::builder().plugin(plugin).alone().start().await
    }

    /// Where its clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where operators ask.
    pub fn api_address(&self) -> SocketAddr {
        self.api
    }

    /// What it has said about where it listens for these.
    pub fn listening(&self, what: &str) -> &Value {
        self.process.all_listening(what)
    }

    /// Where its clients connect with TLS.
    pub fn tls_address(&self) -> anyhow::Result<SocketAddr> {
        self.process.listening("tls")
    }

    /// Where its peers connect.
    pub fn mesh_address(&self) -> anyhow::Result<SocketAddr> {
        self.process.listening("mesh")
    }

    /// This run of it, as its API tells.
    pub async fn incarnation(&self) -> anyhow::Result<String> {
        let nodes: Value = serde_json::from_str(&self.api("/v1/nodes").await?.body)?;
        let incarnation = nodes["node"]["incarnation"].as_str();
        Ok(incarnation.context("no incarnation")?.to_owned())
    }

    /// Replaces its configuration file, which it does not read by itself.
    pub fn replace_config(&self, text: &str) -> anyhow::Result<()> {
        Ok(std::fs::write(self.config.path(), text)?)
    }

    /// Its plugins folder.
    pub fn folder(&self) -> &PluginFolder {
        &self.folder
    }

    /// Where the next client comes: to each of the nodes in turn, where several stand for one.
    fn next_address(&self) -> SocketAddr {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % (1 + self.others.len());
        match next {
            _ if self.is_gateway => self.address,
            0 => self.address,
            other => self.others[other - 1].address,
        }
    }

    /// A client at `path`, query and all.
    pub async fn client(&self, path: &str) -> anyhow::Result<Client> {
        Client::connect(self.next_address(), path, &[]).await
    }

    /// A client at `path` whose handshake has these headers, too.
    pub async fn client_with(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Client> {
        Client::connect(self.next_address(), path, headers).await
    }

    /// A client of the plugin `console`, with this query.
    pub async fn console(&self, query: &[(&str, &str)]) -> anyhow::Result<Console> {
        self.console_named("console", query).await
    }

    /// A client of this very node.
    pub(crate) async fn console_at(
        &self,
        plugin: &str,
        query: &[(&str, &str)],
    ) -> anyhow::Result<Console> {
        Console::connect(self.address, &format!("/{plugin}"), query).await
    }

    /// Its API, to be called over this protocol.
    pub fn calls(&self, protocol: Protocol) -> anyhow::Result<Api> {
        Api::at(self.api, protocol)
    }

    /// What its API answers at `path`.
    pub async fn api(&self, path: &str) -> anyhow::Result<Response> {
        // Where there are no tokens, it says nothing.
        let api = self.calls(Protocol::Http)?.with_token(TOKEN);
        api.http("GET", path, &[], "").await
    }

    /// What it knows of the others, as its API tells.
    pub async fn peers(&self) -> anyhow::Result<Vec<Value>> {
        self.listed("peers").await
    }

    /// Addresses that it dials in vain, as its API tells.
    pub async fn dialled(&self) -> anyhow::Result<Vec<Value>> {
        self.listed("dialled").await
    }

    async fn listed(&self, what: &str) -> anyhow::Result<Vec<Value>> {
        let nodes: Value = serde_json::from_str(&self.api("/v1/nodes").await?.body)?;
        let listed = nodes[what].as_array();
        Ok(listed.with_context(|| format!("no {what}"))?.clone())
    }

    /// Waits until it has so many peers, and all of them have told what they hold.
    pub async fn wait_for_peers(&self, peers: usize) -> anyhow::Result<()> {
        self.wait_for_peer_states(&vec!["alive"; peers]).await
    }

    /// Waits until its peers' states are these.
    pub async fn wait_for_peer_states(&self, states: &[&str]) -> anyhow::Result<()> {
        let reached = async {
            loop {
                let peers = self.peers().await?;
                let mut now: Vec<_> = peers.iter().filter_map(|p| p["state"].as_str()).collect();
                now.sort_unstable();
                if now == states {
                    return anyhow::Ok(());
                }
                tokio::task::yield_now().await;
            }
        };
        within(&format!("peers to be {states:?}"), reached).await
    }

    /// Waits until it knows of all that this other node runs.
    pub async fn wait_for_plugins_of(&self, other: &Node) -> anyhow::Result<()> {
        let nodes: Value = serde_json::from_str(&other.api("/v1/nodes").await?.body)?;
        let plugins = nodes["node"]["plugins"].as_array().context("plugins")?;
        let running = plugins.iter().filter(|plugin| plugin["runs"] == "here");
        let running: Vec<_> = running.map(|plugin| plugin["name"].clone()).collect();
        let known = async {
            loop {
                let peers = self.peers().await?;
                let mut peers = peers.iter();
                let other = peers.find(|peer| peer["incarnation"] == nodes["node"]["incarnation"]);
                let plugins = other.and_then(|other| other["plugins"].as_array());
                let known = plugins.into_iter().flatten();
                let known = known.filter(|plugin| plugin["state"] == "running");
                if known.map(|plugin| &plugin["name"]).eq(&running) {
                    return anyhow::Ok(());
                }
                tokio::task::yield_now().await;
            }
        };
        within(&format!("the plugins {running:?} to be known"), known).await
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
        let console = Console::connect(self.next_address(), &format!("/{plugin}"), query).await?;
        console.behind(self.barrier.clone()).await
    }

    /// A client of the plugin `console` that hears of every client that has left.
    pub async fn watcher(&self) -> anyhow::Result<Console> {
        self.console(&[("group", "watch-close")]).await
    }

    /// The HTTP answer to a client that is turned away at `path`.
    pub async fn refusal(&self, path: &str) -> anyhow::Result<Response> {
        self.refusal_with(path, &[]).await
    }

    /// The same, with these headers.
    pub async fn refusal_with(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Response> {
        let refused = async {
            loop {
                let mut raw = self.raw().await?;
                raw.write(upgrade_request(path, headers).as_bytes()).await?;
                let response = raw.response().await?;
                anyhow::ensure!(response.status != 101, "{path} was let in");
                // A gateway does not know yet what there is.
                if response.body != "the node has just started\n" {
                    return Ok(response);
                }
            }
        };
        within("a refusal", refused).await
    }

    /// A TCP connection that has said nothing yet.
    pub async fn raw(&self) -> anyhow::Result<Raw> {
        Raw::connect(self.address).await
    }

    /// Its log; of a gateway that stands for a node, its worker's, where the plugins' lines are.
    pub fn log(&self) -> &Log {
        let worker = self.others.first().filter(|_| self.is_gateway);
        worker.unwrap_or(self).process.log()
    }

    /// Waits for a line in the log.
    pub async fn wait_for_log(&self, wanted: impl Fn(&LogLine) -> bool) -> anyhow::Result<LogLine> {
        self.log().nth(1, wanted).await
    }

    /// Waits until this generation of a plugin has taken over.
    pub async fn generation_loaded(&self, plugin: &str, generation: u64) -> anyhow::Result<()> {
        let wanted = |line: &LogLine| {
            line.message() == "plugin loaded"
                && line.text("plugin") == plugin
                && line.number("generation") == Some(generation)
        };
        self.wait_for_log(wanted).await?;
        match &self.barrier {
            // A gateway hears of its routes and policies.
            Some(barrier) => barrier.pass().await,
            None => Ok(()),
        }
    }

    /// Lets an event of the client sleep, and waits until it does; the id of its request.
    pub async fn put_to_sleep(&self, client: &mut Console, ms: u64) -> anyhow::Result<u64> {
        let good_night = format!("good night, {}", client.id());
        let nap = json!({ "do": "sleep", "ms": ms, "log": good_night });
        let nap = client.start(nap).await?;
        self.wait_for_log(|line| line.message() == good_night)
            .await?;
        Ok(nap)
    }

    /// What it has counted so far.
    pub async fn counters(&self) -> anyhow::Result<Counters> {
        let mut counters = self.own_counters().await?;
        for other in &self.others {
            counters.add(&other.own_counters().await?);
        }
        Ok(counters)
    }

    async fn own_counters(&self) -> anyhow::Result<Counters> {
        let log = self.process.log();
        let before = log.so_far(Counters::is_in).len();
        self.signal(Signal::USR1)?;
        let line = log.nth(before + 1, Counters::is_in).await?;
        Ok(Counters::from_line(&line))
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
        self.process.resident_bytes()
    }

    /// How many threads its process has.
    pub fn threads(&self) -> anyhow::Result<usize> {
        Ok(self.process.status("Threads:")?.parse()?)
    }

    /// The processor time that its process has used so far.
    pub fn processor_time(&self) -> anyhow::Result<Duration> {
        let process = self.process.pid()?.as_raw_nonzero();
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
        // After the name, which may have any character. Linux counts in hundredths of a second.
        let (_, fields) = stat.rsplit_once(')').context("no name")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let hundredths: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        Ok(Duration::from_millis(10 * hundredths))
    }

    /// The processes that compile components for it.
    pub fn compilers(&self) -> anyhow::Result<Vec<Pid>> {
        let parent = format!("PPid:\t{}", self.process.pid()?.as_raw_nonzero());
        let mut compilers = Vec::new();
        for process in std::fs::read_dir("/proc")? {
            let process = process?;
            // One that has ended meanwhile is none.
            let Ok(status) = std::fs::read_to_string(process.path().join("status")) else {
                continue;
            };
            let is_zombie = status.contains("State:\tZ");
            if status.lines().any(|line| line == parent) && !is_zombie {
                let id = process.file_name().to_string_lossy().parse()?;
                compilers.extend(Pid::from_raw(id));
            }
        }
        Ok(compilers)
    }

    /// Waits for a process that compiles, which is not one of `former`.
    pub async fn wait_for_compiler(&self, former: &[Pid]) -> anyhow::Result<Pid> {
        within("a process that compiles", async {
            loop {
                let compilers = self.compilers()?;
                if let Some(compiler) = compilers.iter().find(|pid| !former.contains(pid)) {
                    return anyhow::Ok(*compiler);
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    /// How often the thread of that name has waited for something so far.
    pub fn waits_of_thread(&self, name: &str) -> anyhow::Result<u64> {
        let tasks = format!("/proc/{}/task", self.process.pid()?.as_raw_nonzero());
        for task in std::fs::read_dir(tasks)? {
            let task = task?.path();
            // A thread that has ended since the folder was listed is not the one.
            if !std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name) {
                continue;
            }
            let status = std::fs::read_to_string(task.join("status"))?;
            let mut lines = status.lines();
            let waits = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            return Ok(waits
                .context("no voluntary_ctxt_switches")?
                .trim()
                .parse()?);
        }
        anyhow::bail!("no thread {name}")
    }

    /// How many files its process has open, connections among them.
    pub fn open_files(&self) -> anyhow::Result<usize> {
        let folder = format!("/proc/{}/fd", self.process.pid()?.as_raw_nonzero());
        Ok(std::fs::read_dir(folder)?.count())
    }

    /// It can open no more files than it has open now; or as many as it wants, again.
    pub fn keep_out_of_files(&self, out_of_files: bool) -> anyhow::Result<()> {
        let maximum = getrlimit(Resource::Nofile).maximum;
        let current = match out_of_files {
            true => Some(0),
            false => maximum,
        };
        let limit = Rlimit { current, maximum };
        prlimit(Some(self.process.pid()?), Resource::Nofile, limit)?;
        Ok(())
    }

    /// Its files can be so many bytes long at most.
    pub fn limit_files_to(&self, bytes: Option<u64>) -> anyhow::Result<()> {
        let maximum = getrlimit(Resource::Fsize).maximum;
        let current = bytes.or(maximum);
        let limit = Rlimit { current, maximum };
        prlimit(Some(self.process.pid()?), Resource::Fsize, limit)?;
        Ok(())
    }

    /// How many connections its peers have to it that it has not closed.
    pub fn mesh_connections(&self) -> anyhow::Result<usize> {
        const ESTABLISHED: &str = "01";
        const CLOSE_WAIT: &str = "08";
        let port = format!(":{:04X}", self.mesh_address()?.port());
        let pid = self.process.pid()?.as_raw_nonzero();
        let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp"))?;
        let is_ours = |line: &&str| {
            let mut fields = line.split_whitespace().skip(1);
            let local = fields.next().unwrap_or_default();
            let state = fields.nth(1).unwrap_or_default();
            local.ends_with(&port) && [ESTABLISHED, CLOSE_WAIT].contains(&state)
        };
        Ok(table.lines().filter(is_ours).count())
    }

    /// Ends it without a word.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.process.kill().await?;
        self.has_ended_well = true;
        Ok(())
    }

    /// Sends its process a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.process.signal(signal)
    }

    /// Ends it as an operator would, and waits for the end.
    pub async fn stop(self) -> anyhow::Result<Stopped> {
        self.signal(Signal::TERM)?;
        self.wait().await
    }

    /// Waits for its end.
    pub async fn wait(mut self) -> anyhow::Result<Stopped> {
        let status = self.process.wait().await?;
        let log = self.process.log();
        log.end().await?;
        let lines = log.so_far(Counters::is_in);
        let last = lines
            .last()
            .context("the node logged no counters at its end")?;
        let counters = Counters::from_line(last);
        self.has_ended_well = true;
        Ok(Stopped {
            status,
            counters,
            log: self.log().clone(),
        })
    }
}

impl Drop for Node {
    /// A failed test shows what its node had to say; a passed one's output is not seen.
    fn drop(&mut self) {
        if !self.has_ended_well {
            eprintln!("the node's log:\n{}", self.process.log().tail());
        }
    }
}
