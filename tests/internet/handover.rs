//! A process that takes the place of another one, with its sockets.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use jackfield_tests::{
    Authority, Client, End, Node, NodeBuilder, Raw, text, tls_connect, upgrade_request, within,
};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio_rustls::rustls::version::TLS13;

use crate::echoes;

/// The close code of a node that restarts.
const RESTARTS: u16 = 1012;

fn node(folder: &TempDir, more: &str) -> NodeBuilder {
    let config = format!("handover = '{}'\n{more}", port(folder).display());
    Node::builder().plugin("echo").alone().config(&config)
}

/// Where the next process asks.
fn port(folder: &TempDir) -> PathBuf {
    folder.path().join("handover.sock")
}

/// A client comes and gets its echo, or is asked to come again.
async fn is_served(node: SocketAddr) -> Result<()> {
    let mut client = Client::connect(node, "/echo", &[]).await?;
    let said = client.say(text("hello")).await.is_ok();
    let left = said && client.say_goodbye(4000, "bye").await.is_ok();
    let (heard, end) = client.until_end().await?;
    let is_asked_again = matches!(end, End::Closed { code: RESTARTS, .. });
    ensure!(
        is_asked_again || (left && heard == [text("hello")]),
        "{heard:?}, then {end:?}"
    );
    Ok(())
}

async fn is_ready(api: SocketAddr) -> Result<()> {
    let mut raw = Raw::connect(api).await?;
    raw.write(b"GET /ready HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
        .await?;
    let answer = raw.response().await?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

/// Does this again and again until it is told that all is over; how often it was done.
fn again_and_again<F>(
    is_over: &Arc<AtomicBool>,
    act: impl Fn() -> F + Send + 'static,
) -> (Arc<AtomicUsize>, tokio::task::JoinHandle<Result<()>>)
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (is_over, done) = (is_over.clone(), Arc::<AtomicUsize>::default());
    let count = done.clone();
    let acting = tokio::spawn(async move {
        while !is_over.load(Ordering::Relaxed) {
            act().await?;
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    });
    (done, acting)
}

#[tokio::test]
async fn a_process_that_takes_over_has_the_ports_and_refuses_nobody() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new()?;
    let issued = authority.issue("node", &["node.test"])?;
    let config = authority.client(&[&TLS13], None)?;
    let unix = folder.path().join("clients.sock");
    let listen = format!("unix:{}", unix.display());
    let builder = |mode| {
        let entry = issued.entry();
        let more = format!(
            "[tls]\nlisten = '127.0.0.1:0'\ncertificates = [{entry}]\n[unix_socket]\nmode = '{mode}'"
        );
        node(&folder, &more).arguments(&["--listen", &listen])
    };
    let old = builder("0660").start().await?;
    let (address, api, tls) = (old.address(), old.api_address(), old.tls_address()?);
    let mut client = old.client("/echo").await?;

    let is_over = Arc::<AtomicBool>::default();
    let (served, newcomers) = again_and_again(&is_over, move || is_served(address));
    let (ready, probes) = again_and_again(&is_over, move || is_ready(api));
    let before = served.load(Ordering::Relaxed);
    let new = builder("0600").start().await?;
    assert_eq!(new.address(), address);
    assert_eq!((new.api_address(), new.tls_address()?), (api, tls));
    let End::Closed { code, .. } = client.end().await? else {
        anyhow::bail!("cut");
    };
    assert_eq!(code, RESTARTS);
    let ended = old.wait().await?;
    assert_eq!(ended.status.code(), Some(0));
    is_over.store(true, Ordering::Relaxed);
    newcomers.await?.context("a newcomer was refused")?;
    probes
        .await?
        .context("a probe was told that nobody is ready")?;
    assert!(served.load(Ordering::Relaxed) > before && ready.load(Ordering::Relaxed) > 0);
    assert_eq!(unix.metadata()?.permissions().mode() & 0o777, 0o600);

    let mut clients = [
        new.client("/echo").await?,
        Client::over(UnixStream::connect(&unix).await?, "/echo", &[]).await?,
        Client::over(tls_connect(tls, "node.test", &config).await?, "/echo", &[]).await?,
    ];
    for client in &mut clients {
        echoes(client).await?;
    }
    drop(clients);
    // The next one gets them from this one.
    let newest = builder("0600").start().await?;
    assert_eq!(newest.address(), address);
    new.wait().await?;
    is_served(address).await?;
    newest.stop().await?;
    assert!(!unix.exists(), "the file goes with the last node");
    assert!(!port(&folder).exists());
    Ok(())
}

#[tokio::test]
async fn the_file_of_the_state_goes_with_the_sockets() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = format!("file:{}", folder.path().join("state.redb").display());
    let builder = || {
        node(&folder, "")
            .arguments(&["--keyvalue", &store])
            .plugin("keeper")
            .manifest("keeper", "[keyvalue]\nbuckets = ['default']")
    };
    let old = builder().start().await?;
    let mut client = old.client("/keeper").await?;
    client.say(text("default set a 1")).await?;
    assert_eq!(client.next_text().await?, "done");
    client.leave().await?;
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
    let unix = folder.path().join("clients.sock");
    let listen = format!("unix:{}", unix.display());
    let builder = || node(&folder, "").arguments(&["--listen", &listen]);
    let old = builder().start().await?;
    let mut client = old.client("/echo").await?;

    // One that says something else, one that cannot start, and one that cannot run a plugin.
    let mut stranger = asker(&port(&folder)).await?;
    stranger.write_all(b"x").await?;
    old.log().nth(1, |line| line.says("has ended")).await?;
    let broken = [
        (
            builder().arguments(&["--api-tokens", "/nowhere"]),
            "/nowhere",
        ),
        (
            builder().change_folder(|folder| Ok(std::fs::write(folder.join("wrong.wasm"), "x")?)),
            "do not run in this process, and the log says why: wrong",
        ),
    ];
    for (failed, (builder, expected)) in broken.into_iter().enumerate() {
        let error = builder.start().await.err().context("it has started")?;
        assert!(format!("{error:#}").contains(expected), "{error:#}");
        let ended = old.log().nth(failed + 2, |line| line.says("has ended"));
        ended.await?;
        assert!(unix.exists(), "it is the running node's");
    }
    echoes(&mut client).await?;
    drop(client);

    let address = old.address();
    let new = builder().start().await?;
    assert_eq!(new.address(), address);
    old.wait().await?;
    is_served(new.address()).await
}

