//! Timers of the cluster: one node fires each, and another one when it has gone.
//!
//! The group `timers` hears of each that fires, and where.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use jackfield_tests::{Cluster, Console, Node};
use serde_json::{Value, json};

use crate::{SOON, becomes, console, nodes};

const TIMERS: usize = 150;

/// So that nobody is gone for being silent while a test runs, and all stay newcomers.
const PATIENT: &str = "[limits]\nsuspect_after = '40s'\ngone_after = '50s'\n";

#[tokio::test]
async fn each_fires_once_wherever_it_was_set() -> Result<()> {
    let cluster = nodes(3, PATIENT).await?;
    let mut ada = listener(&cluster).await?;
    for (number, node) in cluster.nodes().iter().enumerate() {
        let mut client = node.console(&[]).await?;
        for timer in 0..TIMERS / 3 {
            let name = format!("{number} {timer}");
            client.ok(set(&name, 500, None)).await?;
        }
    }
    let firings = until_all_fired(&mut ada).await?;
    let where_set = |name: &str| name.split(' ').next().unwrap_or_default().to_owned();
    let mut nodes = BTreeMap::<String, BTreeSet<String>>::new();
    for (name, node) in firings {
        nodes.entry(where_set(&name)).or_default().insert(node);
    }
    for (number, nodes) in nodes {
        assert_eq!(
            nodes.len(),
            3,
            "those that were set at {number} fire everywhere"
        );
    }
    nothing_more(&mut ada).await
}

#[tokio::test]
async fn a_cancelled_one_fires_nowhere() -> Result<()> {
    let cluster = nodes(3, SOON).await?;
    let mut ada = listener(&cluster).await?;
    let mut bob = cluster[1].console(&[]).await?;
    ada.ok(set("tick", 20, Some(20))).await?;
    assert_eq!(fired(&mut ada).await?.0, "tick");
    becomes(&mut bob, cancel("tick"), &json!(true)).await?;
    for client in [&mut bob, &mut ada] {
        becomes(client, cancel("tick"), &json!(false)).await?;
    }
    fires_until(&mut ada, "a marker", 100).await?;
    nothing_more(&mut ada).await
}

#[tokio::test]
async fn a_newcomer_fires_none_twice() -> Result<()> {
    let mut cluster = nodes(2, SOON).await?;
    let mut ada = listener(&cluster).await?;
    // Until the two are newcomers no more (`gone_after`).
    fires_until(&mut ada, "settled", 3_000).await?;
    for number in 0..TIMERS {
        let after = 20 + 40 * number as u64;
        ada.ok(set(&number.to_string(), after, None)).await?;
    }
    let builder = console(SOON)(Node::builder().alone());
    let newcomer = builder.registered_at(&[cluster.register()]).start().await?;
    cluster.nodes_mut().push(newcomer);
    until_all_fired(&mut ada).await?;
    nothing_more(&mut ada).await
}

#[tokio::test]
async fn when_the_node_that_fires_is_killed_another_one_does() -> Result<()> {
    goes_on_elsewhere(SOON, async |node| node.kill().await).await
}

#[tokio::test]
async fn when_the_node_that_fires_drains_another_one_does() -> Result<()> {
    goes_on_elsewhere(PATIENT, async |node| node.stop().await.map(drop)).await
}

#[tokio::test]
async fn when_the_plugin_is_removed_there_another_one_does_and_it_comes_back() -> Result<()> {
    let cluster = nodes(2, SOON).await?;
    let [mut ada, mut bob] = [
        listener_at(&cluster[0]).await?,
        listener_at(&cluster[1]).await?,
    ];
    ada.ok(set("tick", 20, Some(20))).await?;
    let (first, second) = (
        cluster[0].incarnation().await?,
        cluster[1].incarnation().await?,
    );

    cluster[0].folder().remove("console")?;
    assert_eq!(ada.end().await?.code(), 1001);
    while fired(&mut bob).await?.1 != second {}
    cluster[0].folder().put("console", "console")?;
    cluster[0].generation_loaded("console", 2).await?;

    // Back, it has been told of the timer, and fires it when it is alone.
    let mut ada = listener_at(&cluster[0]).await?;
    fired(&mut ada).await?;
    cluster[1].folder().remove("console")?;
    assert_eq!(bob.end().await?.code(), 1001);
    while fired(&mut ada).await?.1 != first {}
    becomes(&mut ada, cancel("tick"), &json!(true)).await
}

