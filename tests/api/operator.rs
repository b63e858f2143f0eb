//! What operators ask: a node's clients, one by one, and the builds of a plugin.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use jackfield_tests::{Api, Node, Protocol, text, within};
use serde_json::{Value, json};

use super::{BOTH, consoles};

fn now_ms() -> Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(u64::try_from(since.as_millis())?)
}

/// All pages of the clients.
async fn all_clients(api: &Api, address: Option<&str>, limit: u32) -> Result<Vec<String>> {
    let mut request = json!({ "limit": limit, "address": address });
    let mut all = Vec::new();
    loop {
        let page = api
            .ok("console", "get-all-client-ids", request.clone())
            .await?;
        assert_eq!(page["missing"], json!([]));
        let items = page["items"].as_array().context("items")?;
        ensure!(items.len() <= limit as usize, "{page}");
        all.extend(items.iter().filter_map(|id| id.as_str().map(str::to_owned)));
        match page.get("next").filter(|next| !next.is_null()) {
            Some(next) => request["cursor"] = next.clone(),
            None => return Ok(all),
        }
    }
}

#[tokio::test]
async fn all_clients_of_the_cluster_are_listed_page_by_page() -> Result<()> {
    let cluster = consoles(3).await?;
    let mut clients = Vec::new();
    for node in cluster.nodes() {
        clients.extend(node.consoles::<5>().await?);
    }
    let expected: BTreeSet<String> = clients.iter().map(|ada| ada.id().to_owned()).collect();
    for protocol in BOTH {
        let api = cluster[0].calls(protocol)?;
        let count = async {
            let all = json!({ "value": 15, "missing": [] });
            while api.ok("console", "get-all-client-count", json!({})).await? != all {}
            anyhow::Ok(())
        };
        within("all clients to be known", count).await?;
        for limit in [1, 4, 15, 1_000] {
            let listed = all_clients(&api, None, limit).await?;
            assert_eq!(listed.len(), 15, "each once");
            assert!(listed.is_sorted(), "in order");
            assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), expected);
        }
        for (address, found) in [
            ("127.0.0.1", 15),
            ("127.0.0.0/8", 15),
            ("127.0.0.2", 0),
            ("10.0.0.0/8", 0),
            ("::1", 0),
        ] {
            let listed = all_clients(&api, Some(address), 2).await?;
            assert_eq!(listed.len(), found, "{address}");
        }
        for wrong in ["", "localhost", "127.0.0.1/40", "127.0.0.1:80"] {
            let request = json!({ "address": wrong });
            let refusal = api.refused("console", "get-all-client-ids", request);
            let refusal = refusal.await?;
            assert_eq!(refusal.reason, "INVALID_ARGUMENT");
            assert!(refusal.message.contains(wrong), "{}", refusal.message);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_client_is_shown_with_what_it_has_sent_and_got_from_any_node() -> Result<()> {
    let cluster = consoles(2).await?;
    let began = now_ms()?;
    let query = [("uid", "ada"), ("group", "lobby"), ("group", "tea")];
    let mut ada = cluster[1].console(&query).await?;
    let info = json!({ "do": "set-info", "client": ada.id(), "info": { "name": "Ada" } });
    ada.ok(info).await?;
    let request = json!({ "client": ada.id() });
    for (node, protocol) in cluster.nodes().iter().zip(BOTH) {
        let api = node.calls(protocol)?;
        let before = api.ok("console", "get-client", request.clone()).await?;
        assert_eq!(before["client"], ada.id());
        assert_eq!(before["node"], cluster[1].incarnation().await?);
        assert_eq!(before["uid"], "ada");
        assert_eq!(before["groups"], json!(["lobby", "tea"]));
        assert_eq!(before["info"], json!({ "name": "Ada" }));
        let address = before["address"].as_str().context("an address")?;
        assert!(address.starts_with("127.0.0.1:"), "{address}");
        let connected = before["connected_at_ms"].as_u64().context("a time")?;
        assert!((began..=now_ms()?).contains(&connected), "{connected}");

        // What it sends and gets is counted exactly.
        let message = json!({ "do": "is-online", "client": ada.id() });
        ada.ok(message).await?;
        let send = json!({ "client": ada.id(), "message": { "text": "x".repeat(1_000) } });
        api.ok("console", "send-to-client", send).await?;
        assert_eq!(ada.next().await?, text(&"x".repeat(1_000)));
        let after = api.ok("console", "get-client", request.clone()).await?;
        let more = |key: &str| {
            let number = |of: &Value| of[key].as_u64().unwrap_or_default();
            number(&after) - number(&before)
        };
        assert_eq!(more("received_messages"), 1);
        assert!((30..200).contains(&more("received_bytes")), "{after}");
        assert_eq!(more("sent_frames"), 2, "the answer and the message");
        assert!((1_004..1_300).contains(&more("sent_bytes")), "{after}");
        assert_eq!(after["queued_frames"], 0);
        assert_eq!(after["queued_bytes"], 0);
        let heard = |of: &Value| of["heard_at_ms"].as_u64().unwrap_or_default();
        // The clock is a few milliseconds late.
        assert!(heard(&after) >= heard(&before) && heard(&after) + 1_000 > began);
    }
    let (api, id) = (cluster[0].calls(BOTH[0])?, ada.id().to_owned());
    ada.leave().await?;
    let gone = async {
        while api
            .call("console", "get-client", json!({ "client": id }))
            .await?
            .is_ok()
        {}
        anyhow::Ok(())
    };
    within("the client to be gone", gone).await?;
    let refusal = api.refused("console", "get-client", json!({ "client": id }));
    assert_eq!(refusal.await?.reason, "NOT_FOUND");
    Ok(())
}

/// While a client does not read, what waits for it is seen.
#[tokio::test]
async fn what_waits_for_a_client_is_shown() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let ada = node.console(&[]).await?;
    let api = node.calls(Protocol::Grpc)?;
    let message = json!({ "text": "x".repeat(100_000) });
    let send = json!({ "client": ada.id(), "message": message });
    let waits = async {
        loop {
            api.call("console", "send-to-client", send.clone())
                .await?
                .ok();
            let shown = json!({ "client": ada.id() });
            let shown = api.ok("console", "get-client", shown).await?;
            if shown["queued_frames"].as_u64() > Some(1) {
                let bytes = shown["queued_bytes"].as_u64();
                ensure!(bytes > Some(100_000), "{shown}");
                return anyhow::Ok(());
            }
        }
    };
    within("messages to wait", waits).await
}

