//! The `jackfield` command: it reads the configuration, starts the node, prints the addresses,
//! waits for a signal, and drains with a deadline.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use jackfield::author::AuthorCommand;
use jackfield::commented_config::commented_defaults;
use jackfield::config::{Config, Flag, Layers, LogFormat};
use jackfield::counters::Counters;
use jackfield::guest::{CompilerOptions, compile_if_asked};
use jackfield::limits::open_files;
use jackfield::log::{self, RunningLog};
use jackfield::mesh::{self, Register, TlsFiles, Trust};
use jackfield::node::{self, Node};
use jackfield::plugin;
use jackfield::remote::RemoteCommand;
use jackfield::stdout::print;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The allocator that gives memory back after a burst, by a thread of its own. That of glibc keeps
/// nearly all of it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The settings of the allocator, with a NUL at their end. Memory that was not used for a second
/// goes back to the system.
const ALLOCATOR_OPTIONS: &str = "background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0\0";

/// The pointer by which the allocator finds its settings.
// SAFETY: jemalloc reads the symbol of this name as a pointer to a C string, which it is.
#[unsafe(export_name = "_rjem_malloc_conf")]
static MALLOC_CONF: &[u8; ALLOCATOR_OPTIONS.len()] =
    ALLOCATOR_OPTIONS.as_bytes().first_chunk().unwrap();

/// A WebSocket node host whose business logic is a hot-swappable WebAssembly component.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve clients with the plugins of a folder.
    Node(Box<NodeFlags>),
    /// Be a register: where nodes learn of each other.
    Register {
        /// Where nodes connect; port 0 takes a free one.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7070")]
        listen: String,
        #[command(flatten)]
        trust: TrustFlags,
        /// What is logged: error, warn, info, debug, trace, or directives.
        #[arg(long, value_name = "LEVEL", default_value = "info")]
        log: String,
        /// The log's format: text or json.
        #[arg(long, value_name = "FORMAT", value_enum, default_value = "text")]
        log_format: LogFormat,
    },
    /// Say what plugins import and export, and why one would not load (then exit with 1).
    Check {
        /// Components; a NAME.toml beside NAME.wasm is checked with it.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// The node's configuration, whose [plugin] section gives the limits.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Check or explain the configuration of a node.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    #[command(flatten)]
    Author(AuthorCommand),
    #[command(flatten)]
    Remote(RemoteCommand),
    /// Print the completions of a shell for this command.
    Completions {
        /// The shell that completes the command.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages of this command.
    Man {
        /// The folder that they are written to, for example `/usr/local/share/man/man1`.
        folder: PathBuf,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Look for mistakes in a configuration (and exit with 1 if there is one). Takes what `node`
    /// takes, reads the files that it names, and opens no port.
    Check(Box<NodeFlags>),
    /// Print a configuration file with every key, its description and its default.
    Default,
}

/// Flags override the file (--config), the file overrides the environment (`JACKFIELD_LISTEN`,
/// `JACKFIELD_LIMITS__MESSAGE_BYTES` …).
#[derive(Args)]
struct NodeFlags {
    /// A TOML file; `--print-config` shows what may stand in it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where clients connect: HOST:PORT, unix:PATH or systemd:NAME; port 0 takes a free one; may be
    /// repeated.
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// Where backends, operators and probes ask, over gRPC and HTTP; empty: nowhere.
    #[arg(long, value_name = "ADDR")]
    api: Option<String>,
    /// A file with the API's tokens; without it, the API is for this machine only.
    #[arg(long, value_name = "FILE")]
    api_tokens: Option<String>,
    /// full, or gateway: it holds clients and runs no plugins, other nodes do.
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// The folder of the plugins.
    #[arg(long, value_name = "DIR")]
    plugins: Option<String>,
    /// The folder for compiled components.
    #[arg(long, value_name = "DIR")]
    cache: Option<String>,
    /// Where other nodes connect; port 0 takes a free one. Without it, the node is alone.
    #[arg(long, value_name = "ADDR")]
    mesh: Option<String>,
    /// What other nodes dial to reach this one, where that is not what it listens on.
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// A register to learn of other nodes from; may be repeated.
    #[arg(long, value_name = "HOST:PORT")]
    register: Vec<String>,
    /// Another node; may be repeated.
    #[arg(long, value_name = "HOST:PORT")]
    peer: Vec<String>,
    /// Where else other nodes are found: dns:NAME:PORT or etcd:HOST:PORT; may be repeated.
    #[arg(long, value_name = "SOURCE")]
    discover: Vec<String>,
    #[command(flatten)]
    trust: TrustFlags,
    /// Where plugins keep state of their own: memory, file:PATH, redis://HOST:PORT or, over
    /// TLS, rediss://HOST:PORT.
    #[arg(long, value_name = "STORE")]
    keyvalue: Option<String>,
    /// Threads that serve; 0: one for each processor.
    #[arg(long, value_name = "N")]
    workers: Option<String>,
    /// What is logged: error, warn, info, debug, trace, or directives.
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
    /// The log's format: text or json.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Any other value: `--set limits.message_bytes=131072`; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Show the configuration and where each value came from, and exit.
    #[arg(long)]
    print_config: bool,
}

/// Whom nodes and registers trust. Without a secret and certificates, they listen on loopback
/// addresses only.
#[derive(Args)]
struct TrustFlags {
    /// A file with the secret that all nodes and registers share.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// This one's certificate, in PEM.
    #[arg(long, value_name = "FILE")]
    tls_certificate: Option<PathBuf>,
    /// The key of the certificate, a file in PEM.
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// The certificate of the authority that all certificates are from.
    #[arg(long, value_name = "FILE")]
    tls_authority: Option<PathBuf>,
    /// The name in all certificates, where that is not the host that is dialled.
    #[arg(long, value_name = "NAME")]
    tls_name: Option<String>,
}

impl TrustFlags {
    fn read(&self) -> anyhow::Result<Trust> {
        let file = |file: &Option<PathBuf>| file.clone().unwrap_or_default();
        let tls = TlsFiles {
            certificate: file(&self.tls_certificate),
            key: file(&self.tls_key),
            authority: file(&self.tls_authority),
            name: self.tls_name.clone().unwrap_or_default(),
        };
        Trust::read(&file(&self.secret_file), &tls)
    }
}

fn main() -> ExitCode {
    if let Some(code) = compile_if_asked() {
        return code;
    }
    let run = match Cli::parse().command {
        Command::Node(flags) => node(&flags),
        Command::Register {
            listen,
            trust,
            log,
            log_format,
        } => register(&listen, &trust, &log, log_format),
        Command::Check { files, config } => check(&files, config.as_deref()),
        Command::Config { command } => match command {
            ConfigCommand::Check(flags) => check_config(&flags),
            ConfigCommand::Default => print(&commented_defaults()).map(|()| ExitCode::SUCCESS),
        },
        Command::Author(command) => command.run().map(|()| ExitCode::SUCCESS),
        Command::Remote(command) => command.run().map(|()| ExitCode::SUCCESS),
        Command::Completions { shell } => {
            let mut completions = Vec::new();
            let name = env!("CARGO_BIN_NAME");
            clap_complete::generate(shell, &mut Cli::command(), name, &mut completions);
            print(&String::from_utf8_lossy(&completions)).map(|()| ExitCode::SUCCESS)
        }
        Command::Man { folder } => write_manual(&folder),
    };
    run.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "jackfield: {error:#}");
        ExitCode::FAILURE
    })
}

