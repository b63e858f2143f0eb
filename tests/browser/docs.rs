//! The API's page, `/docs`: what it shows, and what is sent from it.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use jackfield_tests::{Node, text, within};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::browser::{Browser, Screen, Window};
use super::put_page;

/// The digest is what `printf %s read-token | sha256sum` prints.
const TOKENS: &str = "[[token]]\nname = 'reader'\nscopes = ['read']\n\
     sha256 = '0328587016f9e316b9c31c94f944a2c453e1494a564062b5eab68039c75b58bf'\n";

const COUNT: &str = "#operations-read-get_all_client_count_by_get";
const SEND: &str = "#operations-send-send_to_all";

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_of_the_description_is_shown() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let mut browser = Browser::start().await?;
    let described: Value = serde_json::from_str(&node.api("/openapi.json").await?.body)?;
    let mut operations = BTreeSet::new();
    for (path, methods) in described["paths"].as_object().context("paths")? {
        let methods = methods.as_object().into_iter().flatten();
        for (method, _) in methods.filter(|(name, _)| *name != "parameters") {
            operations.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    ensure!(operations.len() > 40, "{operations:?}");
    for screen in [Screen::Desktop, Screen::Phone] {
        let window = open_docs(&node, &mut browser, screen).await?;
        let shown = "return [...document.querySelectorAll('.opblock')].map((operation) =>
            operation.querySelector('.opblock-summary-method').innerText + ' ' +
            operation.querySelector('.opblock-summary-path').dataset.path)";
        let shown: BTreeSet<String> = serde_json::from_value(window.run(shown).await?)?;
        assert_eq!(shown, operations);
        // Each opens, and says what it is for. One at a time: the page draws all of what is
        // open anew with each that opens. On the phone they have the same texts.
        let opened = match screen {
            Screen::Desktop => operations.len(),
            Screen::Phone => 3,
        };
        for operation in 0..opened {
            let of_it = format!("document.querySelectorAll('.opblock')[{operation}]");
            let click = format!("{of_it}.querySelector('.opblock-summary-control').click()");
            window.run(&click).await?;
            let says =
                format!("return !!{of_it}.querySelector('.opblock-description')?.innerText.trim()");
            let description = async {
                while window.run(&says).await? != json!(true) {}
                anyhow::Ok(())
            };
            within("an operation's description", description).await?;
            window.run(&click).await?;
        }
        window.is_untroubled().await?;
    }
    Ok(())
}

/// Without tokens: the page is this port's own, so it may read and change.
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_sent_from_the_page_and_answered() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let mut ada = node.console(&[]).await?;
    let mut browser = Browser::start().await?;
    for screen in [Screen::Desktop, Screen::Phone] {
        let window = open_docs(&node, &mut browser, screen).await?;
        try_out(&window, COUNT).await?;
        answered(&window, COUNT, "200", "\"value\": 1").await?;

        // As the form has it from the first.
        try_out(&window, SEND).await?;
        answered(&window, SEND, "200", "\"clients\": 1").await?;
        assert_eq!(ada.heard().await?, [text("hello")]);
        window.is_untroubled().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_that_a_person_gives_is_sent() -> Result<()> {
    let file = NamedTempFile::new()?;
    std::fs::write(file.path(), TOKENS)?;
    let tokens = file.path().to_string_lossy().into_owned();
    let node = Node::builder().alone().plugin("console");
    let node = node.arguments(&["--api-tokens", &tokens]).start().await?;
    let mut browser = Browser::start().await?;
    let window = open_docs(&node, &mut browser, Screen::Desktop).await?;

    window.click(".auth-wrapper .authorize").await?;
    window
        .type_into(".auth-container input", "read-token")
        .await?;
    window.click(".auth-btn-wrapper .authorize").await?;
    window.click(".auth-btn-wrapper .btn-done").await?;
    try_out(&window, COUNT).await?;
    answered(&window, COUNT, "200", "\"value\": 0").await?;
    window.is_untroubled().await?;

    // With a token that may only look, or with none, a person reads why not.
    try_out(&window, SEND).await?;
    answered(&window, SEND, "403", "has not the scope send").await?;
    window.run("location.reload()").await?;
    try_out(&window, COUNT).await?;
    answered(&window, COUNT, "401", "a token is needed").await
}

/// A page of another port of this very machine, which a browser lets send what has an effect:
/// without tokens it has none.
#[tokio::test(flavor = "multi_thread")]
async fn another_page_sends_in_vain() -> Result<()> {
    let node = Node::builder().alone().plugin("console").plugin("chat");
    let node = node.start().await?;
    put_page(&node, "chat")?;
    let mut browser = Browser::start().await?;
    let window = browser.window(Screen::Desktop).await?;
    let mut ada = node.console(&[]).await?;
    window
        .open(&format!("http://{}/chat/", node.address()))
        .await?;
    let path = "/v1/plugins/console/call/echo";
    let send = format!(
        "return fetch('http://{}{path}', {{ method: 'POST', mode: 'no-cors', body: '{{}}' }})
            .then((answer) => answer.type)",
        node.api_address()
    );
    ensure!(window.run(&send).await? == "opaque");
    node.wait_for_counter("api_denied", 1).await?;
    assert!(ada.heard().await?.is_empty());
    Ok(())
}

async fn open_docs(node: &Node, browser: &mut Browser, screen: Screen) -> Result<Window> {
    let window = browser.window(screen).await?;
    window
        .open(&format!("http://{}/docs", node.api_address()))
        .await?;
    window.shows(".info .title", "Jackfield").await?;
    window.shows("#docs", "/v1/nodes").await?;
    Ok(window)
}

/// Sends what an operation's form has by itself, for the plugin `console`.
async fn try_out(window: &Window, operation: &str) -> Result<()> {
    window
        .click(&format!("{operation} .opblock-summary-control"))
        .await?;
    window.click(&format!("{operation} .try-out__btn")).await?;
    let plugin = format!("{operation} [data-param-name=plugin] input");
    window.type_into(&plugin, "console").await?;
    window.click(&format!("{operation} .execute")).await
}

async fn answered(window: &Window, operation: &str, status: &str, body: &str) -> Result<()> {
    let live = format!("{operation} .live-responses-table");
    window
        .shows(&format!("{live} tbody .response-col_status"), status)
        .await?;
    window.shows(&live, body).await
}
