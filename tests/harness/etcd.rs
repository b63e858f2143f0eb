//! etcd, in a process of its own, with its data in a folder of its own.

use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::process::{kill, own_address};

/// A running etcd. It is killed when it is dropped.
#[derive(Debug)]
pub struct Etcd {
    process: Child,
    folder: TempDir,
    clients: SocketAddr,
    peers: SocketAddr,
}

impl Etcd {
    /// Starts one, empty.
    pub fn start() -> anyhow::Result<Etcd> {
        let folder = tempfile::tempdir()?;
        let (clients, peers) = (own_address()?, own_address()?);
        Ok(Etcd {
            process: spawn(&folder, clients, peers)?,
            folder,
            clients,
            peers,
        })
    }

    /// Ends it without a word, and starts it again with what it has kept.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        kill(&mut self.process).await?;
        self.process = spawn(&self.folder, self.clients, self.peers)?;
        Ok(())
    }

    /// Where it serves its clients.
    pub fn address(&self) -> SocketAddr {
        self.clients
    }

    /// Where nodes find each other: `etcd:HOST:PORT`.
    pub fn source(&self) -> String {
        format!("etcd:{}", self.clients)
    }
}

fn spawn(folder: &TempDir, clients: SocketAddr, peers: SocketAddr) -> anyhow::Result<Child> {
    let (clients, peers) = (format!("http://{clients}"), format!("http://{peers}"));
    Command::new("etcd")
        .arg("--data-dir")
        .arg(folder.path())
        .args(["--listen-client-urls", &clients])
        .args(["--advertise-client-urls", &clients])
        .args(["--listen-peer-urls", &peers])
        .args(["--initial-advertise-peer-urls", &peers])
        .args(["--initial-cluster", &format!("default={peers}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("etcd cannot be started: apt-get install etcd-server")
}
