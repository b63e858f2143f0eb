use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use jackfield_tests::{Client, Node, Raw, run_node_binary, text, within};
use rustix::process::Signal;
use tokio::net::{TcpListener, TcpStream, UnixStream};

use crate::{echoes, handshake};

#[tokio::test]
async fn several_addresses_lead_to_the_same_plugins() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("clients.sock");
    let unix = format!("unix:{}", path.display());
    let builder = Node::builder().plugin("console").plugin("echo").alone();
    let arguments = ["--listen", "[::1]:0", "--listen", &unix];
    let config = "[unix_socket]\nmode = '0600'\ngroup = '65534'\n";
    let node = builder.config(config).arguments(&arguments).start().await?;

    let all = node.listening("all_clients");
    let all = all.as_array().context("all addresses")?;
    assert_eq!((all.len(), &all[2]), (3, &unix.into()), "{all:?}");
    let ipv6 = all[1].as_str().context("an address")?.parse()?;
    let mut clients = vec![
        node.client("/echo").await?,
        Client::connect(ipv6, "/echo", &[]).await?,
    ];
    clients.push(Client::over(UnixStream::connect(&path).await?, "/echo", &[]).await?);
    for client in &mut clients {
        echoes(client).await?;
    }
    let (_, seen) = handshake(UnixStream::connect(&path).await?, &[]).await?;
    assert_eq!(seen["remote_address"], "unix");

    let metadata = std::fs::metadata(&path)?;
    assert_eq!(
        (metadata.permissions().mode() & 0o777, metadata.gid()),
        (0o600, 65534)
    );
    node.stop().await?;
    assert!(!path.exists(), "the file goes with the node");
    Ok(())
}

/// Clients of a Unix socket have no address, so no limit for addresses concerns them.
#[tokio::test]
async fn a_proxy_at_a_unix_socket_may_name_its_clients() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("clients.sock");
    let unix = format!("unix:{}", path.display());
    let config = "[proxy]\ntrusted = ['unix']\nheader = 'x-forwarded-for'\n\
                  [limits]\nclients_per_address = 1\n";
    let builder = Node::builder().plugin("console").alone().config(config);
    let node = builder.arguments(&["--listen", &unix]).start().await?;
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(handshake(UnixStream::connect(&path).await?, &[]).await?.0);
    }
    let named = [("x-forwarded-for", "192.0.2.1")];
    let (_client, seen) = handshake(UnixStream::connect(&path).await?, &named).await?;
    assert_eq!(seen["remote_address"], "192.0.2.1:0");
    let again = handshake(UnixStream::connect(&path).await?, &named).await;
    let refused = again.err().context("one too many")?;
    assert_eq!(jackfield_tests::refusal_status(&refused), Some(429));
    node.stop().await?;
    Ok(())
}

#[tokio::test]
async fn what_a_killed_node_has_left_is_replaced_and_nothing_else() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("clients.sock");
    let unix = format!("unix:{}", path.display());
    let builder = || {
        let builder = Node::builder().plugin("echo").alone();
        builder.arguments(&["--listen", &unix])
    };
    builder().start().await?.kill().await?;
    assert!(path.exists());
    let node = builder().start().await?;
    Client::over(UnixStream::connect(&path).await?, "/echo", &[]).await?;

    let refused = start_at(&unix, folder.path()).await?;
    assert!(
        refused.contains("another process listens there"),
        "{refused}"
    );
    node.stop().await?;
    std::fs::write(&path, "notes")?;
    let refused = start_at(&unix, folder.path()).await?;
    assert!(
        refused.contains("something else than a socket"),
        "{refused}"
    );
    assert_eq!(std::fs::read_to_string(&path)?, "notes");
    Ok(())
}

#[tokio::test]
async fn an_address_that_cannot_be_used_says_why() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let unix = format!("unix:{}", folder.path().join("a.sock").display());
    for (listen, set, why) in [
        ("8080", "", "HOST:PORT, unix:PATH or systemd:NAME"),
        (
            "systemd:web",
            "",
            "systemd hands over no socket with the name \"web\"",
        ),
        (&*unix, "unix_socket.mode=rw", "octal digits such as 0660"),
        (&*unix, "unix_socket.user=nobody-knows", "there is no user"),
        ("unix:/nowhere/a.sock", "", "No such file"),
        ("127.0.0.1:0", "tls.api=true", "TLS needs a certificate"),
    ] {
        let mut arguments = vec![
            "node",
            "--listen",
            listen,
            "--api",
            "127.0.0.1:0",
            "--plugins",
        ];
        let plugins = folder.path().to_str().context("UTF-8")?;
        arguments.push(plugins);
        if !set.is_empty() {
            arguments.extend(["--set", set]);
        }
        let output = run_node_binary(&arguments).await?;
        assert_eq!(output.code, 1, "{listen}");
        assert!(output.stderr.contains(why), "{listen}: {}", output.stderr);
    }
    Ok(())
}

