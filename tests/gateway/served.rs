//! A path whose plugin is on another node is served as if it were here.

use anyhow::Result;
use jackfield_tests::{
    Client, Console, End, Node, NodeBuilder, Register, binary, query, refusal_status, text, within,
};
use serde_json::{Value, json};

use super::Split;

#[tokio::test]
async fn a_client_comes_talks_and_leaves() -> Result<()> {
    let split = Split::console().await?;
    let mut watcher = split.gateway.watcher().await?;
    let query = [
        ("uid", "ada"),
        ("group", "tea"),
        ("say", "welcome"),
        ("info.k", "v"),
    ];
    let mut ada = split.gateway.console(&query).await?;
    assert_eq!(
        ada.take_kept(),
        [text("welcome")],
        "what on-connect sent comes first"
    );
    for (request, answer) in [
        (json!({ "do": "get-uid-by-client-id" }), json!("ada")),
        (json!({ "do": "get-info" }), json!({ "k": "v" })),
        (json!({ "do": "is-uid-online", "uid": "ada" }), json!(true)),
    ] {
        assert_eq!(ada.ok(request.clone()).await?, answer, "{request}");
    }
    // Its id is one of the gateway's, and so is the count of it.
    let counters = split.gateway.counters().await?;
    assert_eq!(counters.get("clients_accepted")?, 2);
    assert_eq!(
        split.workers[0].counters().await?.get("clients_accepted")?,
        0
    );
    ada.leave_with(4000, "dinner").await?;
    let departure = watcher.departure(ada.id()).await?;
    let expected = json!({ "code": 4000, "reason": "dinner", "by": "client", "uid": "ada" });
    for (key, value) in expected.as_object().into_iter().flatten() {
        assert_eq!(departure[key], *value, "{departure}");
    }
    Ok(())
}

#[tokio::test]
async fn text_stays_text_and_bytes_stay_bytes() -> Result<()> {
    let split = Split::start(1, |node| node.plugin("echo")).await?;
    let mut client = split.gateway.client("/echo").await?;
    for message in [
        text(""),
        text("žluťoučký"),
        binary(&[]),
        binary(&[0, 159, 146, 150]),
    ] {
        client.say(message.clone()).await?;
        assert_eq!(client.next().await?, message);
    }
    // As large as a message may be.
    let long = text(&"x".repeat(64 << 10));
    client.say(long.clone()).await?;
    assert_eq!(client.next().await?, long);
    assert_eq!(client.leave_with(1000, "").await?, End::closed(1000, ""));
    Ok(())
}

/// A frame that a link does not take would come again and again, with all that waits behind it.
#[tokio::test]
async fn what_is_too_large_for_a_link_ends_its_client_only() -> Result<()> {
    let config = "[limits]\nmessage_bytes = 20_000_000\noutbox_bytes = 20_000_010";
    let split = Split::with_gateway_config(1, config, |node| node.plugin("console")).await?;
    let mut bob = split.gateway.client("/console").await?;
    bob.say(binary(&vec![7; 17 << 20])).await?;
    let end = bob.end().await?;
    assert_eq!(end, End::closed(1009, "too large to go to another node"));
    let counters = split.gateway.counters().await?;
    assert_eq!(counters.get("messages_too_big")?, 1);

    // Nor does an answer that is larger than what its gateway takes.
    let split = Split::start(1, |node| node.plugin("console")).await?;
    let mut ada = split.gateway.console(&[]).await?;
    let reason = query(&[
        ("refuse", "403"),
        ("reason", "0123456789abcdef"),
        ("times", "1048520"),
    ]);
    let refused = split.gateway.refusal(&format!("/console{reason}")).await?;
    assert_eq!(
        (refused.status, &*refused.body),
        (500, "the server failed\n")
    );
    split.workers[0]
        .wait_for_log(|line| line.says("an answer to another node is too large"))
        .await?;
    ada.ok(json!({ "do": "identify" })).await?;
    Ok(())
}

/// Many messages that have arrived together are handled in order.
#[tokio::test]
async fn a_clients_messages_stay_in_order() -> Result<()> {
    let split = Split::start(2, |node| node.plugin("echo")).await?;
    let mut client = split.gateway.client("/echo").await?;
    for number in 0..2_000 {
        client.feed(text(&number.to_string())).await?;
    }
    client.flush().await?;
    for number in 0..2_000 {
        assert_eq!(client.next_text().await?, number.to_string());
    }
    Ok(())
}

