//! Events that fail, and collectors that do.

use std::io::Write as _;

use anyhow::Result;
use jackfield_tests::{Authority, Collector, LogLine, Node, run_node_binary, text, within};
use serde_json::json;
use tempfile::NamedTempFile;
use tokio::net::TcpListener;

use super::{ALL, FOLLOW, echo, named, start, the, traced_client, until_the_client_has_ended};

#[tokio::test]
async fn a_trap_is_said_in_the_span_and_its_trace_in_the_log() -> Result<()> {
    let (collector, node) = start("console", FOLLOW).await?;
    let mut ada = traced_client(&node, "/console", "01").await?;
    let panic = json!({ "id": 1, "do": "panic", "message": "because" });
    ada.say(text(&panic.to_string())).await?;
    ada.end().await?;
    let spans = until_the_client_has_ended(&collector).await?;
    let message = the(&spans, "on-message");
    assert_eq!(message.get("jackfield.generation"), "1");
    let failure = message.failure.clone().unwrap_or_default();
    let is_trap = |line: &LogLine| line.says("an event trapped");
    let line = node.wait_for_log(is_trap).await?;
    assert!(line.message().contains(&failure), "{failure}: {line:?}");
    assert_eq!(line.text("trace"), message.trace);
    Ok(())
}

#[tokio::test]
async fn a_refused_client_has_a_span_that_says_so() -> Result<()> {
    let (collector, node) = start("console", ALL).await?;
    assert!(node.client("/console?refuse=418").await.is_err());
    let spans = until_the_client_has_ended(&collector).await?;
    assert_eq!(the(&spans, "on-connect").get("jackfield.refused"), "418");
    assert!(named(&spans, "on-close").is_empty());
    Ok(())
}

/// A collector that takes connections, and never answers.
#[tokio::test]
async fn nobody_waits_for_a_collector_that_hangs() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let config = format!(
        "[tracing]\nendpoint = \"http://{}\"\nsample_ratio = 1.0",
        listener.local_addr()?
    );
    let node = Node::builder().alone().plugin("echo").config(&config);
    let node = node.start().await?;
    let mut ada = node.client("/echo").await?;
    // More than wait, with those of the request that is under way.
    for _ in 0..6_000 {
        echo(&mut ada, "x").await?;
    }
    let dropped = async {
        while node.counters().await?.get("spans_dropped")? == 0 {}
        anyhow::Ok(())
    };
    within("dropped spans", dropped).await?;
    ada.leave().await?;
    let stopped = node.stop().await?;
    assert!(stopped.status.success());
    assert_eq!(stopped.counters.get("spans_sent")?, 0);
    // The client, its first and its last event, and each message, also those that waited at the end.
    assert!(stopped.counters.get("spans_dropped")? >= 6_003);
    Ok(())
}

#[tokio::test]
async fn a_collector_that_is_not_there_is_said_and_may_come_later() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    drop(listener);
    let config = format!("[tracing]\nendpoint = \"http://{address}\"\nsample_ratio = 1.0");
    let node = Node::builder().alone().plugin("echo").config(&config);
    let node = node.start().await?;
    node.client("/echo").await?.leave().await?;
    let is_said = |line: &LogLine| line.says("the collector does not take spans");
    node.wait_for_log(is_said).await?;
    let collector = Collector::start_at(address).await?;
    // What the client makes meanwhile may be lost, and then it comes.
    let sending = async {
        while collector.so_far().is_empty() {
            node.client("/echo").await?.leave().await?;
        }
        anyhow::Ok(())
    };
    within("spans", sending).await
}

#[tokio::test]
async fn a_collector_with_tls_gets_the_headers_of_the_file() -> Result<()> {
    let authority = Authority::new()?;
    let own = authority.issue("collector", &["localhost"])?;
    let collector = Collector::start_with_tls(&own).await?;
    let mut headers = NamedTempFile::new()?;
    writeln!(headers, "\n  Authorization : Bearer secret  \nx-other: y")?;
    let config = format!(
        "[tracing]\nendpoint = \"https://localhost:{}\"\nsample_ratio = 1.0\n\
         authorities = {:?}\nheaders_file = {:?}",
        collector.port(),
        authority.file(),
        headers.path()
    );
    let node = Node::builder().alone().plugin("echo").config(&config);
    let node = node.start().await?;
    node.client("/echo").await?.leave().await?;
    let spans = until_the_client_has_ended(&collector).await?;
    assert_eq!(spans[0].authorization, "Bearer secret");
    Ok(())
}

/// What a file with secrets has is not shown.
#[tokio::test]
async fn wrong_settings_are_said_before_the_node_starts() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join("plugins"))?;
    let mut headers = NamedTempFile::new()?;
    writeln!(headers, "x-right: value\nsecret without a colon")?;
    let endpoint = "endpoint = \"http://127.0.0.1:4317\"";
    for (tracing, said) in [
        ("sample_ratio = 1.5".to_owned(), "tracing.sample_ratio: 1.5"),
        ("sample_ratio = nan".to_owned(), "tracing.sample_ratio: NaN"),
        (
            "endpoint = \"127.0.0.1:4317\"".to_owned(),
            "tracing.endpoint: \"127.0.0.1:4317\" is no address",
        ),
        (
            "endpoint = \"ftp://127.0.0.1\"".to_owned(),
            "write it like http://127.0.0.1:4317",
        ),
        (
            format!("{endpoint}\nheaders_file = {:?}", headers.path()),
            "line 2: write NAME: VALUE",
        ),
        (
            format!("{endpoint}\nheaders_file = \"/nowhere\""),
            "tracing.headers_file: /nowhere cannot be read",
        ),
        (
            format!("{endpoint}\nauthorities = \"/nowhere\""),
            "tracing.authorities: /nowhere cannot be read",
        ),
    ] {
        let config = folder.path().join("jackfield.toml");
        let plugins = folder.path().join("plugins");
        let text = format!("plugins = {plugins:?}\n[tracing]\n{tracing}\n");
        std::fs::write(&config, text)?;
        let file = config.display().to_string();
        let output = run_node_binary(&["config", "check", "--config", &file]).await?;
        assert_ne!(output.code, 0, "{tracing}");
        assert!(output.stderr.contains(said), "{tracing}: {}", output.stderr);
        assert!(!output.stderr.contains("without a colon"));
    }
    Ok(())
}