async fn start_at(listen: &str, plugins: &Path) -> Result<String> {
    let plugins = plugins.to_str().context("UTF-8")?;
    let arguments = [
        "node",
        "--listen",
        listen,
        "--api",
        "",
        "--plugins",
        plugins,
    ];
    Ok(run_node_binary(&arguments).await?.stderr)
}

/// systemd listens before the node runs, so the first client waits and is not refused.
#[tokio::test]
async fn systemd_hands_its_sockets_over() -> Result<()> {
    let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let script = format!(
        "exec systemd-socket-activate --listen={address} --fdname=web -E JACKFIELD_CACHE \
         \"$0\" \"$@\""
    );
    let builder = Node::builder().plugin("echo").alone();
    let builder = builder
        .arguments(&["--listen", "systemd:web"])
        .after_script(&script);
    let first = async {
        let connected = async {
            loop {
                match TcpStream::connect(address).await {
                    Ok(stream) => return stream,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        let stream = within("systemd", async { anyhow::Ok(connected.await) }).await?;
        Client::over(stream, "/echo", &[]).await
    };
    let (node, first) = tokio::join!(builder.start(), first);
    let (node, mut first) = (node?, first?);
    first.say(text("hello")).await?;
    assert_eq!(first.next_text().await?, "hello");
    assert_eq!(node.listening("all_clients")[1], address.to_string());
    Raw::connect(address).await?;
    node.signal(Signal::TERM)?;
    let stopped = node.wait().await?;
    assert!(stopped.status.success(), "{:?}", stopped.status);
    Ok(())
}

/// Whoever comes while one node drains and the next one starts waits in the queue of the socket,
/// which neither of them closes.
#[tokio::test]
async fn a_restart_with_a_socket_of_systemd_refuses_nobody() -> Result<()> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    // As systemd does: the socket is open in the node's process when it begins.
    rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty())?;
    let fd = listener.as_raw_fd();
    let script = format!(
        "exec bash -c 'exec 3<&{fd}; export LISTEN_FDS=1 LISTEN_FDNAMES=web LISTEN_PID=$$; \
         exec \"$0\" \"$@\"' \"$0\" \"$@\""
    );
    let node = || {
        let builder = Node::builder().plugin("echo").alone();
        builder
            .arguments(&["--listen", "systemd:web"])
            .after_script(&script)
    };
    let address = listener.local_addr()?;
    let first = node().start().await?;
    let mut client = Client::connect(address, "/echo", &[]).await?;
    first.signal(Signal::TERM)?;
    assert_eq!(client.end().await?.code(), 1012);
    let newcomer = tokio::spawn(async move { Client::connect(address, "/echo", &[]).await });
    assert!(first.wait().await?.status.success());
    let _second = node().start().await?;
    let mut newcomer = newcomer.await??;
    newcomer.say(text("hello")).await?;
    assert_eq!(newcomer.next_text().await?, "hello");
    Ok(())
}

/// The kernel keeps as much for a client as it was told, and counts twice that much.
#[tokio::test]
async fn the_kernel_s_buffer_for_a_client_is_as_large_as_configured() -> Result<()> {
    for (bytes, expected) in [(16 << 10, 32 << 10), (64 << 10, 128 << 10)] {
        let config = format!("[limits]\nsend_buffer_bytes = {bytes}\n");
        let builder = Node::builder().plugin("echo").alone().config(&config);
        let node = builder.start().await?;
        let _client = node.client("/echo").await?;
        let port = format!("sport = :{}", node.address().port());
        let ss = tokio::process::Command::new("ss");
        let sockets = { ss }
            .args(["-tmnH", "state", "established", &port])
            .output();
        let sockets = String::from_utf8(within("ss", sockets).await?.stdout)?;
        let size = sockets.split_once(",tb").context("a size")?.1;
        let size = size.split(',').next().context("a size")?;
        assert_eq!(size.parse::<usize>()?, expected, "{sockets}");
    }
    Ok(())
}
