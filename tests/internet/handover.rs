//! A process that takes the place of another one, with its sockets.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use jackfield_tests::{Authority, Client, End, Node, NodeBuilder, text, tls_connect, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio_rustls::rustls::version::TLS13;

const ASKED: &str = "another process has asked for the sockets";

fn node(folder: &Path, more: &str) -> NodeBuilder {
    let path = folder.join("handover.sock");
    let config = format!("handover = '{}'\n{more}", path.display());
    Node::builder().plugin("echo").alone().config(&config)
}

/// Whether a client gets its echo, and if not, why.
async fn is_served(node: std::net::SocketAddr) -> Result<()> {
    let mut client = Client::connect(node, "/echo", &[]).await?;
    client.say(text("hello")).await?;
    match client.next_text().await {
        Ok(echo) => assert_eq!(echo, "hello"),
        // It came to the process that drains, which asks it to come again.
        Err(_) => return Ok(()),
    }
    Ok(())
}

#[tokio::test]
async fn a_process_that_takes_over_has_the_ports_and_refuses_nobody() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new()?;
    let issued = authority.issue("node", &["node.test"])?;
    let config = authority.client(&[&TLS13], None)?;
    let unix = folder.path().join("clients.sock");
    let listen = format!("unix:{}", unix.display());
    let builder = || {
        let entry = issued.entry();
        let tls = format!("[tls]\nlisten = '127.0.0.1:0'\ncertificates = [{entry}]\n");
        node(folder.path(), &tls).arguments(&["--listen", &listen])
    };
    let old = builder().start().await?;
    let (address, api, tls) = (old.address(), old.api_address(), old.tls_address()?);
    let mut client = old.client("/echo").await?;

    let is_over = Arc::new(AtomicBool::new(false));
    let newcomers = tokio::spawn({
        let is_over = is_over.clone();
        async move {
            let mut served = 0;
            while !is_over.load(Ordering::Relaxed) {
                is_served(address).await?;
                served += 1;
            }
            anyhow::Ok(served)
        }
    });
    let new = builder().start().await?;
    assert_eq!(new.address(), address);
    assert_eq!((new.api_address(), new.tls_address()?), (api, tls));
    let End::Closed { code, .. } = client.end().await? else {
        anyhow::bail!("cut");
    };
    assert_eq!(code, 1012);
    let ended = old.wait().await?;
    assert_eq!(ended.status.code(), Some(0));
    is_over.store(true, Ordering::Relaxed);
    let served = newcomers.await?.context("a newcomer was refused")?;
    assert!(served > 0);

    assert_eq!(new.api("/ready").await?.status, 200);
    let mut clients = [
        new.client("/echo").await?,
        Client::over(UnixStream::connect(&unix).await?, "/echo", &[]).await?,
        Client::over(tls_connect(tls, "node.test", &config).await?, "/echo", &[]).await?,
    ];
    for client in &mut clients {
        client.say(text("hello")).await?;
        assert_eq!(client.next_text().await?, "hello");
    }
    // The next one gets them from this one.
    let newest = builder().start().await?;
    assert_eq!(newest.address(), address);
    new.wait().await?;
    is_served(address).await?;
    newest.stop().await?;
    assert!(!unix.exists(), "the file goes with the last node");
    assert!(!folder.path().join("handover.sock").exists());
    Ok(())
}

#[tokio::test]
async fn the_file_of_the_state_goes_with_the_sockets() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = format!("file:{}", folder.path().join("state.redb").display());
    let builder = || {
        node(folder.path(), "")
            .arguments(&["--keyvalue", &store])
            .plugin("keeper")
            .manifest("keeper", "[keyvalue]\nbuckets = ['default']")
    };
    let old = builder().start().await?;
    let mut client = old.client("/keeper").await?;
    client.say(text("default set a 1")).await?;
    assert_eq!(client.next_text().await?, "done");
    let new = builder().start().await?;
    old.wait().await?;
    let mut client = new.client("/keeper").await?;
    client.say(text("default get a")).await?;
    assert_eq!(client.next_text().await?, "1");
    Ok(())
}

#[tokio::test]
async fn who_asks_and_does_not_take_over_changes_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let old = node(folder.path(), "").start().await?;
    let mut client = old.client("/echo").await?;
    let path = folder.path().join("handover.sock");

    // One that says something else, and one that cannot start.
    let mut stranger = UnixStream::connect(&path).await?;
    let mut list = [0];
    within("the list", stranger.read_exact(&mut list)).await?;
    stranger.write_all(b"x").await?;
    old.log().nth(1, |line| line.says("has ended")).await?;
    let broken = node(folder.path(), "").arguments(&["--api-tokens", "/nowhere"]);
    let error = broken.start().await.err().context("it has started")?;
    assert!(format!("{error:#}").contains("/nowhere"), "{error:#}");
    old.log().nth(2, |line| line.says("has ended")).await?;
    assert_eq!(old.log().so_far(|line| line.says(ASKED)).len(), 2);
    client.say(text("still here")).await?;
    assert_eq!(client.next_text().await?, "still here");

    let new = node(folder.path(), "").start().await?;
    assert_eq!(new.address(), old.address());
    old.wait().await?;
    is_served(new.address()).await
}

#[tokio::test]
async fn what_is_no_node_is_said_and_nothing_is_replaced() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("handover.sock");
    let listener = tokio::net::UnixListener::bind(&path)?;
    let answering = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        stream.write_all(b"[\"clients 127.0.0.1:0\"]\n").await?;
        anyhow::Ok(listener)
    });
    let error = node(folder.path(), "").start().await;
    let error = format!("{:#}", error.err().context("it has started")?);
    assert!(error.contains("does not hand its sockets over"), "{error}");
    assert!(
        error.contains("named 1 sockets and handed over 0"),
        "{error}"
    );
    drop(answering.await??);
    assert!(path.exists());
    Ok(())
}
