//! What workerman-chat does, by `plugins/chat`, as it is shipped, with its people at two nodes:
//! who is here, rooms, private messages, who has come and left.

use std::fs;

use anyhow::{Context as _, Result};
use jackfield_tests::{Client, Cluster, Node, NodeBuilder, component};
use serde_json::{Value, json};

use super::counts;

#[tokio::test]
async fn people_of_two_nodes_are_in_one_room() -> Result<()> {
    let cluster = chat().await?;
    let mut ada = enter(&cluster[0], "Ada", "tea").await?;
    assert_eq!(next(&mut ada, "people").await?["names"], json!(["Ada"]));
    knows(&cluster[1], "tea", 1).await?;
    let mut bob = enter(&cluster[1], "Bob", "tea").await?;
    assert_eq!(next(&mut bob, "people").await?["total"], 2);
    assert_eq!(came(&mut ada, "Bob").await?["room"], "tea");

    ask(&mut bob, json!({ "do": "say", "text": "hello" })).await?;
    for person in [&mut ada, &mut bob] {
        let said = next(person, "said").await?;
        assert_eq!(
            (&said["from"], &said["text"]),
            (&json!("Bob"), &json!("hello"))
        );
    }

    bob.leave().await?;
    assert_eq!(next(&mut ada, "left").await?["name"], "Bob");
    Ok(())
}

#[tokio::test]
async fn a_private_message_crosses_nodes_and_rooms_and_is_for_one() -> Result<()> {
    let cluster = chat().await?;
    let mut ada = enter(&cluster[0], "Ada", "tea").await?;
    knows(&cluster[1], "tea", 1).await?;
    let mut cyd = enter(&cluster[1], "Cyd", "tea").await?;
    came(&mut ada, "Cyd").await?;
    let mut bob = enter(&cluster[1], "Bob", "coffee").await?;
    knows(&cluster[0], "coffee", 1).await?;

    ask(
        &mut ada,
        json!({ "do": "tell", "to": "Bob", "text": "psst" }),
    )
    .await?;
    assert_eq!(next(&mut bob, "told").await?["text"], "psst");

    ask(&mut bob, json!({ "do": "move", "room": "tea" })).await?;
    came(&mut ada, "Bob").await?;
    ask(&mut ada, json!({ "do": "say", "text": "hello" })).await?;
    // Nothing private has come to Cyd before what is for all.
    let heard = until(&mut cyd, "said").await?;
    assert!(
        heard.iter().all(|event| event["event"] != "told"),
        "{heard:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_name_is_one_persons_on_all_nodes() -> Result<()> {
    let cluster = chat().await?;
    let _ada = enter(&cluster[0], "Ada", "tea").await?;
    knows(&cluster[1], "tea", 1).await?;
    let mut other = cluster[1].client("/chat").await?;
    ask(
        &mut other,
        json!({ "do": "enter", "name": "Ada", "room": "tea" }),
    )
    .await?;
    assert_eq!(next(&mut other, "error").await?["code"], "taken");
    Ok(())
}

/// Two nodes with the chat and its manifest.
async fn chat() -> Result<Cluster> {
    let manifest = component("chat")?.with_extension("toml");
    let manifest = fs::read_to_string(manifest).context("its manifest")?;
    let build = |node: NodeBuilder| node.plugin("chat").manifest("chat", &manifest);
    Cluster::start(2, build).await
}

async fn enter(node: &Node, name: &str, room: &str) -> Result<Client> {
    let mut client = node.client("/chat").await?;
    ask(
        &mut client,
        json!({ "do": "enter", "name": name, "room": room }),
    )
    .await?;
    next(&mut client, "entered").await?;
    Ok(client)
}

async fn ask(client: &mut Client, request: Value) -> Result<()> {
    client.say(request.to_string()).await
}

/// The next event of this kind. Presence may be told more than once, so others may come first.
async fn next(client: &mut Client, event: &str) -> Result<Value> {
    let heard = until(client, event).await?;
    heard.into_iter().next_back().context("nothing")
}

/// All events up to the next one of this kind.
async fn until(client: &mut Client, event: &str) -> Result<Vec<Value>> {
    let mut heard: Vec<Value> = Vec::new();
    while heard.last().is_none_or(|last| last["event"] != event) {
        heard.push(serde_json::from_str(&client.next_text().await?)?);
    }
    Ok(heard)
}

/// That this person has come, whoever else has.
async fn came(client: &mut Client, name: &str) -> Result<Value> {
    loop {
        let event = next(client, "came").await?;
        if event["name"] == name {
            return Ok(event);
        }
    }
}

/// Waits until the node knows of so many in the room.
async fn knows(node: &Node, room: &str, people: u64) -> Result<()> {
    let group = json!({ "group": room });
    counts(node, "chat", "get-client-count-by-group", group, people).await
}
