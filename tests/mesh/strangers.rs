//! Connections that do not prove who is there: they end soon, and many of them keep nobody out.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use jackfield_tests::{LogLine, Node, NodeBuilder, Register, within};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{SOON, console, reaches};

/// What a client of HTTP/2 begins with, and a frame of settings that are none.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// More than a node needs to prove itself.
const TOO_MUCH: usize = 100 << 10;

/// As in `host/src/mesh/strangers.rs` and `host/src/admin.rs`.
const STRANGERS: usize = 1024;
const API_CONNECTIONS: usize = 256;

/// Files that a process may open and close meanwhile: plugins, a node that is dialled.
const FILES: usize = 24;

fn node() -> NodeBuilder {
    console(SOON)(Node::builder().alone())
}

#[tokio::test]
async fn who_proves_nothing_is_cut_off() -> Result<()> {
    let register = Register::start().await?;
    let node = node().registered_at(&[&register]).start().await?;
    for address in [node.mesh_address()?, register.address()] {
        let silent = says(address, &[]).await?;
        let polite = says(address, &[PREFACE, &SETTINGS].concat()).await?;
        let settings = SETTINGS.repeat(TOO_MUCH / SETTINGS.len());
        let talkative = says(address, &[PREFACE, &settings].concat()).await?;
        // Who came last ends first: the others had time left.
        let mut silent = std::pin::pin!(ends(silent));
        tokio::select! {
            biased;
            ended = &mut silent => ended.and(Err(anyhow::anyhow!("too soon")))?,
            ended = ends(talkative) => ended?,
        }
        tokio::try_join!(silent, ends(polite))?;
    }
    Ok(())
}

async fn says(address: SocketAddr, bytes: &[u8]) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    // It may be cut already.
    let _ = stream.write_all(bytes).await;
    Ok(stream)
}

async fn ends(mut stream: TcpStream) -> Result<()> {
    let ended = async {
        // A reset is an end as well.
        while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
        anyhow::Ok(())
    };
    within("the connection to be cut", ended).await
}

#[tokio::test]
async fn a_flood_of_connections_keeps_no_node_out_and_takes_no_more_than_its_files() -> Result<()> {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files)?;
    // A secret of their own: the nodes of other tests look for dead ones at ports that are these now.
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), "known to these two")?;
    let secret = ["--secret-file", &file.path().display().to_string()];
    let register = Register::start_at("127.0.0.1:0", &secret).await?;
    let node = || node().arguments(&secret).registered_at(&[&register]);
    let first = node().start().await?;
    let before = first.open_files()?;
    let mut at_register = Flood::new(register.address(), STRANGERS + 100).await?;
    let mut at_node = Flood::new(first.mesh_address()?, STRANGERS + 100).await?;
    let linked = async {
        first.wait_for_log(is_cut).await?;
        register.log().nth(1, is_cut).await?;
        let second = node().start().await?;
        first.wait_for_peers(1).await?;
        second.wait_for_peers(1).await?;
        let mut ada = first.console(&[]).await?;
        let mut bob = second.console(&[]).await?;
        reaches(&mut ada, &mut bob).await?;
        reaches(&mut bob, &mut ada).await
    };
    tokio::select! {
        linked = linked => linked?,
        // New ones come for old ones.
        ended = at_register.goes_on() => ended?,
        ended = at_node.goes_on() => ended?,
    }
    is_bounded(&first, before + STRANGERS).await
}

fn is_cut(line: &LogLine) -> bool {
    line.says("too many connections")
}

#[tokio::test]
async fn a_flood_of_connections_to_the_api_keeps_no_operator_out() -> Result<()> {
    let node = node().start().await?;
    let before = node.open_files()?;
    let _flood = Flood::new(node.api_address(), 2 * API_CONNECTIONS).await?;
    node.wait_for_log(is_cut).await?;
    ensure!(node.api("/ready").await?.status == 200);
    is_bounded(&node, before + API_CONNECTIONS).await
}

/// Waits until the node has closed what it cut.
async fn is_bounded(node: &Node, files: usize) -> Result<()> {
    let closed = async {
        while node.open_files()? > files + FILES {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    };
    within("connections to be closed", closed).await
}

/// Connections that say nothing.
struct Flood {
    address: SocketAddr,
    connections: VecDeque<TcpStream>,
}

impl Flood {
    async fn new(address: SocketAddr, connections: usize) -> Result<Flood> {
        let mut flood = Flood {
            address,
            connections: VecDeque::new(),
        };
        for _ in 0..connections {
            flood.one_more().await?;
        }
        Ok(flood)
    }

    async fn one_more(&mut self) -> Result<()> {
        self.connections
            .push_back(TcpStream::connect(self.address).await?);
        Ok(())
    }

    /// A thousand a second.
    async fn goes_on(&mut self) -> Result<()> {
        let mut pace = tokio::time::interval(Duration::from_millis(1));
        loop {
            pace.tick().await;
            self.one_more().await?;
            self.connections.pop_front();
        }
    }
}
