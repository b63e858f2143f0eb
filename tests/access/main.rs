//! Who comes in, as a plugin's manifest has it: real handshakes, in the words of silky's and
//! of browsers' clients.
//!
//! The plugin is `console` under silky's name for it, `wstest`: it says who its clients are.

mod origins;
mod refusals;
mod routes;
mod sign;
mod subprotocols;
mod tokens;
mod uids;

use anyhow::Result;
use jackfield_tests::{Client, Console, Node, NodeBuilder, Response};
use serde_json::{Value, json};

/// A node with the plugin `wstest` and this manifest of it.
fn wstest(manifest: &str) -> NodeBuilder {
    Node::builder()
        .plugin_from("wstest", "console")
        .manifest("wstest", manifest)
}

/// A client that comes in.
async fn enter(node: &Node, path: &str, headers: &[(&str, &str)]) -> Result<Console> {
    Console::greet(Client::connect(node.address(), path, headers).await?).await
}

/// What a client is told that does not.
async fn refused(node: &Node, path: &str, headers: &[(&str, &str)]) -> Result<Response> {
    node.refusal_with(path, headers).await
}

/// Another manifest for `wstest`, once its rules hold.
async fn replace_manifest(node: &Node, manifest: &str, generation: u64) -> Result<()> {
    node.folder().put_manifest("wstest", manifest)?;
    node.generation_loaded("wstest", generation).await
}

async fn uid(console: &mut Console) -> Result<Value> {
    console.ok(json!({ "do": "get-uid-by-client-id" })).await
}
