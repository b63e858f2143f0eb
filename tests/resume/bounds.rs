//! What is kept for a client is bounded, and so is how many clients are waited for.

use crate::{connect, console, has_not_left, to_group};
use anyhow::Result;

#[tokio::test]
async fn a_client_for_which_more_is_sent_than_is_kept_is_given_up() -> Result<()> {
    for bound in ["messages = 10", "bytes = 60"] {
        let node = console(bound).start().await?;
        let mut watcher = node.watcher().await?;
        let mut bob = node.console(&[]).await?;
        let mut ada = connect(&node, "?group=g").await?;
        let id = ada.id().to_owned();
        ada.cut()?;
        // Each has six bytes: a letter before the text, and the header of its frame.
        for number in 0..9 {
            to_group(&mut bob, "g", &format!("m {number}")).await?;
        }
        has_not_left(&node, &mut watcher, &id).await?;
        to_group(&mut bob, "g", "m 9").await?;
        to_group(&mut bob, "g", "one more").await?;
        assert_eq!(watcher.departure(&id).await?["code"], 1013, "{bound}");
        assert!(!ada.come_back(node.address()).await?);
        node.stop().await?;
    }
    Ok(())
}

/// A client that acknowledges nothing goes on getting messages. It only cannot come back.
#[tokio::test]
async fn a_client_that_does_not_acknowledge_is_not_closed_for_it() -> Result<()> {
    let node = console("messages = 10").start().await?;
    let mut bob = node.console(&[]).await?;
    let mut ada = connect(&node, "?group=g").await?;
    let id = ada.id().to_owned();
    ada.acknowledge_nothing();
    for number in 0..100 {
        to_group(&mut bob, "g", &format!("message {number}")).await?;
        assert_eq!(ada.next_text().await?, format!("message {number}"));
    }
    // Its last messages are still here, since the node has sent them last.
    ada.cut()?;
    assert!(ada.come_back(node.address()).await?);
    ada.cut()?;
    let too_few = ada.received() - 11;
    assert!(!ada.come_back_with(node.address(), too_few).await?);
    assert_ne!(ada.id(), id);
    node.stop().await.map(drop)
}

#[tokio::test]
async fn the_clients_that_are_away_are_bounded() -> Result<()> {
    let node = console("")
        .config("[limits]\nclients = 3\n")
        .start()
        .await?;
    let mut watcher = node.watcher().await?;
    let mut clients = Vec::new();
    for away in 1..=3 {
        let mut client = connect(&node, "").await?;
        client.cut()?;
        // It has no place on the node any more.
        while node.counters().await?.get("clients_away")? < away {}
        clients.push(client);
    }
    let mut beyond = connect(&node, "").await?;
    let id = beyond.id().to_owned();
    beyond.cut()?;
    assert_eq!(watcher.departure(&id).await?["code"], 1006);
    for client in &mut clients {
        assert!(client.come_back(node.address()).await?);
        client.cut()?;
    }
    node.stop().await.map(drop)
}
