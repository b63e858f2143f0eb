//! The metrics: what Prometheus reads, and whether the numbers are true.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use jackfield_tests::{Node, NodeBuilder, Prometheus, promtool};
use serde_json::json;

use super::tokens::{TOKENS, guarded};
use super::{BOTH, consoles};

/// The alert rules of the documentation.
const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/monitoring/alerts.yml");

const OPEN_METRICS: (&str, &str) = (
    "accept",
    "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
);

/// The values of all series, by their names with their labels.
async fn metrics(node: &Node) -> Result<BTreeMap<String, f64>> {
    let text = node.api("/metrics").await?.body;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let series = lines.map(|line| {
        let (name, value) = line.rsplit_once(' ').context("a value")?;
        Ok((name.to_owned(), value.parse()?))
    });
    series.collect()
}

/// How many events of the plugin `console` there were.
fn events(generation: u64, function: &str, outcome: &str) -> String {
    format!(
        "jackfield_event_duration_seconds_count{{plugin=\"console\",generation=\"{generation}\",\
         function=\"{function}\",outcome=\"{outcome}\"}}"
    )
}

fn keeps() -> NodeBuilder {
    Node::builder()
        .alone()
        .plugin("console")
        .manifest("console", "[policies]\non_trap = 'keep'")
}

#[tokio::test]
async fn promtool_finds_no_fault_and_both_formats_have_the_same_series() -> Result<()> {
    let cluster = consoles(2).await?;
    let node = &cluster.nodes()[0];
    let mut ada = node.console(&[("uid", "ada")]).await?;
    ada.ok(json!({ "do": "join-group", "group": "g" })).await?;
    let text = node.api("/metrics").await?;
    assert_eq!(
        text.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    promtool(&["check", "metrics"], &text.body).await?;

    let api = node.calls(BOTH[0])?;
    let open = api.http("GET", "/metrics", &[OPEN_METRICS], "").await?;
    assert!(open.headers["content-type"].starts_with("application/openmetrics-text"));
    assert!(open.body.ends_with("# EOF\n"), "{}", open.body);
    let names = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        // The bounds of buckets are written differently.
        let name = |line: &str| line.split(['{', ' ']).next().map(str::to_owned);
        let mut names: Vec<_> = lines.filter_map(name).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names(&text.body), names(&open.body));
    Ok(())
}

#[tokio::test]
async fn every_event_is_counted_by_its_function_and_its_outcome() -> Result<()> {
    let node = keeps().start().await?;
    let mut ada = node.console(&[]).await?;
    let before = metrics(&node).await?;
    // One after the other, and so that they wait for each other.
    for _ in 0..50 {
        ada.ok(json!({ "do": "get-all-client-count" })).await?;
    }
    let requests = (0..300).map(|_| json!({ "do": "get-all-client-count" }));
    for id in ada.start_all(requests).await? {
        ada.answer(id).await?;
    }
    for _ in 0..3 {
        ada.start(json!({ "do": "panic", "message": "no tea" }))
            .await?;
    }
    ada.start(json!({ "do": "exit" })).await?;
    ada.ok(json!({ "do": "get-all-client-count" })).await?;
    let after = metrics(&node).await?;
    assert_eq!(after[&events(1, "on-connect", "ok")], 1.0);
    assert_eq!(after[&events(1, "on-message", "ok")], 351.0);
    assert_eq!(after[&events(1, "on-message", "panic")], 3.0);
    assert_eq!(after[&events(1, "on-message", "exit")], 1.0);
    assert_eq!(after["jackfield_traps_panic_total"], 3.0);
    assert_eq!(
        after["jackfield_messages_in_total"] - before["jackfield_messages_in_total"],
        355.0
    );
    assert_eq!(after["jackfield_clients{plugin=\"console\"}"], 1.0);
    assert_eq!(after["jackfield_generation{plugin=\"console\"}"], 1.0);
    Ok(())
}

/// Also where most messages are not timed.
#[tokio::test]
async fn a_message_that_waits_is_in_the_bucket_of_its_time() -> Result<()> {
    let node = keeps().start().await?;
    let mut ada = node.console(&[]).await?;
    let requests = (0..40).map(|_| json!({ "do": "get-all-client-count" }));
    for id in ada.start_all(requests).await? {
        ada.answer(id).await?;
    }
    let buckets = |series: &BTreeMap<String, f64>| {
        let long = |bound: &str| {
            let name = events(1, "on-message", "ok").replace("_count{", "_bucket{");
            let name = name.replace('}', &format!(",le=\"{bound}\"}}"));
            series.get(&name).copied().context(name)
        };
        anyhow::Ok(long("+Inf")? - long("0.1")?)
    };
    let before = buckets(&metrics(&node).await?)?;
    let id = node.put_to_sleep(&mut ada, 150).await?;
    ada.answer(id).await?;
    assert_eq!(buckets(&metrics(&node).await?)? - before, 1.0);
    Ok(())
}