/// A process that asks and then says nothing.
async fn asker(port: &Path) -> Result<UnixStream> {
    let mut asker = UnixStream::connect(port).await?;
    let mut list = [0];
    within("the list", asker.read_exact(&mut list)).await?;
    assert_eq!(list, *b"[");
    Ok(asker)
}

#[tokio::test]
async fn while_one_process_has_the_sockets_another_one_is_told_so() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let old = node(&folder, "").start().await?;
    let first = asker(&port(&folder)).await?;
    let error = node(&folder, "").start().await;
    let error = format!("{:#}", error.err().context("it has started")?);
    let expected = format!("process {} has them already", std::process::id());
    assert!(error.contains(&expected), "{error}");
    drop(first);
    old.log().nth(1, |line| line.says("has ended")).await?;
    let new = node(&folder, "").start().await?;
    old.wait().await?;
    is_served(new.address()).await
}

/// As scripts do it: the new process is started, and the old one gets SIGTERM meanwhile.
#[tokio::test]
async fn a_node_that_ends_while_another_one_has_its_sockets_leaves_them_to_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let unix = folder.path().join("clients.sock");
    let listen = format!("unix:{}", unix.display());
    let old = node(&folder, "").arguments(&["--listen", &listen]);
    let old = old.start().await?;
    let mut asker = asker(&port(&folder)).await?;
    old.signal(Signal::TERM)?;
    old.wait().await?;
    assert!(unix.exists(), "it is the new process's");
    // Its end is known only now, and what is said to it is lost.
    let mut list = Vec::new();
    within("its end", asker.read_to_end(&mut list)).await?;
    assert!(list.ends_with(b"\ne"), "it says that it ends");
    Ok(())
}

#[tokio::test]
async fn a_node_that_drains_closes_its_ports_at_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let node = node(&folder, "").start().await?;
    // It reads nothing, so the drain takes as long as `close_timeout`.
    let mut silent = node.raw().await?;
    silent
        .write(upgrade_request("/echo", &[]).as_bytes())
        .await?;
    assert_eq!(silent.response().await?.status, 101);
    let address = node.address();
    node.signal(Signal::TERM)?;
    within("the ports to be closed", async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    })
    .await?;
    assert!(!port(&folder).exists());
    let ended = node.log().so_far(|line| line.says("counters"));
    assert!(ended.is_empty(), "it has ended already");
    node.wait().await?;
    Ok(())
}

/// As in `host/src/listener/handover.rs`.
const SOCKETS: usize = 64;

#[tokio::test]
async fn more_sockets_than_can_be_handed_over_are_an_error_at_the_start() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // With the API's and the first one, it is one too many.
    let more = ["--listen", "127.0.0.1:0"].repeat(SOCKETS - 1);
    let error = node(&folder, "").arguments(&more).start().await;
    let error = format!("{:#}", error.err().context("it has started")?);
    assert!(error.contains("more than 64 sockets"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_node_that_never_answers_is_not_waited_for() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let _silent = UnixListener::bind(port(&folder))?;
    let error = node(&folder, "").start().await;
    let error = format!("{:#}", error.err().context("it has started")?);
    assert!(error.contains("end it, or set another path"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_path_where_something_else_is_stays_as_it_is() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(port(&folder), "precious")?;
    let error = node(&folder, "").start().await;
    let error = format!("{:#}", error.err().context("it has started")?);
    assert!(error.contains("something else than a socket"), "{error}");
    assert_eq!(std::fs::read_to_string(port(&folder))?, "precious");
    Ok(())
}

#[tokio::test]
async fn what_is_no_node_is_said_and_nothing_is_replaced() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let listener = UnixListener::bind(port(&folder))?;
    let answering = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        stream.write_all(b"[\"clients 127.0.0.1:0\"]\n").await?;
        anyhow::Ok(listener)
    });
    let error = node(&folder, "").start().await;
    let error = format!("{:#}", error.err().context("it has started")?);
    assert!(error.contains("does not hand its sockets over"), "{error}");
    assert!(
        error.contains("named 1 sockets and handed over 0"),
        "{error}"
    );
    drop(answering.await??);
    assert!(port(&folder).exists());
    Ok(())
}
