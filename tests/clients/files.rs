//! Open files: clients use up those that they may have, and nothing else of the node stops.

use anyhow::{Result, ensure};
use jackfield_tests::{Client, LogLine, Node, NodeBuilder, Register, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// The process may have so many open, and these are the shares; as in `host/src/limits/files.rs`.
const FILES: usize = 256;
const OF_CLIENTS: usize = 128;
const OF_API: usize = 16;
const OF_MESH: usize = 16;

fn few_files() -> NodeBuilder {
    let node = Node::builder().alone().plugin_from("marker", "marker-a");
    node.after_script(&format!("ulimit -n {FILES}"))
}

/// Clients come until one is refused.
async fn fill(node: &Node) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    while let Ok(client) = node.client("/marker").await {
        clients.push(client);
        ensure!(clients.len() < FILES, "more clients than files");
    }
    Ok(clients)
}

async fn is_well(node: &Node) -> Result<()> {
    for path in ["/live", "/ready"] {
        assert_eq!(node.api(path).await?.status, 200, "{path}");
    }
    let channel = Endpoint::from_shared(format!("http://{}", node.api_address()))?;
    let mut health = HealthClient::new(channel.connect().await?);
    let health = health.check(HealthCheckRequest::default());
    let health = within("the health", health).await?.into_inner();
    assert_eq!(health.status(), ServingStatus::Serving);
    Ok(())
}

#[tokio::test]
async fn clients_that_have_all_their_files_stop_nothing_else() -> Result<()> {
    let register = Register::start().await?;
    let kept = tempfile::tempdir()?;
    let store = format!("file:{}", kept.path().join("state").display());
    let cache = kept.path().join("cache").display().to_string();
    let node = few_files()
        .registered_at(&[&register])
        .arguments(&["--keyvalue", &store, "--cache", &cache])
        .start()
        .await?;
    let beyond = |line: &LogLine| line.says("limits.clients");
    let warned = node.wait_for_log(beyond).await?;
    assert_eq!(warned.level(), "WARN");
    assert_eq!(warned.number("clients"), Some(100_000));
    assert_eq!(warned.number("open_files"), Some(FILES as u64));
    assert_eq!(warned.number("clients_files"), Some(OF_CLIENTS as u64));

    // With a cache of its own, the node has to compile the plugin first.
    node.generation_loaded("marker", 1).await?;
    let mut clients = fill(&node).await?;
    // The last handshake finds no file for a page that it might ask for.
    assert_eq!(clients.len(), OF_CLIENTS - 1);
    let refused = node.refusal("/marker").await?;
    assert_eq!(refused.status, 503);
    assert!(refused.headers.contains_key("retry-after"));
    let refused = |line: &LogLine| line.says("all the open files");
    node.wait_for_log(refused).await?;

    // Some more that say nothing, and take nobody's place for that.
    let mut silent = Vec::new();
    for _ in 0..2 * FILES {
        silent.push(TcpStream::connect(node.address()).await?);
    }
    is_well(&node).await?;

    let peer = Node::builder().alone().plugin_from("marker", "marker-a");
    let peer = peer.registered_at(&[&register]).start().await?;
    node.wait_for_peers(1).await?;
    peer.wait_for_peers(1).await?;

    node.folder().put("marker", "marker-b")?;
    node.generation_loaded("marker", 2).await?;
    for client in &mut clients {
        client.say("still there?").await?;
        client.next_text().await?;
    }
    is_well(&node).await?;
    assert_eq!(node.counters().await?.get("accepts_failed")?, 0);
    assert!(node.counters().await?.get("files_limited")? >= 2);
    assert_eq!(
        node.log().so_far(refused).len(),
        1,
        "it is said now and then"
    );

    drop((clients, silent));
    let come_in = async {
        while node.client("/marker").await.is_err() {}
        anyhow::Ok(())
    };
    within("a place", come_in).await?;
    node.stop().await.map(drop)
}

/// The same from the other side: neither backends that keep their connections nor connections to
/// the mesh's port that say nothing take what is the others'.
#[tokio::test]
async fn the_other_ports_take_no_more_than_is_theirs() -> Result<()> {
    let register = Register::start().await?;
    let node = few_files().registered_at(&[&register]).start().await?;
    let before = node.open_files()?;
    let mut kept = Vec::new();
    for _ in 0..FILES {
        let mut backend = TcpStream::connect(node.api_address()).await?;
        let request = b"GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n";
        backend.write_all(request).await?;
        let mut answer = [0; 12];
        within("an answer", backend.read_exact(&mut answer)).await?;
        assert_eq!(&answer, b"HTTP/1.1 200");
        let silent = TcpStream::connect(node.mesh_address()?).await?;
        kept.push((backend, silent));
    }
    is_well(&node).await?;
    let bounded = async {
        while node.open_files()? > before + OF_API + OF_MESH {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    };
    within("connections to be closed", bounded).await?;
    let _client = node.client("/marker").await?;
    let peer = Node::builder().alone().registered_at(&[&register]);
    let _peer = peer.start().await?;
    node.wait_for_peers(1).await?;
    assert_eq!(node.counters().await?.get("accepts_failed")?, 0);
    drop(kept);
    Ok(())
}
