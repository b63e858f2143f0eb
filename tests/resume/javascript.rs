//! The client library of `clients/js`, with real nodes: in Node.js here, and in Chromium in
//! `tests/browser`. `cargo xtask test` builds it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jackfield_tests::{Cluster, NodeBuilder, Proxy, js_client};
use tokio::process::Command;

/// The longest time for all of the library's own tests. They bound each of their waits themselves.
const PATIENCE: Duration = Duration::from_secs(300);

/// Each connection goes to the other one of two nodes, so that a client that comes back moves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_own_tests_pass_with_nodes_between_which_its_clients_move() -> Result<()> {
    let Some(client) = js_client()? else {
        return Ok(());
    };
    let manifest = "[resume]\nwindow = '10m'\n";
    let build = |node: NodeBuilder| node.plugin("console").manifest("console", manifest);
    let cluster = Cluster::start(2, build).await?;
    let proxy = Proxy::start().await?;
    proxy.lead_by_turns(&[cluster[0].address(), cluster[1].address()]);
    let mut tests = Command::new("npm");
    tests
        .args(["test", "--silent", "--ignore-scripts"])
        .current_dir(&client)
        .env("JACKFIELD_URL", format!("ws://{}/console", proxy.address()))
        .kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, tests.output())
        .await
        .context("the tests of clients/js have no end")??;
    let printed = String::from_utf8_lossy(&output.stdout);
    eprintln!("{printed}{}", String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{}", output.status);
    ensure!(!printed.contains("SKIPPED"), "the nodes were left out");
    let counters = [cluster[0].counters().await?, cluster[1].counters().await?];
    let [one, two] = counters.map(|counters| counters.get("clients_moved"));
    ensure!(one? > 0 && two? > 0, "nobody has moved");
    Ok(())
}
