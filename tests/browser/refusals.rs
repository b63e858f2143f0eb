//! Refusals, as a page of the plugin hears them.

use std::fs;

use anyhow::Result;
use jackfield_tests::Node;

use super::browser::{Browser, Screen};

/// A page that connects as its hash says, `path|subprotocol,…`, and shows how that ended.
const SHOWS_THE_END: &str = r#"<!doctype html><meta charset="utf-8"><p id="said">…</p><script>
const [path, offer] = decodeURIComponent(location.hash.slice(1)).split('|');
const socket = new WebSocket(`ws://${location.host}${path}`, offer ? offer.split(',') : []);
socket.onclose = ({ code, reason, wasClean }) => {
  document.querySelector('#said').textContent = `ended: ${code} "${reason}" clean=${wasClean}`;
};
</script>"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_page_reads_why_it_may_not_come_in() -> Result<()> {
    let refuses = "refuse = 'close'\n[jwt]\nsecret_file = 'door.secret'";
    let node = Node::builder()
        .plugin("console")
        .plugin_from("door", "console")
        .manifest("console", "refuse = 'close'")
        .manifest("door", refuses)
        .file("door.secret", &"s".repeat(32))
        .start()
        .await?;
    let page = node.folder().path().join("console");
    fs::create_dir(&page)?;
    fs::write(page.join("index.html"), SHOWS_THE_END)?;
    let mut browser = Browser::start().await?;
    let window = browser.window(Screen::Desktop).await?;
    for (number, (hash, shown)) in [
        (
            "/console?refuse=418%26reason=tea|",
            "ended: 4418 \"tea\" clean=true",
        ),
        (
            "/console?refuse=418%26reason=tea|v1,v2",
            "ended: 4418 \"tea\" clean=true",
        ),
        ("/door|", "ended: 4401 \"a token is required\" clean=true"),
        (
            "/door|v1,bearer.a.b.c",
            "ended: 4401 \"the token is not valid\" clean=true",
        ),
        (
            "/door|bearer.a.b.c",
            "ended: 4401 \"the token is not valid\" clean=true",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        // Another address each time, or the page would stay as it is.
        let url = format!("http://{}/console/?{number}#{hash}", node.address());
        window.open(&url).await?;
        window.shows("#said", shown).await?;
    }
    node.folder().put_manifest("console", "refuse = 'http'")?;
    node.generation_loaded("console", 2).await?;
    let url = format!(
        "http://{}/console/?http#/console?refuse=418|",
        node.address()
    );
    window.open(&url).await?;
    window.shows("#said", "ended: 1006 \"\" clean=false").await
}
