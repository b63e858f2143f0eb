//! send-to-all, send-to-client, send-to-uid, send-to-group.

use anyhow::Result;
use jackfield_tests::{Node, binary, reach, text};
use serde_json::json;

use crate::{UNKNOWN, tells_ids_apart};

#[tokio::test]
async fn send_to_all_reaches_everybody_but_the_excluded() -> Result<()> {
    let node = Node::start("console").await?;
    let [mut ada, mut bob, mut eve] = node.consoles().await?;

    let to_all = json!({ "do": "send-to-all", "text": "hi" });
    assert_eq!(ada.ok(to_all).await?, reach(3));
    let exclude = [eve.id(), ada.id(), eve.id(), UNKNOWN];
    let to_bob = json!({ "do": "send-to-all", "text": "psst", "exclude": exclude });
    assert_eq!(ada.ok(to_bob).await?, reach(1));

    assert_eq!(ada.heard().await?, [text("hi")]);
    assert_eq!(bob.heard().await?, [text("hi"), text("psst")]);
    assert_eq!(eve.heard().await?, [text("hi")]);
    Ok(())
}

#[tokio::test]
async fn a_malformed_id_among_the_excluded_reaches_nobody() -> Result<()> {
    let node = Node::start("console").await?;
    let mut ada = node.console(&[("group", "g")]).await?;

    let to_all = json!({ "do": "send-to-all", "text": "m", "exclude": [UNKNOWN, "x"] });
    assert_eq!(ada.error(to_all).await?, "invalid-argument");
    let to_group = json!({ "do": "send-to-group", "group": "g", "text": "m", "exclude": [""] });
    assert_eq!(ada.error(to_group).await?, "invalid-argument");
    assert_eq!(ada.heard().await?, []);
    Ok(())
}

#[tokio::test]
async fn text_stays_text_and_binary_stays_binary() -> Result<()> {
    let node = Node::start("console").await?;
    let [mut ada, mut bob] = node.consoles().await?;

    let bob_id = bob.id().to_owned();
    for message in [
        json!({ "text": "grüße \u{1f44b}" }),
        json!({ "text": "" }),
        json!({ "binary": "AP/+AQ==" }),
        json!({ "binary": "" }),
    ] {
        let mut request = message;
        request["do"] = "send-to-client".into();
        request["client"] = bob_id.as_str().into();
        assert!(ada.ok(request).await?.is_null());
    }

    let wanted = [
        text("grüße \u{1f44b}"),
        text(""),
        binary(&[0, 255, 254, 1]),
        binary(&[]),
    ];
    assert_eq!(bob.heard().await?, wanted);
    Ok(())
}

#[tokio::test]
async fn a_large_message_arrives_whole() -> Result<()> {
    let node = Node::start("console").await?;
    let [mut ada, mut bob] = node.consoles().await?;
    // Around each of a frame's three ways to write a length.
    let messages = [125, 126, 65_000].map(|length| "m".repeat(length));
    for message in &messages {
        ada.ok(json!({ "do": "send-to-client", "client": bob.id(), "text": message }))
            .await?;
    }
    assert_eq!(
        bob.heard().await?,
        messages.each_ref().map(|message| text(message))
    );
    Ok(())
}

#[tokio::test]
async fn send_to_client_tells_malformed_from_gone() -> Result<()> {
    // A message for a client of another node is on its way before that node is heard.
    let node = Node::start_alone("console").await?;
    tells_ids_apart(&node, json!({ "do": "send-to-client", "text": "m" })).await
}