/// The builds of `flaky`, each with its digest, its generation and whether it was taken back.
async fn builds(api: &Api) -> Result<Vec<(String, Option<u64>, bool)>> {
    let answer = api.ok("flaky", "get-builds", json!({})).await?;
    let builds = answer["builds"].as_array().context("builds")?;
    let builds = builds.iter().map(|build| {
        let digest = build["digest"].as_str().unwrap_or_default().to_owned();
        let is_taken_back = build["taken_back"].as_str().is_some();
        (digest, build["generation"].as_u64(), is_taken_back)
    });
    Ok(builds.collect())
}

fn manifest(name: &str) -> String {
    format!("[config]\ntraps = 'none'\nname = '{name}'\n")
}

/// Waits until so many builds are kept, since they are written after they have taken over.
async fn kept(api: &Api, number: usize) -> Result<Vec<(String, Option<u64>, bool)>> {
    let waiting = async {
        loop {
            let builds = builds(api).await?;
            if builds.len() == number {
                return anyhow::Ok(builds);
            }
        }
    };
    within(&format!("{number} builds to be kept"), waiting).await
}

#[tokio::test]
async fn another_build_is_gone_back_to_and_no_client_is_closed() -> Result<()> {
    let kept_in = tempfile::tempdir()?;
    let path = kept_in.path().to_string_lossy().into_owned();
    let start = || {
        let node = Node::builder().alone().plugin_from("flaky", "flaky");
        let node = node.manifest("flaky", &manifest("c"));
        node.environment("JACKFIELD_BUILDS", &path).start()
    };
    let digests = {
        let node = start().await?;
        let mut ada = node.client("/flaky").await?;
        let api = node.calls(BOTH[0])?;
        kept(&api, 1).await?;
        for (name, generation) in [("b", 2), ("a", 3)] {
            node.folder().put_manifest("flaky", &manifest(name))?;
            node.generation_loaded("flaky", generation).await?;
            kept(&api, usize::try_from(generation)?).await?;
        }
        let all = builds(&api).await?;
        let [a, b, c] = [0, 1, 2].map(|index| all[index].0.clone());
        assert_eq!(all[0].1, Some(3));

        // The one before, then another one by its digest, then the newest one again.
        for (digest, generation, expected) in [
            (Value::Null, 4, &b),
            (json!(c[..8]), 5, &c),
            (json!(a.to_uppercase()), 6, &a),
        ] {
            let request = json!({ "digest": digest });
            let done = api.ok("flaky", "rollback", request).await?;
            assert_eq!(
                done,
                json!({ "generation": generation, "digest": expected })
            );
            ada.say(text("still here")).await?;
            assert_eq!(ada.next_text().await?, "still here");
            let running = builds(&api).await?;
            let running = running
                .iter()
                .find(|(_, number, _)| *number == Some(generation));
            assert_eq!(running.context("it runs")?.0, *expected);
        }
        // What was left is not loaded again. What was asked for is.
        let taken_back: Vec<_> = builds(&api).await?;
        let is_taken_back = |digest: &str| taken_back.iter().any(|it| it.0 == digest && it.2);
        assert_eq!(
            [&a, &b, &c].map(|it| is_taken_back(it)),
            [false, true, true]
        );

        for (digest, reason) in [
            (json!(a), "INVALID_ARGUMENT"),
            (json!("ffffffffffff"), "NOT_FOUND"),
            (json!("no digest"), "NOT_FOUND"),
            (json!(""), "NOT_FOUND"),
            // All others were taken back.
            (Value::Null, "NOT_FOUND"),
        ] {
            let refusal = api.refused("flaky", "rollback", json!({ "digest": digest }));
            assert_eq!(refusal.await?.reason, reason, "{digest}");
        }
        let request = json!({ "digest": c });
        api.ok("flaky", "rollback", request).await?;
        // It was taken back before, so it has to prove itself again.
        let nodes: Value = serde_json::from_str(&node.api("/v1/nodes").await?.body)?;
        assert_eq!(nodes["node"]["plugins"][0]["state"], "probation");
        node.stop().await?;
        [a, b, c]
    };
    // The folder has the build `c`, which the operator has chosen, and not `a`.
    let node = start().await?;
    let api = node.calls(BOTH[1])?;
    let all = builds(&api).await?;
    let running = all.iter().find(|(_, generation, _)| generation.is_some());
    assert_eq!(running.context("a build runs")?.0, digests[2]);
    Ok(())
}

