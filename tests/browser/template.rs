//! The page of a new project, as `jackfield new` writes it.

use std::fs;

use anyhow::{Result, ensure};
use jackfield_tests::{Node, run_node_binary};
use serde_json::json;

use super::browser::{Browser, Screen};

/// Two people on the page, whose plugin is one that says what others say.
#[tokio::test(flavor = "multi_thread")]
async fn two_people_come_in_and_talk() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let project = folder.path().join("lobby");
    let path = project.display().to_string();
    let new = ["new", "lobby", "--lang", "c", "--folder", &path];
    ensure!(run_node_binary(&new).await?.code == 0);
    let node = Node::builder().alone().plugin_from("lobby", "everybody");
    let node = node.start().await?;
    let page = node.folder().path().join("lobby");
    fs::create_dir(&page)?;
    fs::copy(project.join("page/index.html"), page.join("index.html"))?;

    let mut browser = Browser::start().await?;
    let url = format!("http://{}/lobby/", node.address());
    let (ada, bob) = (
        browser.window(Screen::Desktop).await?,
        browser.window(Screen::Phone).await?,
    );
    for (window, name) in [(&ada, "ada"), (&bob, "bob")] {
        window.open(&url).await?;
        window.type_into("#name", name).await?;
        window.click("#come button").await?;
        window.stops_showing("#state", "not connected").await?;
        // One form after the other.
        let shown =
            "return [...document.querySelectorAll('form')].map((form) => !!form.offsetHeight)";
        ensure!(window.run(shown).await? == json!([false, true]));
    }
    ada.type_into("#text", "hello <b>all</b>").await?;
    ada.click("#say button").await?;
    ada.shows("#log .own", "hello <b>all</b>").await?;
    bob.shows("#log", ": hello <b>all</b>").await?;
    for window in [&ada, &bob] {
        window.is_untroubled().await?;
    }
    // The end of the connection is said, and one can come in again.
    node.folder().remove("lobby")?;
    ada.shows("#log", "The connection ended: 1001").await?;
    ada.shows("#state", "not connected").await
}
