//! Clients that speak `jackfield.v1`: their messages are acknowledged, and a client whose connection
//! breaks comes back as the same client.
//!
//! Whether a client is the same one is seen by its id, by what it gets, and by a watcher of the plugin
//! `console` that hears each `on-close`.

mod bounds;
mod javascript;
mod one_node;
mod protocol;
mod several_nodes;

use anyhow::Result;
use jackfield_tests::{Console, Node, NodeBuilder, ReliableClient};
use serde_json::{Value, json};

/// The plugin `console`, whose clients may come back within a time that no test takes.
fn console(resume: &str) -> NodeBuilder {
    with_manifest(&format!("[resume]\nwindow = '10m'\n{resume}"))
}

/// The plugin `console` with this manifest.
fn with_manifest(manifest: &str) -> NodeBuilder {
    let node = Node::builder().alone().plugin("console");
    node.manifest("console", manifest)
}

/// A client of `console` that has heard its `connected` event.
async fn connect(node: &Node, query: &str) -> Result<ReliableClient> {
    let path = format!("/console{query}");
    let mut client = ReliableClient::connect(node.address(), &path).await?;
    let connected: Value = serde_json::from_str(&client.next_text().await?)?;
    assert_eq!(connected["event"], "connected", "{connected}");
    Ok(client)
}

/// Sends a text to the members of a group.
async fn to_group(from: &mut Console, group: &str, text: &str) -> Result<()> {
    from.ok(json!({ "do": "send-to-group", "group": group, "text": text }))
        .await
        .map(drop)
}

/// Asserts that a client has not left: one that leaves now is one that the watcher hears of first.
async fn has_not_left(node: &Node, watcher: &mut Console, client: &str) -> Result<()> {
    let mut marker = node.console(&[]).await?;
    marker.client().leave().await?;
    loop {
        let left: Value = serde_json::from_str(watcher.next().await?.to_text()?)?;
        assert_ne!(left["client"], client, "{left}");
        if left["client"] == marker.id() {
            return Ok(());
        }
    }
}
