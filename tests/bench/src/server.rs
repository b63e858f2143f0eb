//! A server in a process of its own, on a processor of its own, with what it costs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::bare;
use crate::load::Group;
use crate::machine::{self, Resident};
use crate::process::Process;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// tokio-tungstenite and nothing else.
    Bare,
    /// The node, with an echo compiled into it.
    Native,
    /// The node, with a plugin.
    Plugin,
    /// The node, with the same plugin without `turn-handler`, as plugins in other languages are.
    PlainPlugin,
    /// Another build of the node, with the same plugin.
    Against,
    /// The node, with a plugin whose messages are compressed at this level.
    Deflating(u8),
    /// The node, with a plugin and this many threads that serve.
    Workers(u8),
    /// The package `ws` of npm, with groups.
    Ws,
    /// The package `ws`, which compresses.
    WsDeflating,
    /// A server that the operator of the benchmark has named.
    Beside,
}

/// Where the node's binary and its plugins are.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    /// `jackfield`, built with the feature `bench-native`.
    pub(crate) node: PathBuf,
    /// Another build of it, if it is measured beside this one.
    pub(crate) against: Option<PathBuf>,
    /// Another server, if one is measured beside the node.
    pub(crate) beside: Option<PathBuf>,
    /// The folder of `echo.wasm` and `console.wasm`.
    pub(crate) plugins: PathBuf,
    /// The folder for charts, if they are drawn.
    pub(crate) charts: Option<PathBuf>,
    /// The folder where npm has installed `ws`.
    pub(crate) ws: Option<PathBuf>,
}

/// A server that runs; dropped, it is ended.
pub(crate) struct Server {
    process: Process,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Where its API is; the bare server has none.
    pub(crate) api: Option<SocketAddr>,
    _folder: TempDir,
}

impl Kind {
    /// What the tables call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Bare => "bare tokio-tungstenite",
            Kind::Native => "Jackfield, native handler",
            Kind::Plugin => "Jackfield, plugin",
            Kind::PlainPlugin => "Jackfield, plugin without turn-handler",
            Kind::Against => "the other build, plugin",
            Kind::Deflating(1) => "Jackfield, plugin, level 1",
            Kind::Deflating(3) => "Jackfield, plugin, level 3",
            Kind::Deflating(6) => "Jackfield, plugin, level 6",
            Kind::Deflating(_) => "Jackfield, plugin, level 9",
            Kind::Workers(1) => "1 worker",
            Kind::Workers(_) => "2 workers",
            Kind::Ws => "ws",
            Kind::WsDeflating => "ws, level 1",
            Kind::Beside => "the server beside it",
        }
    }

    /// Where it echoes.
    pub(crate) fn echo_path(self) -> &'static str {
        match self {
            Kind::Native => "/native",
            Kind::Bare | Kind::Ws | Kind::WsDeflating | Kind::Beside => bare::ECHO,
            _ => "/echo",
        }
    }

    /// How it is told to join a group and to publish, if it can be.
    pub(crate) fn group(self) -> Option<Group> {
        match self {
            Kind::Bare | Kind::Ws | Kind::WsDeflating | Kind::Beside => Some(Group {
                subscribe: bare::SUBSCRIBE,
                publish: bare::PUBLISH,
                before: "",
                after: "",
                is_answered: false,
            }),
            Kind::Native | Kind::PlainPlugin => None,
            Kind::Plugin | Kind::Against | Kind::Deflating(_) | Kind::Workers(_) => Some(Group {
                subscribe: "/console?group=g",
                publish: "/console",
                before: r#"{"do":"send-to-group","group":"g","text":""#,
                after: "\"}",
                is_answered: true,
            }),
        }
    }

    /// The plugins it serves: each a file's name, and what it is a copy of.
    fn plugins(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Kind::Bare | Kind::Ws | Kind::WsDeflating | Kind::Beside => &[],
            Kind::Native => &[("native.wasm", "echo.wasm")],
            // `cargo xtask bench` leaves it there.
            Kind::PlainPlugin => &[("echo.wasm", "../plain/plugins/echo.wasm")],
            Kind::Plugin | Kind::Against | Kind::Deflating(_) | Kind::Workers(_) => {
                &[("echo.wasm", "echo.wasm"), ("console.wasm", "console.wasm")]
            }
        }
    }
}

impl Built {
    /// These servers, and the other build and the other server if there are any.
    pub(crate) fn servers(&self, servers: &[Kind]) -> Vec<Kind> {
        let against = self.against.as_ref().map(|_| Kind::Against);
        let beside = self.beside.as_ref().map(|_| Kind::Beside);
        let others = against.into_iter().chain(beside);
        servers.iter().copied().chain(others).collect()
    }
}

impl Server {
    /// Starts one on its processor, and waits until it listens.
    pub(crate) fn start(kind: Kind, built: &Built) -> Result<Server> {
        let folder = tempfile::tempdir()?;
        for (name, original) in kind.plugins() {
            let original = built.plugins.join(original);
            std::fs::copy(&original, folder.path().join(name)).with_context(|| {
                format!(
                    "{} is missing: `cargo xtask build-plugins`",
                    original.display()
                )
            })?;
        }
        if let Kind::Deflating(level) = kind {
            let manifest = format!("[compression]\nmin_bytes = 100\nlevel = {level}\n");
            std::fs::write(folder.path().join("console.toml"), manifest)?;
        }
        let mut command = command(kind, built, folder.path())?;
        match kind {
            Kind::Workers(_) => machine::pin_nowhere()?,
            _ => machine::pin(machine::SERVER_CORE)?,
        }
        let process = Process::start(&mut command);
        match kind {
            Kind::Workers(_) => {}
            _ => machine::pin(machine::CLIENT_CORE)?,
        }
        let process = process?;
        Ok(Server {
            address: process.address("clients")?,
            api: process.address("api").ok(),
            process,
            _folder: folder,
        })
    }

    /// CPU time it has used.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        machine::cpu_of(self.process.id())
    }

    /// What it has done so far.
    pub(crate) fn activity(&self) -> Result<machine::Activity> {
        machine::activity(self.process.id())
    }

    /// What of it is in memory.
    pub(crate) fn resident(&self) -> Result<Resident> {
        machine::resident(self.process.id())
    }
}

fn command(kind: Kind, built: &Built, folder: &Path) -> Result<Command> {
    match kind {
        Kind::Bare => {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("bare");
            return Ok(command);
        }
        Kind::Ws | Kind::WsDeflating => {
            let ws = built.ws.as_ref().context("`ws` is missing: --ws DIR")?;
            let mut command = Command::new("node");
            command.arg(ws.join("server.mjs"));
            if kind == Kind::WsDeflating {
                command.arg("deflate");
            }
            return Ok(command);
        }
        Kind::Beside => {
            let beside = built.beside.as_ref().context("no server is named")?;
            return Ok(Command::new(beside));
        }
        _ => {}
    }
    let workers = match kind {
        Kind::Workers(workers) => workers.to_string(),
        _ => "1".to_owned(),
    };
    let node = match (kind, &built.against) {
        (Kind::Against, Some(against)) => against,
        _ => &built.node,
    };
    let mut command = Command::new(node);
    command
        .args(["node", "--workers", &workers, "--listen", "127.0.0.1:0"])
        .args(["--api", "127.0.0.1:0"])
        .arg("--plugins")
        .arg(folder)
        .arg("--cache")
        .arg(folder.join("cache"))
        .args(["--log", "warn"])
        // All of the clients come at once here.
        .args(["--set", "limits.connects_per_second=0"]);
    Ok(command)
}
