//! Handshakes that go wrong or never end.

use anyhow::Result;
use jackfield_tests::{Console, Node, NodeBuilder, count, query, upgrade_request};
use serde_json::json;

#[tokio::test]
async fn a_handshake_that_never_ends_is_408() -> Result<()> {
    let node = impatient().start().await?;
    let whole = upgrade_request("/console", &[]);
    for part in [
        "G",
        "GET /console HTTP/1.1\r\nhost: local",
        &whole[..whole.len() - 1],
    ] {
        let mut raw = node.raw().await?;
        raw.write(part.as_bytes()).await?;
        assert_eq!(raw.response().await?.status, 408, "after {part:?}");
        assert!(raw.rest().await?.is_empty(), "the connection ends");
    }
    assert_eq!(node.counters().await?.get("handshakes_timed_out")?, 3);
    Ok(())
}

#[tokio::test]
async fn a_connection_that_says_nothing_ends() -> Result<()> {
    let node = impatient().start().await?;
    let raw = node.raw().await?;
    raw.rest().await?;
    node.wait_for_counter("handshakes_timed_out", 1).await
}

#[tokio::test]
async fn an_on_connect_that_takes_too_long_is_408_and_nobody_has_come() -> Result<()> {
    let node = impatient().start().await?;
    let mut watcher = node.watcher().await?;
    let join = r#"{"do":"join-group","group":"g"}"#;
    let sleep = r#"{"do":"sleep","ms":4000}"#;
    let path = format!(
        "/console{}",
        query(&[("do", join), ("do", sleep), ("uid", "ada")])
    );

    assert_eq!(node.refusal(&path).await?.status, 408);

    let members = json!({ "do": "get-client-count-by-group", "group": "g" });
    assert_eq!(watcher.ok(members).await?, count(0));
    assert_eq!(
        watcher.ok(json!({ "do": "get-all-client-count" })).await?,
        count(1)
    );
    assert_eq!(watcher.heard().await?, [], "no on-close");
    Ok(())
}

#[tokio::test]
async fn a_handshake_may_come_byte_by_byte() -> Result<()> {
    let node = Node::start("console").await?;
    let mut raw = node.raw().await?;
    for byte in upgrade_request("/console", &[]).bytes() {
        raw.write(&[byte]).await?;
    }
    assert_eq!(raw.response().await?.status, 101);
    Ok(())
}

#[tokio::test]
async fn what_is_no_good_handshake_is_told_so() -> Result<()> {
    let node = Node::start("console").await?;
    let good = upgrade_request("/console", &[]);
    for (part, instead, status) in [
        ("GET /console", "POST /console", 400),
        ("HTTP/1.1", "HTTP/1.0", 400),
        ("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400),
        ("sec-websocket-version: 13\r\n", "", 426),
        ("sec-websocket-version: 13", "sec-websocket-version: 8", 426),
        ("connection: Upgrade\r\n", "", 400),
        ("upgrade: websocket\r\n", "", 426),
        ("upgrade: websocket", "upgrade: h2c", 426),
        ("GET /console", "GET /nobody", 404),
        ("GET /console HTTP/1.1", "hello", 400),
    ] {
        let request = good.replace(part, instead);
        assert_ne!(request, good);
        let mut raw = node.raw().await?;
        raw.write(request.as_bytes()).await?;
        let response = raw.response().await?;
        assert_eq!(
            response.status, status,
            "{instead:?} instead of {part:?}: {response:?}"
        );
        if status == 426 {
            assert_eq!(response.headers["sec-websocket-version"], "13");
            assert_eq!(response.headers["upgrade"], "websocket");
        }
        raw.rest().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_head_without_end_is_cut_off() -> Result<()> {
    let node = Node::start("console").await?;
    let mut raw = node.raw().await?;
    let padding = "x".repeat(64 << 10);
    let request = upgrade_request("/console", &[("x-padding", &padding)]);
    // It may be cut off before all of this is out.
    let _ = raw.write(request.as_bytes()).await;
    let answer = raw.rest().await?;
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
    node.console(&[]).await.map(drop)
}

#[tokio::test]
async fn browsers_of_all_sorts_come_in() -> Result<()> {
    let node = Node::start("console").await?;
    let good = upgrade_request("/console", &[]);
    for (part, instead) in [
        ("connection: Upgrade", "Connection: keep-alive, Upgrade"),
        ("upgrade: websocket", "UPGRADE: WebSocket"),
        (
            "\r\n\r\n",
            "\r\nsec-websocket-extensions: permessage-deflate\r\n\r\n",
        ),
    ] {
        let mut raw = node.raw().await?;
        raw.write(good.replace(part, instead).as_bytes()).await?;
        let response = raw.response().await?;
        assert_eq!(response.status, 101, "with {instead:?}");
        assert_eq!(response.headers["connection"].to_lowercase(), "upgrade");
        assert_eq!(
            response.headers["sec-websocket-accept"],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert!(!response.headers.contains_key("sec-websocket-extensions"));
    }
    Ok(())
}

#[tokio::test]
async fn handshakes_beyond_their_number_are_cut_at_once() -> Result<()> {
    let node = Node::builder()
        .plugin("console")
        .config("[limits]\nhandshakes = 2\nhandshake_timeout = '3s'")
        .start()
        .await?;
    let (first, second) = (node.raw().await?, node.raw().await?);
    // Accepted in order: when this one is cut, those two hold their places.
    assert!(node.raw().await?.rest().await?.is_empty());
    assert_eq!(node.counters().await?.get("handshakes_limited")?, 1);

    first.rest().await?;
    second.rest().await?;
    let client = node.client("/console").await?;
    Console::greet(client).await.map(drop)
}

fn impatient() -> NodeBuilder {
    Node::builder()
        .plugin("console")
        .config("[limits]\nhandshake_timeout = '500ms'")
}
