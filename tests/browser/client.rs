//! The client library of `clients/js`, in Chromium, over a network that breaks.

use std::fs;

use anyhow::{Result, ensure};
use jackfield_tests::{Cluster, NodeBuilder, Proxy, js_client, within};
use serde_json::{Value, json};

use super::browser::{Browser, Screen};

const MESSAGES: u64 = 1_000;
const CUTS: u64 = 10;

/// Each connection goes to the other one of two nodes.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_loses_and_doubles_nothing_while_its_connection_is_cut() -> Result<()> {
    let Some(library) = js_client()? else {
        return Ok(());
    };
    let manifest = "[resume]\nwindow = '10m'\n";
    let build = |node: NodeBuilder| node.plugin("console").manifest("console", manifest);
    let cluster = Cluster::start(2, build).await?;
    let page = cluster[0].folder().path().join("console");
    for (from, names) in [
        ("dist", vec![]),
        ("test", vec!["page.html", "page.js", "numbered-session.js"]),
    ] {
        fs::create_dir_all(page.join(from))?;
        for file in fs::read_dir(library.join(from))? {
            let file = file?;
            let name = file.file_name();
            if names.is_empty() || names.iter().any(|wanted| name == *wanted) {
                fs::copy(file.path(), page.join(from).join(name))?;
            }
        }
    }
    let proxy = Proxy::start().await?;
    proxy.lead_by_turns(&[cluster[0].address(), cluster[1].address()]);

    let mut browser = Browser::start().await?;
    let window = browser.window(Screen::Desktop).await?;
    let address = cluster[0].address();
    window
        .open(&format!("http://{address}/console/test/page.html"))
        .await?;
    window.shows("#state", "ready").await?;
    let begin = format!(
        "start({{ url: 'ws://{}/console', messages: {MESSAGES}, everyMs: 1, \
         options: {{ firstDelayMs: 5, longestDelayMs: 50 }} }})",
        proxy.address()
    );
    window.run(&begin).await?;
    window.shows("#state", "open").await?;
    let report = async || window.run("return report()").await;
    let reaches = async |key: &str, wanted: u64| {
        let reading = async {
            while report().await?[key].as_u64() < Some(wanted) {}
            anyhow::Ok(())
        };
        within(&format!("{key} to be {wanted}"), reading).await
    };
    for cut in 1..=CUTS {
        // In the middle of what the page sends and hears.
        reaches("received", cut * MESSAGES / (CUTS + 2)).await?;
        proxy.cut_for_a_moment();
        reaches("resumed", cut).await?;
    }
    reaches("answered", MESSAGES).await?;
    let report = report().await?;
    for (key, wanted) in [
        ("received", MESSAGES),
        ("answered", MESSAGES),
        ("lost", 0),
        ("doubled", 0),
        ("disordered", 0),
        ("resumed", CUTS),
        ("sessions", 1),
    ] {
        ensure!(report[key] == json!(wanted), "{key}: {report}");
    }
    ensure!(report["closed"] == Value::Null, "{report}");
    window.run("client().close()").await?;
    window.shows("#state", "closed: 1000").await
}
