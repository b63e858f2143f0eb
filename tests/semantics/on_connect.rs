//! on-connect: what it sees, and what it answers with, before the upgrade.

use anyhow::Result;
use jackfield_tests::{
    Client, Console, End, Frame, Node, OpCode, count, query, text, upgrade_request,
};
use serde_json::json;

#[tokio::test]
async fn an_accepted_client_has_what_it_was_accepted_with() -> Result<()> {
    let node = Node::start("console").await?;
    let query = query(&[
        ("uid", "ada"),
        ("group", "a"),
        ("group", "b"),
        ("info.k", "v"),
        ("subprotocol", "v2"),
    ]);
    let offer = [
        ("sec-websocket-protocol", "v1, v2"),
        ("sec-websocket-protocol", "v3"),
    ];
    let client = Client::connect(node.address(), &format!("/console{query}"), &offer).await?;
    assert_eq!(client.subprotocol(), Some("v2"));

    let mut ada = Console::greet(client).await?;
    assert_eq!(
        ada.ok(json!({ "do": "get-uid-by-client-id" })).await?,
        "ada"
    );
    assert_eq!(
        ada.ok(json!({ "do": "get-info" })).await?,
        json!({ "k": "v" })
    );
    let mut groups = ada.walk(json!({ "do": "get-all-groups" }), 10).await?;
    groups.sort();
    assert_eq!(groups, ["a", "b"]);
    Ok(())
}

