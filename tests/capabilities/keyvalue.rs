//! `wasi:keyvalue`: state of a plugin's own, in each of the stores.
//!
//! What holds of every store is asserted of each by the same words.

mod limits;
mod places;
mod server;

use anyhow::Result;
use jackfield_tests::{Client, Node, NodeBuilder, Redis};

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

/// A node whose plugin `keeper` has its state there, with more in its manifest.
fn keeper(store: &str, more: &str) -> NodeBuilder {
    Node::builder()
        .alone()
        .arguments(&["--keyvalue", store])
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