fn node(flags: &NodeFlags) -> anyhow::Result<ExitCode> {
    let layers = flags.layers()?;
    let config = layers.read()?;
    if flags.print_config {
        print(&layers.describe()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let log = log::start(&config.log, config.log_format)?;
    raise_file_limit();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if config.workers > 0 {
        runtime.worker_threads(config.workers);
    }
    let runtime = runtime.enable_all().build()?;
    let code = runtime.block_on(serve(flags, config, &log));
    // What a node that was ended early has not compiled yet need not be waited for.
    runtime.shutdown_background();
    code
}

async fn serve(
    flags: &NodeFlags,
    mut config: Config,
    log: &RunningLog,
) -> anyhow::Result<ExitCode> {
    // The end of a terminal is a hangup, too.
    let on_hangup = match std::io::stdin().is_terminal() {
        true => SignalRequest::End,
        false => SignalRequest::Reload,
    };
    let mut signals = Signals::new(on_hangup)?;
    let counters = Arc::<Counters>::default();
    let node = tokio::select! {
        node = Node::start(&config, counters.clone()) => node?,
        () = signals.wait_for_end(&counters) => return Ok(ExitCode::SUCCESS),
    };
    if signals.has_missed_reload {
        reload(flags, &mut config, &node, log);
    }
    let (plain, encrypted) = (node.addresses(), node.tls_addresses());
    let mut listening = serde_json::json!({ "clients": plain.first().or(encrypted.first()) });
    if plain.len() > 1 {
        listening["all_clients"] = serde_json::json!(plain);
    }
    if !encrypted.is_empty() {
        listening["tls"] = serde_json::json!(encrypted);
    }
    if let Some(api) = node.api_address() {
        listening["api"] = serde_json::json!(api);
    }
    if let Some(mesh) = node.mesh_address() {
        listening["mesh"] = serde_json::json!(mesh);
    }
    print(&format!(
        "{}\n",
        serde_json::json!({ "listening": listening })
    ))?;
    let clients: Vec<_> = plain
        .iter()
        .chain(encrypted)
        .map(ToString::to_string)
        .collect();
    let clients = clients.join(", ");
    tracing::info!(%clients, node = %node.incarnation(), "serving");
    let is_replaced = {
        let mut replaced = std::pin::pin!(node.replaced());
        let mut drain_asked = std::pin::pin!(node.drain_asked());
        loop {
            tokio::select! {
                request = signals.next(&counters) => match request {
                    SignalRequest::Reload => reload(flags, &mut config, &node, log),
                    SignalRequest::End => break false,
                },
                () = &mut replaced => break true,
                () = &mut drain_asked => break false,
            }
        }
    };
    tracing::info!(is_replaced, "draining; a second signal ends at once");
    let drained = tokio::select! {
        () = node.drain() => ExitCode::SUCCESS,
        () = signals.wait_for_end(&counters) => ExitCode::FAILURE,
    };
    counters.log();
    Ok(drained)
}

/// Reads the configuration again, and takes what can take effect in a node that runs. A
/// configuration that is wrong changes nothing.
fn reload(flags: &NodeFlags, config: &mut Config, node: &Node, log: &RunningLog) {
    let read = || {
        let new = flags.layers()?.read()?;
        // What waits for a restart must fit what does not, too.
        let mut effective = config.clone();
        effective.take_live(&new);
        effective.check().map_err(|(section, error)| {
            anyhow::anyhow!("{section}.{error}, until the node is restarted with the new values")
        })?;
        log.set_filter(&new.log)?;
        anyhow::Ok((new, effective))
    };
    let (new, effective) = match read() {
        Ok(new) => new,
        Err(error) => {
            let error = format!("{error:#}");
            return tracing::error!(error, "the configuration stays as it was");
        }
    };
    node.reconfigure(&effective);
    let changed = config.changed_keys(&effective).join(", ");
    tracing::info!(changed, "the configuration was read again");
    let waiting = effective.changed_keys(&new);
    if !waiting.is_empty() {
        let keys = waiting.join(", ");
        tracing::warn!(
            keys,
            "these keys have changed and take effect with a restart"
        );
    }
    // What waits for a restart is still what it was at the start.
    *config = effective;
}

fn write_manual(folder: &Path) -> anyhow::Result<ExitCode> {
    let failed = || format!("the manual cannot be written to {}", folder.display());
    std::fs::create_dir_all(folder).with_context(failed)?;
    clap_mangen::generate_to(Cli::command(), folder).with_context(failed)?;
    Ok(ExitCode::SUCCESS)
}

fn check_config(flags: &NodeFlags) -> anyhow::Result<ExitCode> {
    let config = flags.layers()?.read()?;
    log::check(&config.log)?;
    node::check(&config)?;
    print("ok: no mistake was found\n")?;
    Ok(ExitCode::SUCCESS)
}

#[tokio::main(flavor = "current_thread")]
async fn register(
    listen: &str,
    trust: &TrustFlags,
    directives: &str,
    log_format: LogFormat,
) -> anyhow::Result<ExitCode> {
    let _flush_at_the_end = log::start(directives, log_format)?;
    raise_file_limit();
    let mut signals = Signals::new(SignalRequest::End)?;
    let trust = trust.read()?;
    let listener = mesh::bind(listen, &trust, "--listen").await?;
    let address = listener.local_addr()?;
    print(&format!(
        "{}\n",
        serde_json::json!({ "listening": { "register": address } })
    ))?;
    tracing::info!(%address, "serving nodes");
    let counters = Counters::default();
    tokio::select! {
        served = Register::new(trust).serve(listener, open_files()) => served?,
        () = signals.wait_for_end(&counters) => {}
    }
    Ok(ExitCode::SUCCESS)
}

#[tokio::main(flavor = "current_thread")]
async fn check(files: &[PathBuf], config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = Layers::new(Vec::new(), config)?.read()?;
    let mut code = ExitCode::SUCCESS;
    for file in files {
        let compiler = CompilerOptions::new(&config.cache, &config.limits);
        let checked = plugin::check(file, compiler, config.plugin.clone()).await?;
        let mut report = format!("{}\n", file.display());
        for import in &checked.interfaces.imports {
            report += &format!("  imports {import}\n");
        }
        for export in &checked.interfaces.exports {
            report += &format!("  exports {export}\n");
        }
        for advice in &checked.advice {
            report += &format!("  warning: {advice}\n");
        }
        report += &match &checked.error {
            None => "  ok: a node would load it\n".to_owned(),
            Some(error) => {
                code = ExitCode::FAILURE;
                format!("  error: {}\n", log::indented(&error.to_string()))
            }
        };
        print(&report)?;
    }
    Ok(code)
}

impl NodeFlags {
    fn layers(&self) -> anyhow::Result<Layers> {
        let named = [
            ("--api", "api", &self.api),
            ("--api-tokens", "api_tokens", &self.api_tokens),
            ("--role", "role", &self.role),
            ("--plugins", "plugins", &self.plugins),
            ("--cache", "cache", &self.cache),
            ("--mesh", "mesh.listen", &self.mesh),
            ("--advertise", "mesh.advertise", &self.advertise),
            ("--tls-name", "mesh.tls_name", &self.trust.tls_name),
            ("--keyvalue", "keyvalue.store", &self.keyvalue),
            ("--workers", "workers", &self.workers),
            ("--log", "log", &self.log),
            ("--log-format", "log_format", &self.log_format),
        ];
        let lists = [
            ("--listen", "listen", &self.listen),
            ("--register", "mesh.registers", &self.register),
            ("--peer", "mesh.peers", &self.peer),
            ("--discover", "mesh.discover", &self.discover),
        ];
        let mut flags = Vec::new();
        let mut set = |name: &str, key: &str, value: String| {
            flags.push(Flag {
                name: name.to_owned(),
                key: key.to_owned(),
                value,
            });
        };
        for pair in &self.set {
            let (key, value) = pair
                .split_once('=')
                .with_context(|| format!("--set {pair}: write it as KEY=VALUE"))?;
            set(&format!("--set {key}"), key, value.to_owned());
        }
        let trust = &self.trust;
        let files = [
            ("--secret-file", "mesh.secret_file", &trust.secret_file),
            (
                "--tls-certificate",
                "mesh.tls_certificate",
                &trust.tls_certificate,
            ),
            ("--tls-key", "mesh.tls_key", &trust.tls_key),
            (
                "--tls-authority",
                "mesh.tls_authority",
                &trust.tls_authority,
            ),
        ];
        for (name, key, value) in named {
            if let Some(value) = value {
                set(name, key, value.clone());
            }
        }
        for (name, key, file) in files {
            if let Some(file) = file {
                set(name, key, file.to_string_lossy().into_owned());
            }
        }
        for (name, key, values) in lists {
            if !values.is_empty() {
                set(name, key, serde_json::to_string(values)?);
            }
        }
        Ok(Layers::new(flags, self.config.as_deref())?)
    }
}

/// The signals that the process handles. SIGTERM, ctrl-c and the end of the terminal end the node,
/// SIGHUP without a terminal lets it read its configuration again, and SIGUSR1 logs the counters. A signal that was ignored when the process began stays ignored:
/// `nohup` needs that, and so does a shell for its background processes.
struct Signals {
    on_hangup: SignalRequest,
    /// Whether the process was to read its configuration again when it could not.
    has_missed_reload: bool,
    terminate: Option<Signal>,
    interrupt: Option<Signal>,
    hangup: Option<Signal>,
    report: Option<Signal>,
}

impl Signals {
    fn new(on_hangup: SignalRequest) -> std::io::Result<Signals> {
        let ignored = ignored_signals();
        let listen = |kind: SignalKind| match ignored >> (kind.as_raw_value() - 1) & 1 {
            0 => signal(kind).map(Some),
            _ => Ok(None),
        };
        Ok(Signals {
            on_hangup,
            has_missed_reload: false,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
            report: listen(SignalKind::user_defined1())?,
        })
    }

    /// Waits for a signal that asks for something, and logs the counters meanwhile.
    async fn next(&mut self, counters: &Counters) -> SignalRequest {
        loop {
            tokio::select! {
                () = next(&mut self.terminate) => return SignalRequest::End,
                () = next(&mut self.interrupt) => return SignalRequest::End,
                () = next(&mut self.hangup) => return self.on_hangup,
                () = next(&mut self.report) => counters.log(),
            }
        }
    }

    async fn wait_for_end(&mut self, counters: &Counters) {
        while self.next(counters).await != SignalRequest::End {
            self.has_missed_reload = true;
        }
    }
}

/// What a signal asks of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SignalRequest {
    End,
    Reload,
}

/// Waits for a signal. If the signal is ignored, the wait never ends.
async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// The signals that this process ignores, one bit for each. The list comes from the kernel, since a
/// call of `sigaction` needs unsafe code. Without `/proc` the list is unknown, and no signal counts
/// as ignored.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.unwrap_or_default()
}

/// Raises the limit of open files as far as the system allows, since each connection is an open
/// file.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
