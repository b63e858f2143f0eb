//! What each function of the contract means: the plugin `console` carries out what its
//! clients ask for, so everything here is seen from outside, over sockets.
//!
//! That somebody did *not* get a message is known by what came instead: an answer to a later
//! request of theirs comes after everything that was sent to them before.

mod clients;
mod groups;
mod infos;
mod limits;
mod node;
mod on_close;
mod on_connect;
mod send;
mod uids;

use anyhow::Result;
use jackfield_tests::Node;
use serde_json::Value;

/// A well-formed id that no node has given out.
const UNKNOWN: &str = "7zzzzzzzzzzzzzzzzzzzzzzzzz";

/// What is not an id.
const MALFORMED: [&str; 4] = [
    "",
    "nobody",
    "7ZZZZZZZZZZZZZZZZZZZZZZZZZ",
    "7zzzzzzzzzzzzzzzzzzzzzzzzz0",
];

/// The id of a client that has left, its `on-close` done.
async fn departed(node: &Node) -> Result<String> {
    let mut watcher = node.watcher().await?;
    let mut leaver = node.console(&[]).await?;
    leaver.leave().await?;
    watcher.departure(leaver.id()).await?;
    Ok(leaver.id().to_owned())
}

/// Asserts that a request about a client tells a malformed id from one that is not here.
async fn tells_ids_apart(node: &Node, request: Value) -> Result<()> {
    let mut ada = node.console(&[]).await?;
    let departed = departed(node).await?;
    let ids = MALFORMED.map(|id| (id, "invalid-argument"));
    for (id, code) in ids
        .into_iter()
        .chain([(UNKNOWN, "not-found"), (&departed, "not-found")])
    {
        let mut request = request.clone();
        request["client"] = id.into();
        assert_eq!(ada.error(request).await?, code, "of the client {id:?}");
    }
    Ok(())
}
