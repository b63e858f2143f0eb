//! Everybody hears everybody, at two nodes: the program of `docs/from-bin-x.md`.

use anyhow::{Context as _, Result};
use jackfield_tests::{Client, Cluster};
use serde_json::json;

use super::counts;

#[tokio::test]
async fn the_pages_program_does_what_the_page_says() -> Result<()> {
    let cluster = Cluster::start(2, |node| node.plugin("everybody")).await?;
    let mut ada = cluster[0].client("/everybody").await?;
    let ada_id = named(&mut ada, " has come").await?;
    counts(
        &cluster[1],
        "everybody",
        "get-all-client-count",
        json!({}),
        1,
    )
    .await?;
    let mut bob = cluster[1].client("/everybody").await?;
    let bob_id = named(&mut bob, " has come").await?;
    assert_eq!(ada.next_text().await?, format!("{bob_id} has come"));
    counts(
        &cluster[0],
        "everybody",
        "get-all-client-count",
        json!({}),
        2,
    )
    .await?;

    ada.say("hello").await?;
    for client in [&mut ada, &mut bob] {
        assert_eq!(client.next_text().await?, format!("{ada_id}: hello"));
    }

    bob.leave().await?;
    assert_eq!(ada.next_text().await?, format!("{bob_id} has left"));
    Ok(())
}

/// The client id before this text.
async fn named(client: &mut Client, rest: &str) -> Result<String> {
    let text = client.next_text().await?;
    let id = text.strip_suffix(rest);
    Ok(id
        .with_context(|| format!("{rest:?} was awaited: {text}"))?
        .to_owned())
}
