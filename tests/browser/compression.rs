//! A browser offers compression by itself, and its page notices nothing.

use std::fs;

use anyhow::Result;
use jackfield_tests::Node;

use super::browser::{Browser, Screen};

const PAGE: &str = r##"<!doctype html><title>compression</title><link rel="icon" href="data:,">
<p id="agreed"></p><p id="heard"></p><script src="page.js"></script>"##;

const SCRIPT: &str = r##"
const said = "tea time, everybody! ".repeat(2800);
const socket = new WebSocket(`ws://${location.host}/echo`);
socket.onopen = () => {
    document.querySelector("#agreed").textContent = socket.extensions;
    socket.send(said);
};
socket.onmessage = ({ data }) => {
    document.querySelector("#heard").textContent = data === said ? "the same" : "something else";
};
"##;

#[tokio::test(flavor = "multi_thread")]
async fn a_page_and_its_plugin_talk_compressed() -> Result<()> {
    let node = Node::builder()
        .plugin("echo")
        .manifest("echo", "[compression]")
        .change_folder(|folder| {
            let page = folder.join("echo");
            fs::create_dir(&page)?;
            fs::write(page.join("index.html"), PAGE)?;
            Ok(fs::write(page.join("page.js"), SCRIPT)?)
        })
        .start()
        .await?;
    let mut browser = Browser::start().await?;
    let window = browser.window(Screen::Desktop).await?;
    window
        .open(&format!("http://{}/echo/", node.address()))
        .await?;
    window.shows("#heard", "the same").await?;
    let agreed = window.text("#agreed").await?;
    assert!(agreed.starts_with("permessage-deflate"), "{agreed}");
    window.is_untroubled().await
}