/// What an operator has left stays so after a restart, although the folder has it.
#[tokio::test]
async fn after_a_restart_the_build_that_was_chosen_runs() -> Result<()> {
    let kept_in = tempfile::tempdir()?;
    let path = kept_in.path().to_string_lossy().into_owned();
    let start = |name: &str| {
        let node = Node::builder().alone().plugin_from("flaky", "flaky");
        let node = node.manifest("flaky", &manifest(name));
        node.environment("JACKFIELD_BUILDS", &path).start()
    };
    let old = {
        let node = start("old").await?;
        let api = node.calls(BOTH[0])?;
        let old = kept(&api, 1).await?[0].0.clone();
        node.folder().put_manifest("flaky", &manifest("new"))?;
        node.generation_loaded("flaky", 2).await?;
        kept(&api, 2).await?;
        api.ok("flaky", "rollback", json!({})).await?;
        node.stop().await?;
        old
    };
    let node = start("new").await?;
    let api = node.calls(BOTH[0])?;
    let runs = async {
        loop {
            let all = builds(&api).await?;
            if let Some((digest, ..)) = all.iter().find(|it| it.1.is_some()) {
                return anyhow::Ok(digest.clone());
            }
        }
    };
    assert_eq!(within("a build to run", runs).await?, old);
    Ok(())
}