#[tokio::test]
async fn the_workers_manifest_says_who_comes_in_and_where() -> Result<()> {
    let manifest = "routes = ['/ws', '/rooms/*']\nrequire_uid = { query = 'businessId' }\n\
                    subprotocols = ['v1']\norigins = ['https://example.com']\n\
                    [policies]\nuid = 'kick-old'\n";
    let split = Split::start(1, |node| {
        node.plugin("console").manifest("console", manifest)
    })
    .await?;
    let at = |path: &str| format!("{path}?businessid=7");
    for path in ["/console", "/api/console", "/ws", "/rooms/1/2", "/"] {
        let client = Client::connect(split.gateway.address(), &at(path), &[]).await?;
        let mut console = Console::greet(client).await?;
        let uid = console.ok(json!({ "do": "get-uid-by-client-id" })).await?;
        assert_eq!(uid, "7", "{path}");
    }
    for (path, headers, status) in [
        ("/console", &[][..], 400),
        ("/console?businessid=", &[], 400),
        (
            "/console?businessid=7",
            &[("origin", "https://evil.example")],
            403,
        ),
        ("/console?businessid=7&refuse=418", &[], 418),
    ] {
        let refused = split.gateway.refusal_with(path, headers).await?;
        assert_eq!(refused.status, status, "{path} {refused:?}");
    }
    let offered = [("sec-websocket-protocol", "v0, v1")];
    let client = Client::connect(split.gateway.address(), &at("/ws"), &offered).await?;
    assert_eq!(client.subprotocol(), Some("v1"));
    // The policy holds where the clients are: the last one has taken the uid from all others.
    let mut last = Console::greet(client).await?;
    let ids = last
        .ok(json!({ "do": "get-client-ids-by-uid", "uid": "7" }))
        .await?;
    assert_eq!(ids["items"], json!([last.id()]));
    Ok(())
}

/// How clients are refused is the worker's manifest's word too, and the gateway's own refusals
/// go by it.
#[tokio::test]
async fn a_refusal_at_the_gateway_closes_where_the_manifest_says_so() -> Result<()> {
    let manifest = "refuse = 'close'\norigins = ['https://example.com']\n\
                    require_uid = { query = 'id' }\n[policies]\nuid = 'reject-new'\n";
    let split = Split::start(1, |node| {
        node.plugin("console").manifest("console", manifest)
    })
    .await?;
    let gateway = split.gateway.address();
    for (path, code, reason) in [
        // The gateway's own, before any event has gone to the worker.
        (
            "/console?%ff",
            4400,
            "the query is not UTF-8 (RFC 3986: percent-encode it as UTF-8)",
        ),
        (
            "/console",
            4400,
            "the query parameter id is missing, empty, or not UTF-8",
        ),
        ("/console?id=7&refuse=418&reason=tea", 4418, "tea"),
    ] {
        let mut client = Client::connect(gateway, path, &[]).await?;
        assert_eq!(client.end().await?, End::closed(code, reason), "{path}");
    }
    let foreign = [("origin", "https://evil.example")];
    let told = split
        .gateway
        .refusal_with("/console?id=7", &foreign)
        .await?;
    assert_eq!(told.status, 403);
    let _holder = Console::greet(Client::connect(gateway, "/console?id=7", &[]).await?).await?;
    let mut second = Client::connect(gateway, "/console?id=7", &[]).await?;
    assert_eq!(second.end().await?.code(), 4409);
    Ok(())
}

/// Policies follow a reload, for clients that are there already.
#[tokio::test]
async fn a_reload_of_the_manifest_holds_at_the_gateway() -> Result<()> {
    let split = Split::console().await?;
    let mut ada = split.gateway.console(&[("uid", "ada")]).await?;
    let mut watcher = split.gateway.console(&[]).await?;
    let worker = &split.workers[0];
    worker
        .folder()
        .put_manifest("console", "[policies]\nuid = 'reject-new'")?;
    worker.generation_loaded("console", 2).await?;
    let refused = Client::connect(
        split.gateway.address(),
        &format!("/console{}", query(&[("uid", "ada")])),
        &[],
    )
    .await;
    // Its answer, like the policy, has come from the worker after the reload.
    assert_eq!(refusal_status(&refused.expect_err("a refusal")), Some(409));
    assert_eq!(
        watcher
            .ok(json!({ "do": "is-uid-online", "uid": "ada" }))
            .await?,
        true
    );
    assert_eq!(
        ada.ok(json!({ "do": "get-uid-by-client-id" })).await?,
        "ada"
    );
    Ok(())
}

