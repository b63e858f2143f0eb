//! `/` of a node whose plugins have pages.

use anyhow::Result;
use jackfield_tests::Node;

use super::browser::{Browser, Screen};
use super::put_page;

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_are_listed_and_a_click_opens_one() -> Result<()> {
    let node = Node::builder().plugin("echo").plugin("everybody");
    let node = node.plugin("chat").start().await?;
    for plugin in ["everybody", "chat"] {
        put_page(&node, plugin)?;
    }
    let mut browser = Browser::start().await?;
    for screen in [Screen::Desktop, Screen::Phone] {
        let window = browser.window(screen).await?;
        window.open(&format!("http://{}/", node.address())).await?;
        let listed = window.text("ul").await?;
        let lines: Vec<_> = listed.split_whitespace().collect();
        assert_eq!(lines, ["chat", "/chat/", "everybody", "/everybody/"]);
        window.is_untroubled().await?;
        window.click("a[href='/everybody/']").await?;
        window.shows("#state", "connected").await?;
        window.is_untroubled().await?;
    }
    Ok(())
}
