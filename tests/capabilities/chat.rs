//! The chat's history, at two nodes: of each in memory, of both at a server.

use std::fs;

use anyhow::{Context as _, Result};
use jackfield_tests::{Client, Cluster, Node, Redis, component};
use serde_json::{Value, json};

#[tokio::test]
async fn at_a_server_people_of_all_nodes_are_shown_what_was_said() -> Result<()> {
    let server = Redis::start().await?;
    let cluster = chats(&server.url()).await?;
    let mut ada = enter(&cluster[0], "Ada").await?;
    say(&mut ada, "hello from one").await?;
    let mut bob = enter(&cluster[1], "Bob").await?;
    assert_eq!(shown(&mut bob, "Bob").await?, ["hello from one"]);
    say(&mut bob, "hello from two").await?;
    let mut cyd = enter(&cluster[0], "Cyd").await?;
    assert_eq!(
        shown(&mut cyd, "Cyd").await?,
        ["hello from one", "hello from two"]
    );
    Ok(())
}

#[tokio::test]
async fn in_memory_each_node_shows_what_was_said_there() -> Result<()> {
    let cluster = chats("memory").await?;
    let mut ada = enter(&cluster[0], "Ada").await?;
    say(&mut ada, "hello from one").await?;
    let mut bob = enter(&cluster[1], "Bob").await?;
    assert_eq!(shown(&mut bob, "Bob").await?, [""; 0]);
    let mut cyd = enter(&cluster[0], "Cyd").await?;
    assert_eq!(shown(&mut cyd, "Cyd").await?, ["hello from one"]);
    Ok(())
}

async fn chats(store: &str) -> Result<Cluster> {
    let manifest = component("chat")?.with_extension("toml");
    let manifest = fs::read_to_string(manifest).context("its manifest")?;
    Cluster::start(2, |node| {
        node.plugin("chat")
            .manifest("chat", &manifest)
            .arguments(&["--keyvalue", store])
    })
    .await
}

async fn enter(node: &Node, name: &str) -> Result<Client> {
    let mut client = node.client("/chat").await?;
    let request = json!({ "do": "enter", "name": name, "room": "tea" });
    client.say(request.to_string()).await?;
    Ok(client)
}

/// Says it, and waits until it has been said.
async fn say(client: &mut Client, text: &str) -> Result<()> {
    let request = json!({ "do": "say", "text": text });
    client.say(request.to_string()).await?;
    while next(client).await?["text"] != text {}
    Ok(())
}

/// What somebody is shown of what was said, up to being told that they came.
async fn shown(client: &mut Client, name: &str) -> Result<Vec<String>> {
    let mut shown = Vec::new();
    loop {
        let event = next(client).await?;
        // Of others who came a moment ago at another node, the news may come now.
        if event["event"] == "came" && event["name"] == name {
            return Ok(shown);
        }
        for said in event["said"].as_array().into_iter().flatten() {
            shown.push(said["text"].as_str().context("a text")?.to_owned());
        }
    }
}

async fn next(client: &mut Client) -> Result<Value> {
    Ok(serde_json::from_str(&client.next_text().await?)?)
}
