//! The page of bin-x's chat, as it is shipped.

use anyhow::Result;
use jackfield_tests::Node;

use super::browser::{Browser, Screen};
use super::put_page;

/// bin-x's chat, in two windows.
#[tokio::test(flavor = "multi_thread")]
async fn everybody_hears_everybody() -> Result<()> {
    let node = Node::start("everybody").await?;
    put_page(&node, "everybody")?;
    let mut browser = Browser::start().await?;
    let url = format!("http://{}/everybody/", node.address());
    let (ada, bob) = (
        browser.window(Screen::Desktop).await?,
        browser.window(Screen::Phone).await?,
    );
    for window in [&ada, &bob] {
        window.open(&url).await?;
        window.shows("#state", "connected").await?;
    }
    ada.type_into("#text", "hello <b>all</b>").await?;
    ada.click("#send").await?;
    ada.shows("#log .own", ": hello <b>all</b>").await?;
    bob.shows("#log", ": hello <b>all</b>").await?;
    for window in [&ada, &bob] {
        window.is_untroubled().await?;
    }
    bob.close().await?;
    ada.shows("#log", " has left").await
}
