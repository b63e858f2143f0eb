//! on-close: exactly once for each accepted client, with how it left and what it had.

use anyhow::Result;
use jackfield_tests::{
    End, Frame, Node, OpCode, comparable, count, query, reach, text, upgrade_request,
};
use serde_json::{Value, json};

#[tokio::test]
async fn the_departure_has_the_clients_own_code_and_reason() -> Result<()> {
    let node = Node::start("console").await?;
    let mut watcher = node.watcher().await?;
    let query = [
        ("uid", "ada"),
        ("group", "tea"),
        ("group", "cake"),
        ("info.mood", "good"),
    ];
    let mut ada = node.console(&query).await?;

    assert_eq!(ada.leave_with(4001, "dinner").await?.code(), 4001);

    let mut departure = watcher.departure(ada.id()).await?;
    if let Some(groups) = departure["groups"].as_array_mut() {
        groups.sort_by_key(Value::to_string);
    }
    let wanted = json!({
        "event": "closed", "client": ada.id(), "code": 4001, "reason": "dinner", "by": "client",
        "uid": "ada", "groups": ["cake", "tea"], "info": { "mood": "good" },
    });
    assert_eq!(departure, wanted);
    Ok(())
}

#[tokio::test]
async fn how_a_client_left_is_told() -> Result<()> {
    let node = Node::start("console").await?;
    let mut watcher = node.watcher().await?;

    let mut without_code = node.console(&[]).await?;
    without_code.leave().await?;
    let vanished = node.console(&[]).await?;
    let vanished_id = vanished.id().to_owned();
    vanished.vanish()?;
    let mut closed = node.console(&[]).await?;
    closed
        .start(json!({ "do": "close-client", "code": 4000, "reason": "enough" }))
        .await?;
    closed.end().await?;
    let mut protocol = node.console(&[]).await?;
    protocol
        .client()
        .say_frame(&Frame::new(OpCode::Text, "x").unmasked())
        .await?;
    protocol.end().await?;

    for (id, code, reason, by) in [
        (without_code.id(), 1005, "", "client"),
        (&*vanished_id, 1006, "", "network"),
        (closed.id(), 4000, "enough", "plugin"),
    ] {
        let departure = watcher.departure(id).await?;
        let seen = (&departure["code"], &departure["reason"], &departure["by"]);
        assert_eq!(seen, (&json!(code), &json!(reason), &json!(by)));
    }
    let departure = watcher.departure(protocol.id()).await?;
    assert_eq!(
        (&departure["code"], &departure["by"]),
        (&json!(1002), &json!("node"))
    );
    Ok(())
}