#[tokio::test]
async fn the_handshake_says_what_the_request_said() -> Result<()> {
    let node = Node::start("console").await?;
    let path = "/console?handshake=1&subprotocol=v1&a=%C3%BC%20%26&a=&plus=a+b";
    let headers = [
        ("sec-websocket-protocol", "v1, v2"),
        ("X-Person", "Ada"),
        ("x-person", "Bob"),
    ];
    let mut client = Client::connect(node.address(), path, &headers).await?;
    let connected: serde_json::Value = serde_json::from_str(&client.next_text().await?)?;

    let handshake = &connected["handshake"];
    assert_eq!(handshake["path"], "/console");
    let asked = json!([
        ["handshake", "1"],
        ["subprotocol", "v1"],
        ["a", "ü &"],
        ["a", ""],
        ["plus", "a b"]
    ]);
    assert_eq!(handshake["query"], asked);
    assert_eq!(handshake["subprotocols"], json!(["v1", "v2"]));
    assert!(handshake["uid"].is_null());
    let remote = handshake["remote_address"].as_str().unwrap_or_default();
    assert!(remote.starts_with("127.0.0.1:"), "{remote}");
    let said: Vec<_> = handshake["headers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|header| header[0] == "x-person")
        .collect();
    assert_eq!(
        said,
        [&json!(["x-person", "Ada"]), &json!(["x-person", "Bob"])]
    );
    Ok(())
}

#[tokio::test]
async fn what_is_sent_in_on_connect_arrives_right_after_the_upgrade() -> Result<()> {
    let node = Node::start("console").await?;
    let asks_itself = r#"{"id":1,"do":"send-to-client","text":"and again"}"#;
    let path = format!(
        "/console{}",
        query(&[("say", "hello"), ("do", asks_itself)])
    );
    let mut ada = Console::greet(node.client(&path).await?).await?;
    let answer = text(r#"{"id":1,"ok":null}"#);
    assert_eq!(
        ada.heard().await?,
        [text("hello"), text("and again"), answer]
    );
    Ok(())
}

#[tokio::test]
async fn a_refused_client_hears_status_and_reason_and_was_never_there() -> Result<()> {
    let node = Node::start("console").await?;
    let mut watcher = node.watcher().await?;
    // What is no refusal becomes one.
    for (asked, status) in [
        (400, 400),
        (401, 401),
        (403, 403),
        (599, 599),
        (200, 403),
        (101, 403),
    ] {
        let refuse = asked.to_string();
        // It had joined a group by then.
        let join = r#"{"do":"join-group","group":"g"}"#;
        let query = query(&[
            ("do", join),
            ("uid", "ada"),
            ("refuse", &refuse),
            ("reason", "not today"),
        ]);
        let response = node.refusal(&format!("/console{query}")).await?;
        assert_eq!(response.status, status);
        assert_eq!(response.body, "not today");
    }
    assert_eq!(
        watcher.ok(json!({ "do": "get-all-client-count" })).await?,
        count(1)
    );
    assert_eq!(
        watcher.walk(json!({ "do": "get-all-groups" }), 10).await?,
        ["watch-close"]
    );
    assert_eq!(
        watcher
            .ok(json!({ "do": "is-uid-online", "uid": "ada" }))
            .await?,
        false
    );
    assert_eq!(watcher.heard().await?, [], "no on-close");
    assert_eq!(node.counters().await?.get("handshakes_refused")?, 6);
    Ok(())
}

#[tokio::test]
async fn what_an_acceptance_can_not_have_refuses_the_client() -> Result<()> {
    let node = Node::start("console").await?;
    let mut watcher = node.watcher().await?;
    let (long, long_info) = ("x".repeat(257), "x".repeat(5000));
    for (wrong, status, reason) in [
        (("subprotocol", "v9"), 500, "the server failed"),
        (("info.k", &*long_info), 500, "the server failed"),
        // What clients say of themselves and a plugin passes on.
        (("uid", ""), 400, "uid is empty"),
        (("uid", &*long), 400, "uid"),
        (("group", ""), 400, "group"),
        (("group", &*long), 400, "group"),
    ] {
        let path = format!("/console{}", query(&[("group", "g"), wrong]));
        let response = node.refusal(&path).await?;
        let body = &response.body;
        assert_eq!(response.status, status, "{}: {body}", wrong.0);
        assert!(body.contains(reason), "{}: {body}", wrong.0);
    }
    let members = json!({ "do": "get-client-count-by-group", "group": "g" });
    assert_eq!(watcher.ok(members).await?, count(0));
    assert_eq!(watcher.heard().await?, [], "no on-close");
    Ok(())
}

#[tokio::test]
async fn a_client_closed_in_its_own_on_connect_hears_all_of_it() -> Result<()> {
    let node = Node::start("console").await?;
    let mut watcher = node.watcher().await?;
    let close = r#"{"do":"close-client","code":4000,"reason":"no room","text":"sorry"}"#;
    let path = format!("/console{}", query(&[("say", "hello"), ("do", close)]));
    let mut client = node.client(&path).await?;

    let (heard, end) = client.until_end().await?;
    assert_eq!(heard, [text("hello"), text("sorry")]);
    assert_eq!(end, End::closed(4000, "no room"));
    let departure = watcher.next_event().await?;
    assert_eq!(
        (&departure["code"], &departure["by"]),
        (&json!(4000), &json!("plugin"))
    );
    Ok(())
}

#[tokio::test]
async fn a_plugin_is_found_by_its_name_and_the_only_one_by_nothing() -> Result<()> {
    let node = Node::start_alone("console").await?;
    for path in ["/console", "/console/", "/"] {
        Console::greet(node.client(path).await?).await?;
    }
    for path in ["/nobody", "/nobody/", "/console/room", "/console.wasm"] {
        assert_eq!(node.refusal(path).await?.status, 404, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn the_plugin_default_is_at_the_root() -> Result<()> {
    let node = Node::builder()
        .plugin("console")
        .plugin_from("default", "console")
        .start()
        .await?;
    let mut client = Console::greet(node.client("/").await?).await?;
    assert_eq!(
        client.ok(json!({ "do": "identify" })).await?["plugin"],
        "default"
    );
    Ok(())
}

#[tokio::test]
async fn with_several_plugins_and_no_default_the_root_is_nobody() -> Result<()> {
    let node = Node::builder()
        .plugin("console")
        .plugin("echo")
        .start()
        .await?;
    assert_eq!(node.refusal("/").await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn messages_sent_right_behind_the_handshake_are_not_lost() -> Result<()> {
    let node = Node::start("console").await?;
    let mut raw = node.raw().await?;
    let request = r#"{"id":1,"do":"is-online"}"#;
    let frame = Frame::new(OpCode::Text, request);
    let together = [
        upgrade_request("/console", &[]).into_bytes(),
        frame.to_bytes(),
    ]
    .concat();

    raw.write(&together).await?;
    assert_eq!(raw.response().await?.status, 101);
    let close = Frame::new(OpCode::Close, []);
    raw.write(&close.to_bytes()).await?;
    let heard = String::from_utf8_lossy(&raw.rest().await?).into_owned();
    assert!(heard.contains(r#"{"id":1,"ok":true}"#), "{heard:?}");
    Ok(())
}
