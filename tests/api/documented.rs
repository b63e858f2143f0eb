//! The examples of `docs/api.md`: each `curl` line is run, and answered as the page says.

use anyhow::{Context as _, Result, ensure};
use jackfield_tests::{Node, Response, within};
use serde_json::Value;
use tokio::process::Command;

use super::BOTH;

/// What the page calls the API's address.
const SHOWN: &str = "127.0.0.1:8081";

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
    let address = node.calls(BOTH[0])?.address().to_string();
    let mut examples = 0;
    for part in page.split("```sh\n").skip(1) {
        let (line, rest) = part.split_once("\n```\n").context("an open block")?;
        ensure!(line.starts_with("curl -s "), "no curl line: {line}");
        let said = rest.trim_start().strip_prefix("```json\n");
        let said = said.and_then(|said| said.split_once("\n```"));
        let said: Value = serde_json::from_str(said.context("no answer is shown")?.0)?;
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .arg(line.replace(SHOWN, &address))
            .kill_on_drop(true);
        let output = within("curl", shell.output()).await?;
        let answered: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{line} answered {output:?}"))?;
        assert_eq!(answered, said, "{line}");
        examples += 1;
    }
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
