//! A Redis (or Valkey) server, in a process of its own, with its data in a folder of its own.

use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::process::{kill, own_address};
use crate::within;

/// The programs that will do, the first one found.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];

/// A running server, which keeps what it is told. It is killed when it is dropped.
#[derive(Debug)]
pub struct Redis {
    process: Option<Child>,
    folder: TempDir,
    address: SocketAddr,
    arguments: Vec<String>,
    scheme: &'static str,
}

impl Redis {
    /// Starts one, empty, and waits until it answers.
    pub async fn start() -> anyhow::Result<Redis> {
        Redis::start_with(&[]).await
    }

    /// The same, with these arguments.
    pub async fn start_with(arguments: &[&str]) -> anyhow::Result<Redis> {
        let mut redis = Redis::absent()?;
        redis.arguments = arguments.iter().map(ToString::to_string).collect();
        redis.come_back().await?;
        Ok(redis)
    }

    /// One that does not run yet.
    pub fn absent() -> anyhow::Result<Redis> {
        let address = own_address()?;
        Ok(Redis {
            process: None,
            folder: tempfile::tempdir()?,
            address,
            arguments: Vec::new(),
            scheme: "redis",
        })
    }

    /// Where nodes keep their plugins' state.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes connections over TLS only from here on, with this certificate and key, in PEM.
    pub fn encrypt(&mut self, certificate: &str, key: &str) -> anyhow::Result<()> {
        let port = self.address.port().to_string();
        self.arguments = [
            "--port",
            "0",
            "--tls-port",
            &port,
            "--tls-auth-clients",
            "no",
        ]
        .map(str::to_owned)
        .into();
        for (name, text) in [("cert", certificate), ("key", key)] {
            let file = self.folder.path().join(name);
            std::fs::write(&file, text)?;
            self.arguments.push(format!("--tls-{name}-file"));
            self.arguments.push(file.display().to_string());
        }
        self.scheme = "rediss";
        Ok(())
    }

    /// Ends it without a word.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        match &mut self.process {
            Some(process) => kill(process).await,
            None => Ok(()),
        }
    }

    /// Starts it (again), with what it has kept.
    pub async fn come_back(&mut self) -> anyhow::Result<()> {
        self.process = Some(self.spawn()?);
        let answers = async {
            while tokio::net::TcpStream::connect(self.address).await.is_err() {
                tokio::task::yield_now().await;
            }
            anyhow::Ok(())
        };
        within("the key-value server", answers).await
    }

    /// It keeps its connections and does nothing any more, until it is told to `CONT`.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = self.process.as_ref().and_then(Child::id);
        let id = i32::try_from(id.context("the server does not run")?)?;
        let id = Pid::from_raw(id).context("a process has a number")?;
        Ok(kill_process(id, signal)?)
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        let spawn = |program| {
            Command::new(program)
                .args(["--bind", &self.address.ip().to_string(), "--port"])
                .arg(self.address.port().to_string())
                .arg("--dir")
                .arg(self.folder.path())
                .args([
                    "--save",
                    "",
                    "--appendonly",
                    "yes",
                    "--appendfsync",
                    "always",
                ])
                .args(&self.arguments)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .spawn()
        };
        PROGRAMS
            .into_iter()
            .find_map(|program| spawn(program).ok())
            .context("no key-value server can be started: apt-get install redis-server")
    }
}