#[tokio::test]
async fn send_to_uid_reaches_every_client_of_each_once() -> Result<()> {
    let node = Node::start("console").await?;
    let mut phone = node.console(&[("uid", "ada")]).await?;
    let mut laptop = node.console(&[("uid", "ada")]).await?;
    let mut bob = node.console(&[("uid", "bob")]).await?;
    let mut nobody = node.console(&[]).await?;

    let to_one = json!({ "do": "send-to-uid", "uid": "ada", "text": "one" });
    assert_eq!(bob.ok(to_one).await?, reach(2));
    let to_both = json!({ "do": "send-to-uid", "uids": ["ada", "bob", "ada"], "text": "both" });
    assert_eq!(bob.ok(to_both).await?, reach(3));
    let to_none = json!({ "do": "send-to-uid", "uids": ["nobody"], "text": "none" });
    assert_eq!(bob.ok(to_none).await?, reach(0));
    assert_eq!(
        bob.ok(json!({ "do": "send-to-uid", "uids": [], "text": "m" }))
            .await?,
        reach(0)
    );

    assert_eq!(phone.heard().await?, [text("one"), text("both")]);
    assert_eq!(laptop.heard().await?, [text("one"), text("both")]);
    assert_eq!(bob.heard().await?, [text("both")]);
    assert_eq!(nobody.heard().await?, []);
    Ok(())
}

#[tokio::test]
async fn an_empty_string_in_a_list_is_an_error_and_reaches_nobody() -> Result<()> {
    let node = Node::start("console").await?;
    let mut ada = node.console(&[("uid", "ada"), ("group", "g")]).await?;
    let mut unbound = node.console(&[]).await?;

    for request in [
        json!({ "do": "send-to-uid", "uids": ["ada", ""], "text": "m" }),
        json!({ "do": "send-to-uid", "uid": "", "text": "m" }),
        json!({ "do": "send-to-group", "groups": ["g", ""], "text": "m" }),
        json!({ "do": "send-to-group", "group": "", "text": "m" }),
    ] {
        assert_eq!(ada.error(request).await?, "invalid-argument");
    }

    assert_eq!(ada.heard().await?, []);
    assert_eq!(unbound.heard().await?, []);
    Ok(())
}

#[tokio::test]
async fn send_to_group_reaches_a_member_of_several_once() -> Result<()> {
    let node = Node::start("console").await?;
    let mut both = node.console(&[("group", "red"), ("group", "blue")]).await?;
    let mut red = node.console(&[("group", "red")]).await?;
    let mut none = node.console(&[]).await?;

    let to_both =
        json!({ "do": "send-to-group", "groups": ["red", "blue", "red"], "text": "once" });
    assert_eq!(none.ok(to_both).await?, reach(2));
    let excluding = json!({
        "do": "send-to-group", "groups": ["red", "blue"], "text": "red", "exclude": both.id(),
    });
    assert_eq!(none.ok(excluding).await?, reach(1));
    let to_nobody = json!({ "do": "send-to-group", "group": "green", "text": "m" });
    assert_eq!(none.ok(to_nobody).await?, reach(0));

    assert_eq!(both.heard().await?, [text("once")]);
    assert_eq!(red.heard().await?, [text("once"), text("red")]);
    assert_eq!(none.heard().await?, []);
    Ok(())
}

#[tokio::test]
async fn messages_of_one_sender_come_in_the_order_of_the_calls() -> Result<()> {
    let node = Node::start("console").await?;
    let mut ada = node.console(&[]).await?;
    let mut bob = node.console(&[("uid", "bob"), ("group", "g")]).await?;

    let mut wanted = Vec::new();
    let mut last = 0;
    for number in 0..300 {
        let said = number.to_string();
        wanted.push(text(&said));
        last = ada
            .start(match number % 4 {
                0 => json!({ "do": "send-to-client", "client": bob.id(), "text": said }),
                1 => json!({ "do": "send-to-uid", "uid": "bob", "text": said }),
                2 => json!({ "do": "send-to-group", "group": "g", "text": said }),
                _ => json!({ "do": "send-to-all", "text": said, "exclude": ada.id() }),
            })
            .await?;
    }
    ada.answer(last).await?;
    assert_eq!(bob.heard().await?, wanted);
    Ok(())
}

#[tokio::test]
async fn a_send_is_not_taken_back_by_a_trap() -> Result<()> {
    let node = Node::start("console").await?;
    let mut watcher = node.watcher().await?;
    // Its on-close tells the watchers, and panics then.
    let mut leaver = node.console(&[("info.on-close", "panic")]).await?;

    leaver.leave_with(4000, "").await?;

    assert_eq!(watcher.departure(leaver.id()).await?["code"], 4000);
    node.wait_for_counter("traps_panic", 1).await
}
