//! What a mesh does when something fails: links that break, nodes that are killed or stopped
//! or drain, registers that are lost, nodes that are not to be trusted, clients that do not
//! read.
//!
//! Nodes and registers are processes, and what fails is real: signals, a proxy before a node's
//! mesh port that cuts connections or lets nothing through, and a wire between networks that
//! does the same to packets. That every message came once is known by its number, and that
//! nothing came behind the last one by an answer to a later request. Pauses are what a test is
//! about (a link that is broken for three seconds), never a way to wait for something.

mod advertised;
mod bad_wire;
mod broken;
mod drained;
mod killed;
mod partition;
mod registers;
mod slow;
mod stopped;
mod strangers;
mod timers;
mod traffic;
mod trust;
mod wire;

use anyhow::{Result, ensure};
use jackfield_tests::{Cluster, Console, NodeBuilder, within};
use serde_json::{Value, json};

/// Limits with which a failure is noticed soon.
const SOON: &str = "[limits]\nsuspect_after = '1500ms'\ngone_after = '3s'\nask_timeout = '1s'\n";

/// A node of `console`, with this configuration.
fn console(config: &str) -> impl Fn(NodeBuilder) -> NodeBuilder {
    move |node| node.plugin("console").config(config)
}

/// So many nodes of `console`.
async fn nodes(count: usize, config: &str) -> Result<Cluster> {
    Cluster::start(count, console(config)).await
}

/// Asks until the answer is this.
async fn becomes(client: &mut Console, request: Value, wanted: &Value) -> Result<()> {
    let mut last = Value::Null;
    let asking = async {
        while last != *wanted {
            last = client.call(request.clone()).await?["ok"].take();
        }
        anyhow::Ok(())
    };
    let became = within(&format!("{request} to answer {wanted}"), asking).await;
    became.map_err(|error| error.context(format!("it last answered {last}")))
}

/// Sends a text from one client to another, which hears it next.
async fn reaches(from: &mut Console, to: &mut Console) -> Result<()> {
    from.ok(json!({ "do": "send-to-client", "client": to.id(), "text": "there?" }))
        .await?;
    let heard = to.next().await?;
    ensure!(heard.to_text()? == "there?", "{heard:?} came instead");
    Ok(())
}
