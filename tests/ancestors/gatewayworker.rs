//! Login, rooms, private messages, who is online and who has left, at two nodes: the program
//! of `docs/from-gatewayworker.md`.

use anyhow::{Result, ensure};
use jackfield_tests::{Client, Cluster, Node, Protocol, run_curl_lines};
use serde_json::{Value, json};

use super::counts;

#[tokio::test]
async fn the_pages_program_does_what_the_page_says() -> Result<()> {
    let cluster = Cluster::start(2, |node| node.plugin("rooms")).await?;
    let mut ada = login(&cluster[0], "Ada").await?;
    assert_eq!(hear(&mut ada).await?, online(&["Ada"]));
    let room = json!({ "group": "tea" });
    counts(&cluster[1], "rooms", "get-client-count-by-group", room, 1).await?;

    let mut bob = login(&cluster[1], "Bob").await?;
    assert_eq!(hear(&mut bob).await?, online(&["Ada", "Bob"]));
    let came = json!({ "type": "login", "name": "Bob" });
    assert_eq!(hear(&mut ada).await?, came);

    bob.say(json!({ "type": "say", "text": "hello" }).to_string())
        .await?;
    let hello = json!({ "type": "say", "from": "Bob", "text": "hello" });
    assert_eq!(hear(&mut ada).await?, hello);
    // Not text, no JSON, no such type: as much as nothing.
    ada.say(vec![0, 255]).await?;
    ada.say("hello").await?;
    ada.say(json!({ "type": "pong" }).to_string()).await?;
    ada.say(json!({ "type": "say", "text": "psst", "to": "Bob" }).to_string())
        .await?;
    let psst = json!({ "type": "say", "from": "Ada", "text": "psst" });
    assert_eq!(hear(&mut bob).await?, psst);

    bob.leave().await?;
    let gone = json!({ "type": "logout", "name": "Bob" });
    assert_eq!(hear(&mut ada).await?, gone);
    Ok(())
}

#[tokio::test]
async fn every_curl_line_is_answered_as_the_page_says() -> Result<()> {
    let node = Node::start_alone("rooms").await?;
    let mut ada = login(&node, "ada").await?;
    assert_eq!(hear(&mut ada).await?, online(&["ada"]));
    let page = include_str!("../../docs/from-gatewayworker.md");
    let api = node.calls(Protocol::Http)?.address();
    assert_eq!(run_curl_lines(page, api).await?, 1);
    assert_eq!(ada.next_text().await?, "your order has left");
    Ok(())
}

/// Somebody in the room `tea`, who has heard of their own coming.
async fn login(node: &Node, name: &str) -> Result<Client> {
    let mut client = node.client("/rooms").await?;
    client
        .say(json!({ "type": "login", "name": name, "room": "tea" }).to_string())
        .await?;
    let came = hear(&mut client).await?;
    ensure!(came == json!({ "type": "login", "name": name }), "{came}");
    Ok(client)
}

fn online(names: &[&str]) -> Value {
    json!({ "type": "online", "names": names })
}

/// The next message, with names in the order of the alphabet: a list has none.
async fn hear(client: &mut Client) -> Result<Value> {
    let mut heard: Value = serde_json::from_str(&client.next_text().await?)?;
    if let Some(Value::Array(names)) = heard.get_mut("names") {
        names.sort_by_key(Value::to_string);
    }
    Ok(heard)
}