/// A plugin whose file is gone is not brought back by the build that is kept.
#[tokio::test]
async fn a_plugin_that_was_removed_is_not_gone_back_to() -> Result<()> {
    let node = Node::builder().alone().plugin_from("flaky", "flaky");
    let node = node.manifest("flaky", &manifest("a")).start().await?;
    let api = node.calls(BOTH[0])?;
    node.folder().put_manifest("flaky", &manifest("b"))?;
    node.generation_loaded("flaky", 2).await?;
    kept(&api, 2).await?;
    let mut ada = node.client("/flaky").await?;
    node.folder().remove("flaky")?;
    assert_eq!(ada.end().await?.code(), 1001);
    let refusal = api.refused("flaky", "rollback", json!({})).await?;
    assert_eq!(refusal.reason, "INVALID_ARGUMENT", "{}", refusal.message);
    assert!(refusal.message.contains("plugins folder"));
    assert!(node.client("/flaky").await.is_err());
    Ok(())
}

/// Whoever watches hears of a rollback once, and of which generation was left.
#[tokio::test]
async fn whoever_watches_hears_of_a_rollback() -> Result<()> {
    let node = Node::builder().alone().plugin_from("flaky", "flaky");
    let node = node.manifest("flaky", &manifest("a")).start().await?;
    let api = node.calls(Protocol::Http)?;
    node.folder().put_manifest("flaky", &manifest("b"))?;
    node.generation_loaded("flaky", 2).await?;
    kept(&api, 2).await?;
    let mut events = api.watch(&["flaky"]).await?;
    api.ok("flaky", "rollback", json!({})).await?;
    let _ada = node.client("/flaky").await?;
    let mut heard = Vec::new();
    while heard.len() < 3 {
        heard.push(events.next().await?.context("an event")?);
    }
    assert_eq!(heard[0]["plugin_loaded"]["generation"], 3);
    assert_eq!(heard[1]["plugin_taken_back"]["generation"], 2);
    assert!(heard[2]["client_connected"].is_object(), "{heard:?}");
    assert_eq!(node.counters().await?.get("builds_taken_back")?, 0);
    Ok(())
}

/// What the node says of its plugins, and other nodes of them.
#[tokio::test]
async fn each_node_says_what_runs_on_the_others_and_why_a_load_failed() -> Result<()> {
    let cluster = consoles(2).await?;
    cluster[1].folder().put_bytes("console", b"no component")?;
    let nodes = async |api: &Api| {
        let response = api.http("GET", "/v1/nodes", &[], "").await?;
        anyhow::Ok(serde_json::from_str::<Value>(&response.body)?)
    };
    let apis = [
        cluster[0].calls(Protocol::Http)?,
        cluster[1].calls(Protocol::Http)?,
    ];
    let told = async {
        loop {
            let (here, there) = (nodes(&apis[1]).await?, nodes(&apis[0]).await?);
            let own = here["node"]["plugins"][0].clone();
            let peer = there["peers"][0]["plugins"][0].clone();
            if own["failure"].is_string() && peer["failure"].is_string() {
                return anyhow::Ok((own, peer));
            }
        }
    };
    let (own, peer) = within("the failure to be told", told).await?;
    assert_eq!(own["name"], "console");
    assert_eq!(own["state"], "probation");
    assert_eq!(peer["state"], "running", "the build before it");
    for key in ["name", "build", "failure"] {
        assert_eq!(own[key], peer[key], "{key}");
    }
    assert_eq!(own["build"]["generation"], 1);
    assert_eq!(own["build"]["digest"].as_str().map(str::len), Some(64));
    let failure = own["failure"].as_str().context("a failure")?;
    assert!(failure.contains("WebAssembly"), "{failure}");

    // Once it loads, nothing is said any more.
    cluster[1].folder().put("console", "console")?;
    let mended = async {
        while !nodes(&apis[0]).await?["peers"][0]["plugins"][0]["failure"].is_null() {}
        anyhow::Ok(())
    };
    within("the failure to be taken back", mended).await
}