#[tokio::test]
async fn a_client_that_closes_while_it_is_closed_leaves_once() -> Result<()> {
    let node = Node::start("console").await?;
    let mut watcher = node.watcher().await?;
    let mut ada = node.console(&[]).await?;

    // Both at the same time: its request and its close frame are one write.
    let request = Frame::new(OpCode::Text, r#"{"do":"close-client","code":4000}"#);
    let close = Frame::new(OpCode::Close, 4001_u16.to_be_bytes());
    let together = [request.to_bytes(), close.to_bytes()].concat();
    ada.client().say_bytes(&together).await?;
    ada.end().await?;

    assert_eq!(watcher.departure(ada.id()).await?["code"], 4000);
    let mut marker = node.console(&[]).await?;
    marker.leave().await?;
    assert_eq!(
        watcher.next_event().await?["client"],
        marker.id(),
        "the next to leave"
    );
    Ok(())
}

#[tokio::test]
async fn calls_on_the_departed_client_say_that_it_has_left() -> Result<()> {
    let node = Node::start("console").await?;
    let mut watcher = node.watcher().await?;
    for request in [
        json!({ "do": "send-to-client", "text": "m" }),
        json!({ "do": "bind-uid", "uid": "u" }),
        json!({ "do": "unbind-uid" }),
        json!({ "do": "get-uid-by-client-id" }),
        json!({ "do": "join-group", "group": "g" }),
        json!({ "do": "leave-group", "group": "g" }),
        json!({ "do": "close-client" }),
        json!({ "do": "get-info" }),
        json!({ "do": "set-info", "info": {} }),
        json!({ "do": "update-info", "info": {} }),
    ] {
        let mut leaver = node
            .console(&[("info.on-close", &request.to_string())])
            .await?;
        leaver.leave().await?;
        watcher.departure(leaver.id()).await?;
        let answer = watcher.next_event().await?;
        assert_eq!(answer["event"], "on-close");
        assert_eq!(answer["error"]["code"], "closed", "{request}");
    }
    Ok(())
}

#[tokio::test]
async fn all_other_functions_work_in_on_close_and_no_longer_count_the_client() -> Result<()> {
    let node = Node::start("console").await?;
    let mut watcher = node.watcher().await?;
    for (request, ok) in [
        (json!({ "do": "is-uid-online", "uid": "ada" }), json!(false)),
        (json!({ "do": "is-online" }), json!(false)),
        (
            json!({ "do": "get-client-count-by-group", "group": "g" }),
            count(0),
        ),
        (json!({ "do": "ungroup", "group": "g" }), count(0)),
        (json!({ "do": "close-uid", "uid": "ada" }), count(0)),
        (json!({ "do": "get-all-client-count" }), count(1)),
        (json!({ "do": "send-to-all", "text": "gone" }), reach(1)),
    ] {
        let query = [
            ("uid", "ada"),
            ("group", "g"),
            ("info.on-close", &*request.to_string()),
        ];
        let mut leaver = node.console(&query).await?;
        leaver.leave().await?;
        watcher.departure(leaver.id()).await?;
        let mut answer = loop {
            let event = watcher.next().await?;
            if event != text("gone") {
                break serde_json::from_str::<Value>(event.to_text()?)?;
            }
        };
        assert_eq!(comparable(answer["ok"].take()), ok, "{request}");
    }
    Ok(())
}

#[tokio::test]
async fn leaving_a_group_in_on_close_does_not_deadlock() -> Result<()> {
    let node = Node::start("console").await?;
    let mut watcher = node.watcher().await?;
    let mut leavers = Vec::new();
    for _ in 0..50 {
        leavers.push(
            node.console(&[("group", "g"), ("info.on-close-leave", "g")])
                .await?,
        );
    }

    // All at once, so that their on-closes run beside each other.
    assert_eq!(
        watcher
            .ok(json!({ "do": "close-group", "group": "g" }))
            .await?,
        count(50)
    );
    for leaver in &mut leavers {
        leaver.end().await?;
    }

    for _ in 0..50 {
        let (mut closed, mut left) = (watcher.next_event().await?, watcher.next_event().await?);
        // Those of two clients may be between each other.
        if closed["event"] != "closed" {
            std::mem::swap(&mut closed, &mut left);
        }
        assert!(["closed", "on-close-leave"].contains(&left["event"].as_str().unwrap_or_default()));
    }
    assert_eq!(watcher.heard().await?, []);
    let members = json!({ "do": "get-client-count-by-group", "group": "g" });
    assert_eq!(watcher.ok(members).await?, count(0));
    Ok(())
}

/// RFC 6455, section 7.1.1: the server closes the connection first, and at once.
#[tokio::test]
async fn a_slow_on_close_keeps_nobodys_connection_open() -> Result<()> {
    let node = Node::start("console").await?;
    let slow = r#"{"do":"sleep","ms":4000}"#;
    let mut leaving = node.console(&[("info.on-close", slow)]).await?;
    let mut closed = node
        .console(&[("uid", "ada"), ("info.on-close", slow)])
        .await?;
    let mut watcher = node.watcher().await?;
    leaving.leave().await?;
    watcher
        .ok(json!({ "do": "close-uid", "uid": "ada", "code": 4000 }))
        .await?;
    assert_eq!(closed.end().await?, End::closed(4000, ""));
    // Both connections have ended, and neither on-close has.
    assert_eq!(node.counters().await?.get("clients_left")?, 0);
    node.wait_for_counter("clients_left", 2).await
}

#[tokio::test]
async fn a_client_closed_in_an_on_close_has_its_own() -> Result<()> {
    let node = Node::start("console").await?;
    let mut watcher = node.watcher().await?;
    let mut second = node.console(&[("uid", "second")]).await?;
    let close_second = r#"{"do":"close-uid","uid":"second","code":4002}"#;
    let mut first = node
        .console(&[("uid", "first"), ("info.on-close", close_second)])
        .await?;

    first.leave().await?;

    assert_eq!(second.end().await?, End::closed(4002, ""));
    assert_eq!(watcher.departure(first.id()).await?["uid"], "first");
    assert_eq!(watcher.departure(second.id()).await?["uid"], "second");
    Ok(())
}

#[tokio::test]
async fn a_client_that_hangs_up_during_the_handshake_is_not_left_behind() -> Result<()> {
    let node = Node::start("console").await?;
    let mut watcher = node.watcher().await?;
    // Its on-connect sleeps; the client is gone when it answers.
    let sleep = r#"{"do":"sleep","ms":300}"#;
    let path = format!(
        "/console{}",
        query(&[("do", sleep), ("uid", "ada"), ("group", "g")])
    );
    let mut raw = node.raw().await?;
    raw.write(upgrade_request(&path, &[]).as_bytes()).await?;
    let online = json!({ "do": "get-all-client-count" });
    while watcher.ok(online.clone()).await? == count(1) {}
    drop(raw);

    while watcher.ok(online.clone()).await? == count(2) {}
    assert_eq!(watcher.ok(online).await?, count(1));
    Ok(())
}
