//! Clients that go without a word: pings find those that are silent, and of 5,000 that
//! vanish nothing is left.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use jackfield_tests::{Client, Console, Frame, Node, OpCode, count};
use serde_json::{Value, json};

#[tokio::test]
async fn a_client_that_answers_pings_stays() -> Result<()> {
    let node = with_pings("ping_every = '100ms'\nping_timeout = '1s'").await?;
    let mut ada = node.console(&[]).await?;
    for _ in 0..3 {
        ada.client().next_ping().await?;
    }
    ada.ok(json!({ "do": "is-online" })).await?;
    assert_eq!(node.counters().await?.get("clients_silent")?, 0);
    Ok(())
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_cut() -> Result<()> {
    let node = with_pings("ping_every = '300ms'\nping_timeout = '2s'").await?;
    let mut watcher = node.watcher().await?;
    // It reads nothing from here on, and so it answers nothing.
    let silent = node.console(&[("uid", "ada")]).await?;

    let departure = watcher.departure(silent.id()).await?;

    assert_eq!(
        (&departure["code"], &departure["by"]),
        (&json!(1006), &json!("node"))
    );
    assert_eq!(node.counters().await?.get("clients_silent")?, 1);
    assert_eq!(
        watcher
            .ok(json!({ "do": "is-uid-online", "uid": "ada" }))
            .await?,
        false
    );
    Ok(())
}

#[tokio::test]
async fn of_5000_clients_that_vanish_nothing_is_left() -> Result<()> {
    const AT_ONCE: usize = 500;
    let node = Node::builder()
        .plugin("console")
        .config("[limits]\noutbox_messages = 10000\nclients_per_uid = 10000")
        .start()
        .await?;
    let mut watcher = node.watcher().await?;
    let mut departed = BTreeSet::new();
    for batch in 0..10 {
        let mut ids = BTreeSet::new();
        let mut clients = Vec::new();
        for number in 0..AT_ONCE {
            let own = format!("{batch}-{number}");
            let query = [("uid", "shared"), ("group", "crowd"), ("group", &own)];
            let client = node.console(&query).await?;
            ids.insert(client.id().to_owned());
            clients.push(client);
        }
        for (number, client) in clients.into_iter().enumerate() {
            match number % 2 {
                0 => client.vanish()?,
                _ => drop(client),
            }
        }
        while !ids.is_empty() {
            let event = watcher.next_event().await?;
            let id = event["client"].as_str().context("a closed event")?;
            assert_eq!(
                (&event["event"], &event["code"]),
                (&json!("closed"), &json!(1006))
            );
            assert!(
                ids.remove(id),
                "its second on-close, or somebody else's: {event}"
            );
            departed.insert(id.to_owned());
        }
    }

    assert_eq!(departed.len(), 5000);
    assert_eq!(watcher.heard().await?, []);
    assert_eq!(
        watcher.ok(json!({ "do": "get-all-client-count" })).await?,
        count(1)
    );
    assert_eq!(
        watcher.walk(json!({ "do": "get-all-groups" }), 10).await?,
        ["watch-close"]
    );
    assert_eq!(
        watcher.walk(json!({ "do": "get-all-uids" }), 10).await?,
        [""; 0]
    );
    let stopped = node.stop().await?;
    assert_eq!(stopped.counters.get("clients_accepted")?, 5001);
    assert_eq!(stopped.counters.get("clients_left")?, 5001);
    Ok(())
}

#[tokio::test]
async fn clients_that_vanish_while_they_are_sent_to_take_nothing_with_them() -> Result<()> {
    let node = Node::start("console").await?;
    let mut watcher = node.watcher().await?;
    for _ in 0..50 {
        let mut talks = node.console(&[("group", "g")]).await?;
        let stays = node.console(&[("group", "g")]).await?;
        let gone = [talks.id().to_owned(), stays.id().to_owned()];
        let to_all = json!({ "do": "send-to-group", "group": "g", "text": "m" });
        talks
            .start(json!({ "do": "repeat", "times": 20, "request": to_all }))
            .await?;
        stays.vanish()?;
        talks.vanish()?;
        for id in gone {
            watcher.departure(&id).await?;
        }
    }
    assert_eq!(
        watcher.ok(json!({ "do": "get-all-client-count" })).await?,
        count(1)
    );
    Ok(())
}

#[tokio::test]
async fn half_a_frame_is_no_message() -> Result<()> {
    let node = Node::start("console").await?;
    let mut watcher: Console = node.watcher().await?;
    let mut client: Client = node.client("/console").await?;
    let connected: Value = serde_json::from_str(&client.next_text().await?)?;
    let id = connected["client"].as_str().context("a client id")?;

    let request = json!({ "do": "send-to-group", "group": "watch-close", "text": "m" });
    let frame = Frame::new(OpCode::Text, request.to_string());
    let bytes = frame.to_bytes();
    client.say_bytes(&bytes[..bytes.len() - 1]).await?;
    drop(client);

    assert_eq!(watcher.departure(id).await?["code"], 1006);
    assert_eq!(watcher.heard().await?, []);
    Ok(())
}

async fn with_pings(limits: &str) -> Result<Node> {
    Node::builder()
        .plugin("console")
        .config(&format!("[limits]\n{limits}"))
        .start()
        .await
}
