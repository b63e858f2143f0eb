//! Spans: what a collector gets of clients, events, calls, other nodes and requests, and what the
//! node does without one.

mod contexts;
mod failures;
mod nodes;

use anyhow::Result;
use jackfield_tests::{Client, CollectedSpan, Collector, Node, text};

/// A trace and a span of somebody outside.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

/// Only those that ask for it have spans.
const FOLLOW: &str = "sample_ratio = 0.0\nfollow_clients = true";

/// Nobody has spans.
const NONE: &str = "sample_ratio = 0.0";

/// All have spans.
const ALL: &str = "sample_ratio = 1.0";

/// The header `traceparent`, with these flags.
fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{SPAN}-{flags}")
}

/// A node with this plugin, and the collector that gets its spans. `config` is more of the section
/// `[tracing]`.
async fn start(plugin: &str, config: &str) -> Result<(Collector, Node)> {
    let collector = Collector::start().await?;
    let node = Node::builder().alone().plugin(plugin);
    let node = node.config(&collector.config(config)).start().await?;
    Ok((collector, node))
}

/// A client of `path` whose handshake has the header `traceparent` with these flags.
async fn traced_client(node: &Node, path: &str, flags: &str) -> Result<Client> {
    node.client_with(path, &[("traceparent", &traceparent(flags))])
        .await
}

/// Sends a message that is answered by itself.
async fn echo(client: &mut Client, message: &str) -> Result<()> {
    client.say(text(message)).await?;
    assert_eq!(client.next().await?, text(message));
    Ok(())
}

/// The spans of a name.
fn named<'a>(spans: &'a [CollectedSpan], name: &str) -> Vec<&'a CollectedSpan> {
    spans.iter().filter(|span| span.name == name).collect()
}

/// The one span of a name.
fn the<'a>(spans: &'a [CollectedSpan], name: &str) -> &'a CollectedSpan {
    let found = named(spans, name);
    assert_eq!(found.len(), 1, "{name} among {spans:#?}");
    found[0]
}

/// Waits until a client has ended: its own span is the last one.
async fn until_the_client_has_ended(collector: &Collector) -> Result<Vec<CollectedSpan>> {
    let has_ended = |spans: &[CollectedSpan]| !named(spans, "client").is_empty();
    collector.wait_for("the client's span", has_ended).await
}
