//! The examples of `docs/api.md`: each `curl` line is run, and answered as the page says.

use anyhow::{Context as _, Result};
use jackfield_tests::{Node, Response, run_curl_lines};
use serde_json::Value;

use super::BOTH;

#[tokio::test]
async fn every_curl_line_is_answered_as_the_page_says() -> Result<()> {
    let page = include_str!("../../docs/api.md");
    let node = Node::builder()
        .alone()
        .plugin_from("chat", "console")
        .start()
        .await?;
    let _ada = node
        .console_named("chat", &[("uid", "ada"), ("group", "lobby")])
        .await?;
    let examples = run_curl_lines(page, node.calls(BOTH[0])?.address()).await?;
    assert!(
        examples >= 7,
        "only {examples} examples: is this still reading the page?"
    );
    Ok(())
}

/// The table of reasons, beside those that the API's description has.
#[tokio::test]
async fn the_page_lists_every_reason() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let Response { body, .. } = node.api("/openapi.json").await?;
    let described: Value = serde_json::from_str(&body)?;
    let reasons = &described["components"]["schemas"]["Problem"]["properties"]["reason"]["enum"];
    let reasons = reasons.as_array().context("reasons")?;
    assert!(reasons.len() > 10);
    let page = include_str!("../../docs/api.md");
    for reason in reasons.iter().filter_map(Value::as_str) {
        assert!(page.contains(&format!("| `{reason}` |")), "{reason}");
    }
    Ok(())
}
