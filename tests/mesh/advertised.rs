//! A node that is not where it says: nobody takes it in, and it is told why.

use anyhow::Result;
use jackfield_tests::{LogLine, Node, NodeBuilder, Register};
use serde_json::json;

use crate::{SOON, console};

fn node() -> NodeBuilder {
    console(SOON)(Node::builder().alone())
}

#[tokio::test]
async fn where_nobody_listens() -> Result<()> {
    let nobody = {
        let free = std::net::TcpListener::bind("127.0.0.1:0")?;
        free.local_addr()?.to_string()
    };
    let register = Register::start().await?;
    let [first, second] = [0, 1].map(|_| node().registered_at(&[&register]).start());
    let (first, second) = tokio::try_join!(first, second)?;
    is_not_taken_in(&register, first, second, &nobody).await
}

#[tokio::test]
async fn where_another_node_listens() -> Result<()> {
    let register = Register::start().await?;
    let [first, second] = [0, 1].map(|_| node().registered_at(&[&register]).start());
    let (first, second) = tokio::try_join!(first, second)?;
    let other = second.mesh_address()?.to_string();
    is_not_taken_in(&register, first, second, &other).await
}

/// By the first, for longer than it takes for the second to be gone.
async fn is_not_taken_in(
    register: &Register,
    first: Node,
    second: Node,
    advertised: &str,
) -> Result<()> {
    first.wait_for_peers(1).await?;
    let wrong = node().registered_at(&[register]);
    let wrong = wrong
        .arguments(&["--advertise", advertised])
        .start()
        .await?;
    let is_told = |line: &LogLine| line.level() == "WARN" && line.says("check its --advertise");
    let told = wrong.wait_for_log(is_told).await?;
    assert!(told.says(advertised), "{told:?}");
    first.wait_for_log(is_told).await?;

    let lost = second.incarnation().await?;
    second.kill().await?;
    let is_gone = |line: &LogLine| line.says("a node is gone");
    let gone = first.wait_for_log(is_gone).await?;
    assert_eq!(gone.text("peer"), lost);
    let own = wrong.incarnation().await?;
    for node in [&first, &wrong] {
        let news = node.log().so_far(|line| {
            let is_news = ["a node has come", "a node is gone", "a node is silent"];
            is_news.iter().any(|words| line.says(words)) && line.text("peer") != lost
        });
        assert!(news.is_empty(), "{news:?}");
        let lines = node.log().so_far(|line| is_told(line) && line.says(&own));
        assert!(lines.len() <= 2, "{lines:?}");
    }
    assert_eq!(first.peers().await?, [] as [serde_json::Value; 0]);

    // What it does for its own clients is not touched by that.
    let mut ada = wrong.console(&[("uid", "ada")]).await?;
    let online = json!({ "do": "is-uid-online", "uid": "ada" });
    assert_eq!(ada.ok(online).await?, true);
    Ok(())
}
