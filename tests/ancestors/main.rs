//! What users of silky, GatewayWorker and bin-x/websocket have at home, on real nodes: the
//! programs of `docs/from-*.md`, silky's example, and what workerman-chat does.

mod bin_x;
mod gatewayworker;
mod pages;
mod silky;
mod workerman_chat;

use anyhow::Result;
use jackfield_tests::{Node, Protocol, within};
use serde_json::Value;

/// Waits until this function of the node answers so many: what happens at other nodes is known
/// a little later.
async fn counts(
    node: &Node,
    plugin: &str,
    function: &str,
    request: Value,
    expected: u64,
) -> Result<()> {
    let api = node.calls(Protocol::Http)?;
    let reached = async {
        while api.ok(plugin, function, request.clone()).await?["value"] != expected {}
        anyhow::Ok(())
    };
    within(&format!("{function} to answer {expected}"), reached).await
}
