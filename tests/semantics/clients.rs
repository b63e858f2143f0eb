//! is-online, get-all-client-count, close-client, close-uid, close-group.

use anyhow::Result;
use jackfield_tests::{End, Node, binary, count, text};
use serde_json::json;

use crate::{MALFORMED, UNKNOWN, departed, tells_ids_apart};

#[tokio::test]
async fn is_online_is_false_for_whoever_is_not_here() -> Result<()> {
    let node = Node::start("console").await?;
    let [mut ada, bob] = node.consoles().await?;
    let gone = departed(&node).await?;
    for (id, online) in [(bob.id(), true), (UNKNOWN, false), (&gone, false)] {
        assert_eq!(
            ada.ok(json!({ "do": "is-online", "client": id })).await?,
            online
        );
    }
    for id in MALFORMED {
        let code = ada
            .error(json!({ "do": "is-online", "client": id }))
            .await?;
        assert_eq!(code, "invalid-argument");
    }
    Ok(())
}

#[tokio::test]
async fn all_clients_are_counted() -> Result<()> {
    let node = Node::start("console").await?;
    let mut watcher = node.watcher().await?;
    let mut ada = node.console(&[]).await?;
    assert_eq!(
        watcher.ok(json!({ "do": "get-all-client-count" })).await?,
        count(2)
    );
    ada.leave().await?;
    watcher.departure(ada.id()).await?;
    assert_eq!(
        watcher.ok(json!({ "do": "get-all-client-count" })).await?,
        count(1)
    );
    Ok(())
}

#[tokio::test]
async fn a_close_comes_after_what_was_queued_and_after_the_last_message() -> Result<()> {
    let node = Node::start("console").await?;
    let [mut ada, mut bob] = node.consoles().await?;
    for number in 0..100 {
        let said = number.to_string();
        ada.ok(json!({ "do": "send-to-client", "client": bob.id(), "text": said }))
            .await?;
    }
    let close = json!({
        "do": "close-client", "client": bob.id(), "code": 4321, "reason": "tea is over",
        "text": "bye",
    });
    assert!(ada.ok(close).await?.is_null());

    let (heard, end) = bob.until_end().await?;
    let wanted: Vec<_> = (0..100).map(|number| text(&number.to_string())).collect();
    assert_eq!(heard[..100], wanted);
    assert_eq!(heard[100..], [text("bye")]);
    assert_eq!(end, End::closed(4321, "tea is over"));
    Ok(())
}

#[tokio::test]
async fn a_closed_client_has_left_at_once() -> Result<()> {
    // A message for a client of another node is on its way before that node is heard.
    let node = Node::start_alone("console").await?;
    let mut ada = node.console(&[]).await?;
    let bob = node.console(&[("uid", "bob"), ("group", "g")]).await?;

    ada.ok(json!({ "do": "close-client", "client": bob.id() }))
        .await?;

    for request in [
        json!({ "do": "close-client", "client": bob.id() }),
        json!({ "do": "send-to-client", "client": bob.id(), "text": "m" }),
        json!({ "do": "get-info", "client": bob.id() }),
        json!({ "do": "join-group", "client": bob.id(), "group": "g" }),
    ] {
        assert_eq!(ada.error(request).await?, "not-found");
    }
    assert_eq!(
        ada.ok(json!({ "do": "is-online", "client": bob.id() }))
            .await?,
        false
    );
    assert_eq!(
        ada.ok(json!({ "do": "is-uid-online", "uid": "bob" }))
            .await?,
        false
    );
    let members = json!({ "do": "get-client-count-by-group", "group": "g" });
    assert_eq!(ada.ok(members).await?, count(0));
    assert_eq!(
        ada.ok(json!({ "do": "get-all-client-count" })).await?,
        count(1)
    );
    Ok(())
}

#[tokio::test]
async fn a_client_can_close_itself() -> Result<()> {
    let node = Node::start("console").await?;
    let mut ada = node.console(&[]).await?;
    ada.start(json!({ "do": "close-client", "code": 3000, "binary": "AQI=" }))
        .await?;
    let ended = ada.until_end().await?;
    assert_eq!(ended, (vec![binary(&[1, 2])], End::closed(3000, "")));
    Ok(())
}

#[tokio::test]
async fn close_uid_closes_every_client_of_it() -> Result<()> {
    let node = Node::start("console").await?;
    let mut phone = node.console(&[("uid", "ada")]).await?;
    let mut laptop = node.console(&[("uid", "ada")]).await?;
    let mut bob = node.console(&[("uid", "bob")]).await?;

    let close = json!({
        "do": "close-uid", "uid": "ada", "code": 4000, "reason": "signed out", "text": "bye",
    });
    assert_eq!(bob.ok(close.clone()).await?, count(2));
    assert_eq!(bob.ok(close).await?, count(0));

    for client in [&mut phone, &mut laptop] {
        let ended = client.until_end().await?;
        assert_eq!(ended, (vec![text("bye")], End::closed(4000, "signed out")));
    }
    assert_eq!(bob.heard().await?, []);
    Ok(())
}

#[tokio::test]
async fn close_group_closes_every_member() -> Result<()> {
    let node = Node::start("console").await?;
    let mut ada = node.console(&[("group", "tea")]).await?;
    let mut bob = node.console(&[("group", "tea"), ("group", "cake")]).await?;
    let mut eve = node.console(&[("group", "cake")]).await?;

    let close = json!({
        "do": "close-group", "group": "tea", "code": 1001, "reason": "", "text": "tea is over",
    });
    assert_eq!(eve.ok(close.clone()).await?, count(2));
    assert_eq!(eve.ok(close).await?, count(0));

    for client in [&mut ada, &mut bob] {
        let ended = client.until_end().await?;
        assert_eq!(ended, (vec![text("tea is over")], End::closed(1001, "")));
    }
    assert_eq!(
        eve.walk(json!({ "do": "get-all-groups" }), 10).await?,
        ["cake"]
    );
    Ok(())
}

#[tokio::test]
async fn codes_and_reasons_that_no_close_frame_may_have_close_nobody() -> Result<()> {
    let node = Node::start("console").await?;
    let mut ada = node.console(&[]).await?;
    let mut bob = node.console(&[("uid", "bob"), ("group", "g")]).await?;

    let id = bob.id().to_owned();
    for (function, target, name) in [
        ("close-client", "client", &*id),
        ("close-uid", "uid", "bob"),
        ("close-group", "group", "g"),
    ] {
        for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535] {
            let answered = ada
                .error(json!({ "do": function, target: name, "code": code }))
                .await?;
            assert_eq!(answered, "invalid-argument", "{function} with {code}");
        }
        let long = "r".repeat(124);
        let answered = ada
            .error(json!({ "do": function, target: name, "reason": long }))
            .await?;
        assert_eq!(
            answered, "invalid-argument",
            "{function} with a long reason"
        );
    }

    assert_eq!(bob.heard().await?, []);
    let longest = "r".repeat(123);
    ada.ok(json!({ "do": "close-client", "client": id, "code": 4999, "reason": longest }))
        .await?;
    assert_eq!(bob.end().await?, End::closed(4999, &longest));
    Ok(())
}

#[tokio::test]
async fn close_client_tells_malformed_from_gone() -> Result<()> {
    let node = Node::start("console").await?;
    tells_ids_apart(&node, json!({ "do": "close-client" })).await
}
