//! A Redis (or Valkey) server, in a process of its own, with its data in a folder of its own.

use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
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
        Redis::absent_at(own_address()?)
    }

    /// One that does not run yet, and will be there.
    pub fn absent_at(address: SocketAddr) -> anyhow::Result<Redis> {
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

    /// More arguments, from its next start on.
    pub fn add_arguments(&mut self, arguments: &[&str]) {
        let arguments = arguments.iter().map(ToString::to_string);
        self.arguments.extend(arguments);
    }

    /// Does this at the server: what it answers. An error is one.
    pub async fn command(&self, words: &[&str]) -> anyhow::Result<String> {
        self.commands(&[words]).await
    }

    /// Does all of these on one connection: what the last one is answered.
    pub async fn commands(&self, commands: &[&[&str]]) -> anyhow::Result<String> {
        let answered = async {
            let mut stream = BufReader::new(TcpStream::connect(self.address).await?);
            let mut last = String::new();
            for words in commands {
                last = exchange(&mut stream, words).await?;
            }
            anyhow::Ok(last)
        };
        within("the key-value server's answer", answered).await
    }

    /// It is a replica of this one from here on, and has all that it has.
    pub async fn replicate(&self, master: &Redis) -> anyhow::Result<()> {
        let (host, port) = (master.address.ip(), master.address.port());
        self.command(&["REPLICAOF", &host.to_string(), &port.to_string()])
            .await?;
        let linked = async {
            while !self
                .command(&["INFO", "replication"])
                .await?
                .contains("master_link_status:up")
            {}
            anyhow::Ok(())
        };
        within("the replica", linked).await
    }

    /// It is a master from here on.
    pub async fn promote(&self) -> anyhow::Result<()> {
        self.command(&["REPLICAOF", "NO", "ONE"]).await.map(drop)
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
            while TcpStream::connect(self.address).await.is_err() {
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

async fn exchange(stream: &mut BufReader<TcpStream>, words: &[&str]) -> anyhow::Result<String> {
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request += &format!("${}\r\n{word}\r\n", word.len());
    }
    stream.write_all(request.as_bytes()).await?;
    let mut first = String::new();
    stream.read_line(&mut first).await?;
    let first = first.trim_end();
    anyhow::ensure!(!first.starts_with('-'), "{words:?}: {first}");
    let Some(length) = first.strip_prefix('$') else {
        return Ok(first.to_owned());
    };
    let mut text = vec![0; length.parse::<usize>()? + "\r\n".len()];
    stream.read_exact(&mut text).await?;
    Ok(String::from_utf8(text)?)
}
