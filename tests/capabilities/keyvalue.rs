//! `wasi:keyvalue`: state of a plugin's own, in each of the stores.
//!
//! What holds of every store is asserted of each by the same words.

mod backup;
mod disk;
mod failover;
mod limits;
mod places;
mod server;

use anyhow::Result;
use jackfield_tests::{Client, LogLine, Node, NodeBuilder, Redis, within};
use serde_json::Value;

const GRANTED: &str = "[keyvalue]\nbuckets = ['default', 'other']";

/// A place to keep things, for as long as a test needs it.
struct Store {
    name: String,
    _folder: Option<tempfile::TempDir>,
    _server: Option<Redis>,
}

/// One of each kind.
async fn stores() -> Result<Vec<Store>> {
    Ok(vec![in_memory(), on_disk()?, at_a_server().await?])
}

fn in_memory() -> Store {
    Store {
        name: "memory".to_owned(),
        _folder: None,
        _server: None,
    }
}

fn on_disk() -> Result<Store> {
    let folder = tempfile::tempdir()?;
    Ok(Store {
        name: format!("file:{}", folder.path().join("state.redb").display()),
        _folder: Some(folder),
        _server: None,
    })
}

async fn at_a_server() -> Result<Store> {
    let server = Redis::start().await?;
    Ok(Store {
        name: server.url(),
        _folder: None,
        _server: Some(server),
    })
}

/// A node whose plugin `keeper` has its state there, with more in its manifest. The disk of a busy
/// machine may take longer than the default `keyvalue_timeout`.
fn keeper(store: &str, more: &str) -> NodeBuilder {
    Node::builder()
        .alone()
        .arguments(&["--keyvalue", store, "--set", "plugin.keyvalue_timeout=4s"])
        .plugin("keeper")
        .manifest("keeper", &format!("{GRANTED}\n{more}"))
}

/// What comes of a command in the bucket `default`.
async fn ask(client: &mut Client, command: &str) -> Result<String> {
    ask_of(client, "default", command).await
}

async fn ask_of(client: &mut Client, bucket: &str, command: &str) -> Result<String> {
    client.say(format!("{bucket} {command}")).await?;
    client.next_text().await
}

/// Waits until a command is answered so; what was answered before must be the store's failure.
async fn until(client: &mut Client, command: &str, wanted: &str) -> Result<usize> {
    let answered = async {
        let mut failures = 0;
        loop {
            let said = ask(client, command).await?;
            if said == wanted {
                return anyhow::Ok(failures);
            }
            let is_failure = said.starts_with("error: the node's key-value store failed: ");
            anyhow::ensure!(is_failure, "{command}: {said}");
            failures += 1;
        }
    };
    within(&format!("{wanted:?} for {command:?}"), answered).await
}

/// What `/v1/nodes` says of the store.
async fn store_of(node: &Node) -> Result<Value> {
    let mut nodes: Value = serde_json::from_str(&node.api("/v1/nodes").await?.body)?;
    Ok(nodes["node"]["keyvalue"].take())
}

/// Waits until `/v1/nodes` says this of the store's failure; empty: there is none.
async fn until_failure_has(node: &Node, words: &str) -> Result<()> {
    let said = async {
        loop {
            let store = store_of(node).await?;
            let failure = store["failure"].as_str().unwrap_or_default();
            if failure.contains(words) && failure.is_empty() == words.is_empty() {
                return anyhow::Ok(());
            }
        }
    };
    within(&format!("the failure {words:?}"), said).await
}

/// How many such lines the node has logged by now: those of its counters come after them.
async fn count(node: &Node, wanted: impl Fn(&LogLine) -> bool) -> Result<usize> {
    node.counters().await?;
    Ok(node.log().so_far(wanted).len())
}

fn is_gone(line: &LogLine) -> bool {
    line.says("the key-value server cannot be used")
}

fn is_back(line: &LogLine) -> bool {
    line.says("the key-value server is back")
}
