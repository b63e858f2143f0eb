//! Prometheus, in a process of its own, and `promtool`, which checks what Prometheus reads.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

use crate::process::{listens, own_address};
use crate::{Api, Protocol, query, within};

/// A server that scrapes nodes. It is killed when it is dropped.
pub struct Prometheus {
    _process: Child,
    _folder: TempDir,
    address: SocketAddr,
}

impl Prometheus {
    /// Starts a server that scrapes these nodes four times a second, with this token of their APIs,
    /// and has these alert rules.
    pub async fn start(
        nodes: &[SocketAddr],
        token: &str,
        rules: &Path,
    ) -> anyhow::Result<Prometheus> {
        let folder = tempfile::tempdir()?;
        let targets: Vec<_> = nodes.iter().map(|node| format!("'{node}'")).collect();
        let config = format!(
            "global: {{ scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 250ms }}\n\
             rule_files: ['{}']\n\
             scrape_configs:\n\
             - job_name: jackfield\n  \
               authorization: {{ credentials: '{token}' }}\n  \
               static_configs: [{{ targets: [{}] }}]\n",
            rules.display(),
            targets.join(", "),
        );
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config)?;
        let address = own_address()?;
        let spawned = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let mut process = spawned.context("apt-get install prometheus")?;
        listens("prometheus", &mut process, address).await?;
        Ok(Prometheus {
            _process: process,
            _folder: folder,
            address,
        })
    }

    /// Waits until the answer to a query is one number, which is this one.
    pub async fn wait_for(&self, expression: &str, number: &str) -> anyhow::Result<()> {
        let mut last = Value::Null;
        let answered = async {
            while last != *number {
                let result = self
                    .get(&format!("query{}", query(&[("query", expression)])))
                    .await?;
                last = result["data"]["result"][0]["value"][1].clone();
            }
            anyhow::Ok(())
        };
        let waited = within(expression, answered).await;
        waited.with_context(|| format!("{expression} is {last}, and not {number}"))
    }

    /// The errors of the last scrapes, one for each node; empty where there was none.
    pub async fn scrape_errors(&self) -> anyhow::Result<Vec<String>> {
        let targets = self.get("targets").await?;
        let targets = targets["data"]["activeTargets"]
            .as_array()
            .context("targets")?;
        let error = |target: &Value| target["lastError"].as_str().unwrap_or("?").to_owned();
        Ok(targets.iter().map(error).collect())
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let api = Api::at(self.address, Protocol::Http)?;
        let response = api.http("GET", &format!("/api/v1/{path}"), &[], "").await?;
        // It says 503 until it has read what it has stored.
        match response.status {
            503 => Ok(Value::Null),
            _ => Ok(serde_json::from_str(&response.body)?),
        }
    }
}

/// Runs `promtool` with this text on its standard input.
///
/// # Errors
///
/// It finds fault with something. The error has its words.
pub async fn promtool(arguments: &[&str], input: &str) -> anyhow::Result<()> {
    let mut promtool = Command::new("promtool");
    let mut process = promtool
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("apt-get install prometheus")?;
    let mut stdin = process.stdin.take().context("stdin is piped")?;
    stdin.write_all(input.as_bytes()).await?;
    drop(stdin);
    let output = within("promtool", process.wait_with_output()).await?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(output.status.success(), "promtool: {said}");
    Ok(())
}