/// A plugin that is here is not looked for elsewhere.
#[tokio::test]
async fn a_node_that_has_the_plugin_runs_it_itself() -> Result<()> {
    let register = Register::start().await?;
    let start = || {
        Node::builder()
            .alone()
            .plugin("console")
            .registered_at(&[&register])
            .start()
    };
    let (one, two) = (start().await?, start().await?);
    one.wait_for_peers(1).await?;
    two.wait_for_peers(1).await?;
    let mut console = one.console(&[]).await?;
    console
        .ok(json!({ "do": "is-online", "client": console.id() }))
        .await?;
    assert_eq!(one.counters().await?.get("events_elsewhere")?, 0);
    assert_eq!(two.counters().await?.get("peer_events")?, 0);
    Ok(())
}

/// A node that has other plugins is no gateway by name, and yet one for what it does not have.
#[tokio::test]
async fn any_node_serves_what_only_its_peer_has() -> Result<()> {
    let register = Register::start().await?;
    let echo = Node::builder()
        .alone()
        .plugin("echo")
        .registered_at(&[&register]);
    let console = Node::builder()
        .alone()
        .plugin("console")
        .registered_at(&[&register]);
    let (echo, console) = (echo.start().await?, console.start().await?);
    echo.wait_for_peers(1).await?;
    console.wait_for_peers(1).await?;
    echo.wait_for_plugins_of(&console).await?;
    console.wait_for_plugins_of(&echo).await?;
    let mut there = echo.console(&[]).await?;
    assert_eq!(
        there.ok(json!({ "do": "get-all-client-count" })).await?["value"],
        1
    );
    let mut here = console.client("/echo").await?;
    here.say(text("m")).await?;
    assert_eq!(here.next_text().await?, "m");

    // Dropped in here too, it takes over at the client's next event, and nothing is closed.
    console.folder().put("echo", "echo")?;
    console.generation_loaded("echo", 1).await?;
    let before = console.counters().await?.get("events_elsewhere")?;
    here.say(text("n")).await?;
    assert_eq!(here.next_text().await?, "n");
    assert_eq!(console.counters().await?.get("events_elsewhere")?, before);
    Ok(())
}

#[tokio::test]
async fn what_nobody_has_is_404_and_what_nobody_can_run_now_is_503() -> Result<()> {
    let split = Split::start(1, |node| {
        node.plugin("console")
            .file("broken.wasm", "this is no component")
    })
    .await?;
    let status = async |path: &str| anyhow::Ok(split.gateway.refusal(path).await?.status);
    let becomes = async |path: &str, wanted: u16| {
        let reached = async {
            while status(path).await? != wanted {}
            anyhow::Ok(())
        };
        within(&format!("{path} to answer {wanted}"), reached).await
    };
    assert_eq!(status("/nobody").await?, 404);
    assert_eq!(status("/console/below").await?, 404);
    assert_eq!(status("/broken").await?, 503);
    split.workers[0].folder().remove("broken")?;
    becomes("/broken", 404).await?;
    // What a node had that has ended may come back with it.
    let mut split = split;
    split.workers.remove(0).stop().await?;
    split.gateway.wait_for_peers(0).await?;
    let refused = split.gateway.refusal("/console").await?;
    assert_eq!(
        (refused.status, refused.headers["retry-after"].as_str()),
        (503, "1")
    );
    Ok(())
}

/// Pages are the gateway's own: it lists those of the plugins that others run, and it has here.
#[tokio::test]
async fn the_pages_of_its_plugins_are_listed() -> Result<()> {
    let plugins = |node: NodeBuilder| node.plugin("console").plugin_from("chat", "console");
    let split = Split::start(1, plugins).await?;
    for plugin in ["console", "nobody"] {
        let page = split.gateway.folder().path().join(plugin);
        std::fs::create_dir(&page)?;
        std::fs::write(page.join("index.html"), plugin)?;
    }
    for (node, status) in [(&split.gateway, 200), (&split.workers[0], 404)] {
        let mut root = node.raw().await?;
        root.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await?;
        let root = root.response().await?;
        assert_eq!(root.status, status, "{root:?}");
        assert_eq!(
            root.body.matches("href=\"/").count(),
            usize::from(status == 200)
        );
    }
    Ok(())
}