#[tokio::test]
async fn the_last_generations_are_shown_and_no_others() -> Result<()> {
    let node = keeps().start().await?;
    for generation in 2..=6 {
        let manifest = format!("[policies]\non_trap = 'keep'\n# {generation}");
        node.folder().put_manifest("console", &manifest)?;
        node.generation_loaded("console", generation).await?;
        node.console(&[]).await?;
    }
    let series = metrics(&node).await?;
    let shown =
        (1..=6).filter(|generation| series.contains_key(&events(*generation, "on-connect", "ok")));
    assert_eq!(shown.collect::<Vec<_>>(), [3, 4, 5, 6]);
    assert_eq!(
        series["jackfield_load_duration_seconds_count{outcome=\"ok\"}"],
        6.0
    );
    Ok(())
}

#[tokio::test]
async fn a_token_for_some_plugins_sees_their_series_only() -> Result<()> {
    let (node, _file) = guarded(TOKENS).await?;
    let nobody = node.calls(BOTH[0])?;
    for (token, sees) in [("read-token", true), ("chat-token", false)] {
        let api = nobody.with_token(token);
        let text = api.http("GET", "/metrics", &[], "").await?.body;
        assert_eq!(text.contains("plugin=\"console\""), sees, "{token}");
        assert!(text.contains("\njackfield_ready 1\n"), "{token}: {text}");
    }
    Ok(())
}

/// The whole way: a token, the format that Prometheus asks for, its rules, and the sums of nodes.
#[tokio::test]
async fn prometheus_scrapes_nodes_and_their_sums_are_right() -> Result<()> {
    let cluster = consoles(2).await?;
    let (guarded, _file) = guarded(TOKENS).await?;
    let nodes = cluster.nodes().iter().chain([&guarded]);
    let nodes: Vec<_> = nodes.map(Node::api_address).collect();
    let prometheus = Prometheus::start(&nodes, "read-token", Path::new(RULES)).await?;
    let mut clients = Vec::new();
    for node in cluster.nodes() {
        for _ in 0..2 {
            clients.push(node.console(&[]).await?);
        }
    }
    for client in &mut clients {
        client
            .ok(json!({ "do": "join-group", "group": "g" }))
            .await?;
    }
    for (expression, number) in [
        ("sum(up)", "3"),
        ("sum(jackfield_clients{plugin='console'})", "4"),
        (
            "sum(jackfield_handshake_duration_seconds_count{status='1xx'})",
            "4",
        ),
        (
            "sum(jackfield_event_duration_seconds_count{function='on-connect',outcome='ok'})",
            "4",
        ),
        ("sum(jackfield_peers{state='alive'})", "2"),
        ("sum(jackfield_peer_groups)", "2"),
        ("count(process_resident_memory_bytes > 1000000)", "3"),
        (
            "count(jackfield_mesh_frame_duration_seconds_count > 0)",
            "2",
        ),
    ] {
        prometheus.wait_for(expression, number).await?;
    }
    assert_eq!(prometheus.scrape_errors().await?, ["", "", ""]);
    Ok(())
}

#[tokio::test]
async fn the_alert_rules_and_the_dashboard_name_series_that_exist() -> Result<()> {
    promtool(&["check", "rules", RULES], "").await?;
    let rules = std::fs::read_to_string(RULES)?;
    let dashboard = std::fs::read_to_string(Path::new(RULES).with_file_name("grafana.json"))?;
    serde_json::from_str::<serde_json::Value>(&dashboard)?;
    let cluster = consoles(2).await?;
    let mut ada = cluster.nodes()[0].console(&[]).await?;
    ada.ok(json!({ "do": "get-all-client-count" })).await?;
    let known = metrics(&cluster.nodes()[0]).await?;
    let known: Vec<_> = known
        .keys()
        .filter_map(|name| name.split('{').next())
        .collect();
    let mut named = 0;
    for text in [rules, dashboard] {
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let words = text.split(|letter| !is_part(letter));
        for name in words.filter(|word| word.starts_with("jackfield_")) {
            named += 1;
            assert!(known.contains(&name), "no series is called {name}");
        }
    }
    assert!(named > 40, "only {named} names were found");
    Ok(())
}
