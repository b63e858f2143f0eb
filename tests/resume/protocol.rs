//! The frames of `jackfield.v1`, and what a plugin sees of it.

use anyhow::Result;
use jackfield_tests::{End, Node, ReliableClient};
use serde_json::{Value, json};

use crate::{connect, console, with_manifest};

#[tokio::test]
async fn a_message_is_acknowledged_when_the_plugin_has_handled_it() -> Result<()> {
    let node = console("").start().await?;
    let mut client = connect(&node, "").await?;
    for number in 1..=3 {
        client
            .say(r#"{"id":1,"do":"reply","text":"answer"}"#)
            .await?;
        assert_eq!(client.next_text().await?, "answer");
        let answer: Value = serde_json::from_str(&client.next_text().await?)?;
        assert_eq!(answer["ok"], Value::Null);
        let ack = json!({ "type": "ack", "received": number });
        assert_eq!(client.next_control().await?, ack);
    }
    // A sign of life, and a message of a later version of the protocol.
    client.say_raw(r#"{"type":"later","more":[1,{}]}"#).await?;
    client.say_raw(r#"{"type":"ping","at":7}"#).await?;
    assert_eq!(client.next_control().await?, json!({ "type": "pong" }));
    node.stop().await.map(drop)
}

#[tokio::test]
async fn without_resume_in_its_manifest_a_plugins_clients_are_told_that_they_cannot_come_back()
-> Result<()> {
    let node = Node::builder().alone().plugin("echo").start().await?;
    let mut client = ReliableClient::connect(node.address(), "/echo").await?;
    assert!(client.welcome().get("resume").is_none());
    client.say("hello").await?;
    assert_eq!(client.next_text().await?, "hello");
    client.say("").await?;
    assert_eq!(client.next_text().await?, "");
    node.stop().await.map(drop)
}

#[tokio::test]
async fn a_text_that_is_no_message_breaks_the_protocol() -> Result<()> {
    let node = console("").start().await?;
    for (text, rule) in [
        ("hello", "a text of jackfield.v1 begins with m or {"),
        ("", "a text of jackfield.v1 begins with m or {"),
        (
            "{}",
            "a control message of jackfield.v1 is one JSON object with a type",
        ),
        (
            r#"{"type":"ack","received":99}"#,
            "an ack is for a message that was not sent",
        ),
    ] {
        let mut client = connect(&node, "").await?;
        client.say_raw(text).await?;
        assert_eq!(client.end().await?, End::closed(1002, rule), "{text}");
    }
    node.stop().await.map(drop)
}

/// The largest message is as large as without the subprotocol, which adds a letter to a text.
#[tokio::test]
async fn a_message_may_be_as_large_as_ever() -> Result<()> {
    let node = Node::builder()
        .alone()
        .plugin("echo")
        .config("[limits]\nmessage_bytes = 1000\n")
        .start()
        .await?;
    let mut client = ReliableClient::connect(node.address(), "/echo").await?;
    let largest = "x".repeat(1000);
    client.say(&largest).await?;
    assert_eq!(client.next_text().await?, largest);
    client.say(&"x".repeat(1001)).await?;
    assert_eq!(client.end().await?.code(), 1009);
    node.stop().await.map(drop)
}

/// The plugin sees its own subprotocols, chooses among them, and never sees the secret.
#[tokio::test]
async fn a_plugin_has_its_own_subprotocols_beside_this_one() -> Result<()> {
    let manifest = "subprotocols = ['chat.v2', 'chat.v1']\nrequire_subprotocol = true\n[resume]\n";
    let node = with_manifest(manifest).start().await?;
    let protocols = "chat.v1, jackfield.v1, jackfield.resume.made.up.1, chat.v2";
    let path = "/console?handshake=1";
    let address = node.address();
    let mut client = ReliableClient::connect_with(address, path, protocols).await?;
    assert_eq!(client.welcome()["subprotocol"], "chat.v2");
    let connected: Value = serde_json::from_str(&client.next_text().await?)?;
    let seen = &connected["handshake"];
    assert_eq!(seen["subprotocols"], json!(["chat.v1", "chat.v2"]));
    assert!(!connected.to_string().contains("jackfield."), "{connected}");

    let refused = ReliableClient::connect(address, path).await;
    let refused = refused.expect_err("its own subprotocol is required");
    assert_eq!(jackfield_tests::refusal_status(&refused), Some(400));
    // The one that is offered is no subprotocol of the plugin's.
    let mut plain = node
        .client_with("/console", &[("sec-websocket-protocol", "chat.v1")])
        .await?;
    assert_eq!(plain.subprotocol(), Some("chat.v1"));
    assert!(plain.next_text().await?.starts_with('{'));
    node.stop().await.map(drop)
}