/// Before it can have heard of all others, a gateway does not say that there is no such plugin.
#[tokio::test]
async fn a_gateway_that_has_just_started_says_to_come_again() -> Result<()> {
    let patient = "[limits]\ngone_after = '1m'\n";
    let gateway = Node::builder()
        .gateway()
        .meshed()
        .config(patient)
        .start()
        .await?;
    let refused = Client::connect(gateway.address(), "/console", &[]).await;
    assert_eq!(refusal_status(&refused.expect_err("a refusal")), Some(503));
    let mut page = gateway.raw().await?;
    page.write(b"GET /console HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await?;
    assert_eq!(page.response().await?.status, 503);
    let asked = gateway.api("/v1/plugins/console/get-all-uids").await?;
    assert_eq!(asked.status, 503, "{}", asked.body);
    let ready = gateway.api("/ready").await?;
    assert_eq!(
        (ready.status, &*ready.body),
        (503, r#"{"ready":false,"stage":"starting"}"#)
    );
    gateway.stop().await?;

    let soon = "[limits]\nsuspect_after = '1s'\ngone_after = '1100ms'";
    let gateway = Node::builder().gateway().meshed().config(soon);
    let gateway = gateway.start().await?;
    let ready = async {
        while gateway.api("/ready").await?.status != 200 {}
        anyhow::Ok(())
    };
    within("a ready gateway", ready).await
}

#[tokio::test]
async fn a_gateway_says_what_it_needs() -> Result<()> {
    let ended = Node::builder().gateway().start().await;
    let error = format!("{:#}", ended.expect_err("no gateway"));
    assert!(error.contains("--mesh"), "{error}");
    let ended = Node::builder()
        .alone()
        .arguments(&["--role", "worker"])
        .start()
        .await;
    let error = format!("{:#}", ended.expect_err("no such role"));
    assert!(
        error.contains("full") && error.contains("gateway"),
        "{error}"
    );
    Ok(())
}

/// What it shows of itself: the plugins are there, with its clients, and run elsewhere.
#[tokio::test]
async fn operators_see_its_clients_and_no_generation() -> Result<()> {
    let split = Split::console().await?;
    let _ada = split
        .gateway
        .console(&[("uid", "ada"), ("group", "tea")])
        .await?;
    let nodes: Value = serde_json::from_str(&split.gateway.api("/v1/nodes").await?.body)?;
    assert_eq!(nodes["node"]["role"], "gateway");
    let plugin = &nodes["node"]["plugins"][0];
    assert_eq!(
        *plugin,
        json!({ "name": "console", "generation": null, "runs": "elsewhere",
                "state": "elsewhere", "build": null, "canary": null, "failure": null,
                "clients": 1, "uids": 1, "groups": 1 })
    );
    Ok(())
}

/// The node that has the clients counts what they send.
#[tokio::test]
async fn rates_are_those_of_the_gateway() -> Result<()> {
    let config = "[limits]\nbytes_per_second_per_uid = 100\n\
                  [plugin]\nmessages_per_second_per_plugin = 10";
    let split = Split::with_gateway_config(1, config, |node| node.plugin("console")).await?;
    let mut ada = split.gateway.console(&[("uid", "ada")]).await?;
    let mut bob = split.gateway.console(&[]).await?;
    let large = json!({ "do": "is-online", "client": "x".repeat(50_000) });
    ada.call(large).await?;
    ada.say("one more").await?;
    let reason = "too many bytes a second of this uid";
    assert_eq!(ada.end().await?, End::closed(1008, reason));
    for _ in 0..20 {
        bob.start(json!({ "do": "is-online" })).await?;
    }
    bob.ok(json!({ "do": "is-online" })).await?;
    let counted = split.gateway.counters().await?;
    assert_eq!(counted.get("uids_too_fast")?, 1);
    assert!(counted.get("messages_delayed")? > 0);
    let counted = split.workers[0].counters().await?;
    assert_eq!(counted.get("messages_delayed")?, 0);
    Ok(())
}