/// A timer that repeats is fired by one of three nodes, which then goes.
async fn goes_on_elsewhere(config: &str, go: impl AsyncFnOnce(Node) -> Result<()>) -> Result<()> {
    let mut cluster = nodes(3, config).await?;
    let mut listeners = Vec::new();
    for node in cluster.nodes() {
        let listener = listener_at(node).await?;
        listeners.push((node.incarnation().await?, listener));
    }
    let every = 20;
    listeners[0].1.ok(set("tick", every, Some(every))).await?;
    let gone = fired(&mut listeners[0].1).await?.1;
    let place = listeners.iter().position(|(node, _)| *node == gone);
    let place = place.context("one of the three")?;
    listeners.remove(place);
    go(cluster.nodes_mut().remove(place)).await?;
    for (_, listener) in &mut listeners {
        while fired(listener).await?.1 == gone {}
    }
    Ok(())
}

/// A client of the first node that hears of timers that fire anywhere; all nodes know.
async fn listener(cluster: &Cluster) -> Result<Console> {
    let ada = listener_at(&cluster[0]).await?;
    for node in cluster.nodes() {
        let count = json!({ "do": "get-client-count-by-group", "group": "timers" });
        let known = json!({ "value": 1, "missing": [] });
        becomes(&mut node.console(&[]).await?, count, &known).await?;
    }
    Ok(ada)
}

async fn listener_at(node: &Node) -> Result<Console> {
    node.console(&[("group", "timers")]).await
}

fn set(name: &str, after_ms: u64, every_ms: Option<u64>) -> Value {
    json!({
        "do": "set-timer",
        "name": name,
        "after_ms": after_ms,
        "every_ms": every_ms,
        "scope": "cluster",
    })
}

fn cancel(name: &str) -> Value {
    json!({ "do": "cancel-timer", "name": name, "scope": "cluster" })
}

/// The next timer that fires, and where.
async fn fired(client: &mut Console) -> Result<(String, String)> {
    let event = client.next_event().await?;
    let field = |name: &str| event[name].as_str().map(str::to_owned);
    let fired = field("name").zip(field("node"));
    fired.with_context(|| format!("{event} came instead"))
}

/// Which timers have fired, and where, until `TIMERS` have: each once.
async fn until_all_fired(client: &mut Console) -> Result<BTreeMap<String, String>> {
    let mut firings = BTreeMap::new();
    while firings.len() < TIMERS {
        let (name, node) = fired(client).await?;
        let before = firings.insert(name.clone(), node);
        ensure!(before.is_none(), "{name} has fired before, at {before:?}");
    }
    Ok(firings)
}

/// Sets a timer at this client's node and waits until it fires.
async fn fires_until(client: &mut Console, marker: &str, ms: u64) -> Result<Vec<String>> {
    let request = json!({ "do": "set-timer", "name": marker, "after_ms": ms });
    client.ok(request).await?;
    let mut names = Vec::new();
    loop {
        match fired(client).await?.0 {
            name if name == marker => return Ok(names),
            name => names.push(name),
        }
    }
}

/// No timer fires until others have that are set now, for longer than nodes take to agree.
async fn nothing_more(client: &mut Console) -> Result<()> {
    for marker in 0..10 {
        let names = fires_until(client, &format!("marker {marker}"), 100).await?;
        ensure!(names.is_empty(), "{names:?} fired, too");
    }
    Ok(())
}
