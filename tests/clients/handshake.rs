//! Handshakes that go wrong or never end.

use std::net::IpAddr;

use anyhow::Result;
use jackfield_tests::{
    Client, LogLine, Node, NodeBuilder, Raw, count, query, upgrade_request, within,
};
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

/// Lists as RFC 9110, section 5.6.1, has them, and whatever else a client or a proxy may write.
#[tokio::test]
async fn every_legal_handshake_comes_in() -> Result<()> {
    let node = Node::start("console").await?;
    let good = upgrade_request("/console", &[]);
    for (part, instead) in [
        ("connection: Upgrade", "Connection: keep-alive, Upgrade"),
        (
            "connection: Upgrade",
            "connection: keep-alive\r\nconnection: Upgrade",
        ),
        (
            "connection: Upgrade",
            "connection: upgrade\r\nCONNECTION: keep-alive",
        ),
        (
            "connection: Upgrade",
            "connection: ,\t, keep-alive,,UPGRADE\t,",
        ),
        (
            "connection: Upgrade",
            "connection:\r\nconnection: \tUpgrade\t",
        ),
        ("connection: Upgrade", "connection: close, Upgrade"),
        ("upgrade: websocket", "UPGRADE: WebSocket"),
        ("upgrade: websocket", "upgrade: websocket, h2c"),
        ("upgrade: websocket", "upgrade: h2c,websocket"),
        (
            "upgrade: websocket",
            "upgrade: TLS/1.0\r\nupgrade: WEBSOCKET",
        ),
        ("upgrade: websocket", "upgrade: , ,\twebsocket ,"),
        ("sec-websocket-key: ", "sec-websocket-key: \t "),
        ("sec-websocket-version: 13", "sec-websocket-version:13\t"),
        ("host: localhost", "host:"),
        ("host: localhost", "host: [::1]:8080"),
        ("host: localhost", "host: my_service.internal:80"),
        ("host: localhost", "host: localhost\r\ncontent-length: 0"),
        ("host: localhost", "host: localhost\r\norigin: null"),
        (
            "host: localhost",
            "host: localhost\r\ncookie: a=1\r\ncookie: b=2",
        ),
        (
            "host: localhost",
            "host: localhost\r\nsec-websocket-protocol:",
        ),
        ("GET /console", "GET http://localhost/console"),
        ("GET /console", "GET ws://elsewhere.example:81/console?a=b"),
        ("GET /console", "GET http://localhost"),
        (
            "\r\n\r\n",
            "\r\nsec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n\
             sec-websocket-extensions: x-webkit-deflate-frame, bbf-usp-protocol\r\n\r\n",
        ),
    ] {
        let request = good.replace(part, instead);
        assert_ne!(request, good);
        let mut raw = node.raw().await?;
        raw.write(request.as_bytes()).await?;
        let response = raw.response().await?;
        assert_eq!(response.status, 101, "with {instead:?}: {response:?}");
        let connection = response.headers["connection"].to_lowercase();
        assert_eq!(connection.split(',').next(), Some("upgrade"));
        assert_eq!(response.headers["upgrade"], "websocket");
        assert_eq!(
            response.headers["sec-websocket-accept"],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert!(!response.headers.contains_key("sec-websocket-extensions"));
    }
    Ok(())
}

/// What the standards do not allow, or leave open to be read in two ways.
#[tokio::test]
async fn every_other_handshake_is_refused() -> Result<()> {
    let node = Node::start("console").await?;
    let good = upgrade_request("/console", &[]);
    let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
    let twice = format!("{key}\r\n{key}");
    for (part, instead, status, said) in [
        (
            "connection: Upgrade",
            "connection: keep-alive",
            400,
            "Connection: Upgrade",
        ),
        (
            "connection: Upgrade",
            "connection: no-upgrade",
            400,
            "Connection: Upgrade",
        ),
        (
            "connection: Upgrade",
            "connection: keep-alive Upgrade",
            400,
            "Connection: Upgrade",
        ),
        (
            "connection: Upgrade",
            "connection: \"Upgrade\"",
            400,
            "Connection: Upgrade",
        ),
        (
            "upgrade: websocket",
            "upgrade: websockets",
            426,
            "connect with a WebSocket",
        ),
        (
            "upgrade: websocket",
            "upgrade: websocket/13",
            426,
            "connect with a WebSocket",
        ),
        (
            "upgrade: websocket",
            "upgrade: h2c, web socket",
            426,
            "connect with a WebSocket",
        ),
        (key, &twice, 400, "Sec-WebSocket-Key"),
        (key, "sec-websocket-key: ", 400, "16 bytes"),
        (key, "sec-websocket-key: c2hvcnQ=", 400, "16 bytes"),
        (
            key,
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZTE=",
            400,
            "16 bytes",
        ),
        (
            key,
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==, x",
            400,
            "16 bytes",
        ),
        ("version: 13", "version: 13, 8", 426, "must be 13"),
        (
            "version: 13",
            "version: 8\r\nsec-websocket-version: 13",
            426,
            "must be 13",
        ),
        (
            "version: 13",
            "version: 13\r\nsec-websocket-version: 13",
            426,
            "must be 13",
        ),
        ("version: 13", "version: 013", 426, "must be 13"),
        ("host: localhost\r\n", "", 400, "Host"),
        (
            "host: localhost",
            "host: localhost\r\nhost: localhost",
            400,
            "Host",
        ),
        ("host: localhost", "host: local host", 400, "Host"),
        ("host: localhost", "host: localhost/console", 400, "Host"),
        (
            "host: localhost",
            "host: localhost\r\norigin: null\r\norigin: null",
            400,
            "Origin",
        ),
        ("HTTP/1.1", "HTTP/1.0", 400, "HTTP/1.1"),
        ("GET", "PUT", 400, "GET"),
        (
            "\r\n\r\n",
            "\r\ncontent-length: 5\r\n\r\nhello",
            400,
            "no body",
        ),
        (
            "\r\n\r\n",
            "\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "no body",
        ),
        (
            "\r\n\r\n",
            "\r\nsec-websocket-protocol: a b\r\n\r\n",
            400,
            "\"a b\"",
        ),
        (
            "\r\n\r\n",
            "\r\nsec-websocket-protocol: v1, \"v2\"\r\n\r\n",
            400,
            "no token",
        ),
        (
            "\r\n\r\n",
            "\r\nsec-websocket-protocol: é\r\n\r\n",
            400,
            "\"é\"",
        ),
        (
            "connection: Upgrade",
            "connection: Upgrade,\r\n keep-alive",
            400,
            "",
        ),
        ("connection: Upgrade", "connection : Upgrade", 400, ""),
        ("GET /console", "GET *", 404, "no such plugin"),
        ("GET /console", "GET localhost:80", 404, "no such plugin"),
    ] {
        let request = good.replacen(part, instead, 1);
        assert_ne!(request, good);
        let mut raw = node.raw().await?;
        raw.write(request.as_bytes()).await?;
        let response = raw.response().await?;
        let is_told = response.status == status && response.body.contains(said);
        assert!(is_told, "{instead:?} instead of {part:?}: {response:?}");
        assert_eq!(
            status == 426,
            response.headers.contains_key("sec-websocket-version")
        );
        raw.rest().await?;
    }
    node.console(&[]).await.map(drop)
}

/// HTTP/1.0 has no `Host`, and its pages are served; 1.1 must have one.
#[tokio::test]
async fn a_request_for_a_page_has_one_host() -> Result<()> {
    let node = Node::start("console").await?;
    for (head, status) in [
        ("GET /console HTTP/1.0", 426),
        ("GET /console HTTP/1.1\r\nhost: a", 426),
        ("GET /console HTTP/1.1", 400),
        ("GET /console HTTP/1.1\r\nhost: a\r\nhost: a", 400),
        ("GET /console HTTP/1.0\r\nhost: a\r\nhost: b", 400),
    ] {
        let mut raw = node.raw().await?;
        raw.write(format!("{head}\r\n\r\n").as_bytes()).await?;
        assert_eq!(raw.response().await?.status, status, "{head}");
    }
    Ok(())
}

#[tokio::test]
async fn subprotocols_may_be_offered_in_several_lines() -> Result<()> {
    let node = Node::start("console").await?;
    let mut raw = node.raw().await?;
    let offers = [
        ("sec-websocket-protocol", "v1,,\tv2 ,"),
        ("sec-websocket-protocol", ""),
        ("Sec-WebSocket-Protocol", "v2, v3, v1"),
    ];
    let path = "/console?handshake=1&subprotocol=v3";
    raw.write(upgrade_request(path, &offers).as_bytes()).await?;
    let response = raw.response().await?;
    assert_eq!(response.status, 101);
    assert_eq!(response.headers["sec-websocket-protocol"], "v3");

    // A client library knows its first line only.
    let path = path.replace("v3", "v1");
    let client = Client::connect(node.address(), &path, &offers).await;
    let connected: serde_json::Value = serde_json::from_str(&client?.next_text().await?)?;
    let handshake = &connected["handshake"];
    assert_eq!(handshake["subprotocols"], json!(["v1", "v2", "v3"]));
    let lines = handshake["headers"].as_array().into_iter().flatten();
    let lines = lines.filter(|line| line[0] == "sec-websocket-protocol");
    assert_eq!(lines.count(), 3, "{handshake}");
    Ok(())
}

#[tokio::test]
async fn beyond_their_number_the_oldest_silent_connection_is_cut() -> Result<()> {
    let node = Node::builder()
        .plugin("console")
        .config("[limits]\nhandshakes = 2")
        .start()
        .await?;
    let request = upgrade_request("/console", &[]);
    let (mut first, mut second) = (node.raw().await?, node.raw().await?);
    // What has begun its request is silent, too.
    first.write(&request.as_bytes()[..20]).await?;
    let mut third = node.raw().await?;
    let cut = first.response().await?;
    assert_eq!((cut.status, &*cut.headers["retry-after"]), (503, "1"));
    assert!(first.rest().await?.is_empty(), "the connection ends");
    assert_eq!(node.counters().await?.get("handshakes_limited")?, 1);
    let line = |line: &LogLine| line.says("too many connections have not sent their request");
    assert_eq!(node.log().so_far(line).len(), 1);

    for raw in [&mut second, &mut third] {
        raw.write(request.as_bytes()).await?;
        assert_eq!(raw.response().await?.status, 101);
    }
    Ok(())
}

#[tokio::test]
async fn a_flood_from_one_address_keeps_nobody_else_out() -> Result<()> {
    let node = Node::builder()
        .plugin("echo")
        .config("[limits]\nhandshakes = 50")
        .start()
        .await?;
    let mut well = node.client("/echo").await?;
    let before = node.resident_bytes()?;
    let request = upgrade_request("/echo", &[]);
    // It has waited for longer than any of the flood.
    let mut slow = node.raw().await?;
    slow.write(&request.as_bytes()[..30]).await?;
    let flooder = IpAddr::from([127, 0, 0, 2]);
    let mut flood = Vec::new();
    for _ in 0..20 {
        for _ in 0..50 {
            let mut raw = Raw::connect_from(flooder, node.address()).await?;
            raw.write(&request.as_bytes()[..30]).await?;
            flood.push(raw);
        }
        let mut newcomer = node.client("/echo").await?;
        newcomer.say("in").await?;
        assert_eq!(newcomer.next_text().await?, "in");
        well.say("here").await?;
        assert_eq!(well.next_text().await?, "here");
    }
    slow.write(&request.as_bytes()[30..]).await?;
    assert_eq!(slow.response().await?.status, 101);
    let grown = node.resident_bytes()?.saturating_sub(before);
    assert!(grown < 16 << 20, "the node has grown by {grown} bytes");
    let limited = node.counters().await?.get("handshakes_limited")?;
    assert!(limited >= 950, "{limited} were cut");
    Ok(())
}

#[tokio::test]
async fn a_slow_on_connect_keeps_out_clients_of_its_own_plugin_only() -> Result<()> {
    let node = Node::builder()
        .plugin("console")
        .plugin("echo")
        .config("[limits]\nhandshakes = 8")
        .start()
        .await?;
    let asleep = query(&[("do", r#"{"do":"sleep","ms":3000}"#)]);
    let request = upgrade_request(&format!("/console{asleep}"), &[]);
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut raw = node.raw().await?;
        raw.write(request.as_bytes()).await?;
        slow.push(raw);
    }
    // The first one has the instance that was there, and the second one a new one. The plugin has
    // two of eight.
    within("two events of the plugin", async {
        while node.counters().await?.get("instances_made")? < 3 {}
        anyhow::Ok(())
    })
    .await?;
    let refused = node.refusal("/console").await?;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(refused.body, "too many handshakes are under way\n");
    let line =
        |line: &LogLine| line.says("requests are refused") && line.text("plugin") == "console";
    node.wait_for_log(line).await?;
    node.client("/echo").await.map(drop)
}

fn impatient() -> NodeBuilder {
    Node::builder()
        .plugin("console")
        .config("[limits]\nhandshake_timeout = '500ms'")
}
