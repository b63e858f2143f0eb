//! How many clients there may be, how fast they may come, and how fast they may talk.

use anyhow::Result;
use jackfield_tests::{Node, NodeBuilder, within};
use serde_json::json;

#[tokio::test]
async fn clients_beyond_the_nodes_number_are_503() -> Result<()> {
    let node = limited("clients = 2").start().await?;
    let _first = node.console(&[]).await?;
    let mut second = node.console(&[]).await?;
    let refused = node.refusal("/console").await?;
    assert_eq!(refused.status, 503);
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(node.counters().await?.get("handshakes_limited")?, 1);

    second.leave().await?;
    comes_in(&node).await
}

#[tokio::test]
async fn a_refused_or_broken_handshake_gives_its_place_back() -> Result<()> {
    let node = limited("clients = 1").start().await?;
    for path in [
        "/console?refuse=403",
        "/console?do=panic",
        "/console?subprotocol=x",
    ] {
        assert_ne!(node.refusal(path).await?.status, 503, "{path}");
    }
    node.console(&[]).await.map(drop)
}

#[tokio::test]
async fn clients_beyond_an_addresss_number_are_429() -> Result<()> {
    let node = limited("clients_per_address = 2").start().await?;
    let _first = node.console(&[]).await?;
    let second = node.console(&[]).await?;
    assert_eq!(node.refusal("/console").await?.status, 429);
    assert_eq!(node.counters().await?.get("handshakes_limited")?, 1);

    second.vanish()?;
    comes_in(&node).await
}

#[tokio::test]
async fn clients_that_come_too_fast_are_503() -> Result<()> {
    let node = limited("connects_per_second = 3").start().await?;
    let mut let_in = 0;
    while node.client("/console").await.is_ok() {
        let_in += 1;
    }
    assert!(let_in >= 3, "a second's worth may come at once: {let_in}");
    assert_eq!(node.counters().await?.get("handshakes_limited")?, 1);
    comes_in(&node).await
}

#[tokio::test]
async fn a_client_that_talks_too_fast_is_1008() -> Result<()> {
    let node = limited("messages_per_second = 5").start().await?;
    let mut watcher = node.watcher().await?;
    let mut ada = node.console(&[]).await?;
    for _ in 0..200 {
        // What comes after the close is not taken any more.
        if ada.start(json!({ "do": "is-online" })).await.is_err() {
            break;
        }
    }
    let (answers, end) = ada.until_end().await?;
    assert_eq!(end.code(), 1008);
    assert!(
        (5..100).contains(&answers.len()),
        "{} were answered",
        answers.len()
    );
    assert_eq!(watcher.departure(ada.id()).await?["by"], "node");
    assert_eq!(node.counters().await?.get("clients_too_fast")?, 1);
    Ok(())
}

#[tokio::test]
async fn many_messages_are_fine_without_that_limit() -> Result<()> {
    let node = Node::start("echo").await?;
    let mut client = node.client("/echo").await?;
    for _ in 0..5 {
        for number in 0..200 {
            client.feed(number.to_string()).await?;
        }
        client.flush().await?;
        for number in 0..200 {
            assert_eq!(client.next_text().await?, number.to_string());
        }
    }
    Ok(())
}

fn limited(limit: &str) -> NodeBuilder {
    Node::builder()
        .plugin("console")
        .config(&format!("[limits]\n{limit}"))
}

/// Tries until there is a place: it comes free a moment after a client has left.
async fn comes_in(node: &Node) -> Result<()> {
    let trying = async {
        while node.client("/console").await.is_err() {}
        anyhow::Ok(())
    };
    within("a place", trying).await
}
