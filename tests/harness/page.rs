//! The documentation's examples, run.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::within;

/// What pages call the API's address.
const SHOWN: &str = "127.0.0.1:8081";

/// Runs each `curl` line of a page against this API: it must be answered as the block after it
/// says. Answers how many there were.
pub async fn run_curl_lines(page: &str, api: SocketAddr) -> anyhow::Result<usize> {
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
            .arg(line.replace(SHOWN, &api.to_string()))
            .kill_on_drop(true);
        let output = within("curl", shell.output()).await?;
        let answered: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{line} answered {output:?}"))?;
        ensure!(answered == said, "{line} answered {answered}, not {said}");
        examples += 1;
    }
    Ok(examples)
}
