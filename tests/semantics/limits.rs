//! Each limit of the contract's calls, broken once on purpose.

use anyhow::Result;
use jackfield_tests::{Console, Node, NodeBuilder, query, reach, text};
use serde_json::json;

/// A node with the console and these limits.
fn limited(config: &str) -> NodeBuilder {
    Node::builder().plugin("console").config(config)
}

#[tokio::test]
async fn groups_per_client() -> Result<()> {
    let node = limited("[limits]\ngroups_per_client = 2").start().await?;
    let mut ada = node.console(&[("group", "a"), ("group", "b")]).await?;
    let join = |group: &str| json!({ "do": "join-group", "group": group });

    assert_eq!(ada.error(join("c")).await?, "limit-exceeded");
    ada.ok(join("a")).await?;
    ada.ok(json!({ "do": "leave-group", "group": "a" })).await?;
    ada.ok(join("c")).await?;
    assert_eq!(
        node.refusal("/console?group=a&group=b&group=c")
            .await?
            .status,
        500
    );
    Ok(())
}

#[tokio::test]
async fn clients_per_uid() -> Result<()> {
    let node = limited("[limits]\nclients_per_uid = 2").start().await?;
    let mut first = node.console(&[("uid", "ada")]).await?;
    let _second = node.console(&[("uid", "ada")]).await?;
    let mut third = node.console(&[("uid", "bob")]).await?;
    let bind = json!({ "do": "bind-uid", "uid": "ada" });

    assert_eq!(third.error(bind.clone()).await?, "limit-exceeded");
    assert_eq!(
        third.ok(json!({ "do": "get-uid-by-client-id" })).await?,
        "bob"
    );
    first.ok(bind.clone()).await?;
    first.ok(json!({ "do": "unbind-uid" })).await?;
    third.ok(bind).await?;
    Ok(())
}

#[tokio::test]
async fn info_bytes() -> Result<()> {
    let node = limited("[limits]\ninfo_bytes = 10").start().await?;
    let mut ada = node.console(&[("info.key", "1234567")]).await?;

    let longer = json!({ "do": "set-info", "info": { "key": "12345678" } });
    assert_eq!(ada.error(longer).await?, "limit-exceeded");
    let more = json!({ "do": "update-info", "info": { "k": "" } });
    assert_eq!(ada.error(more).await?, "limit-exceeded");
    assert_eq!(
        ada.ok(json!({ "do": "get-info" })).await?,
        json!({ "key": "1234567" })
    );
    let other = json!({ "do": "update-info", "info": { "key": null, "name": "123456" } });
    assert_eq!(ada.ok(other).await?, json!({ "name": "123456" }));
    Ok(())
}

#[tokio::test]
async fn name_bytes() -> Result<()> {
    let node = limited("[limits]\nname_bytes = 5").start().await?;
    let mut ada = node.console(&[]).await?;
    for (do_with_name, argument) in [("bind-uid", "uid"), ("join-group", "group")] {
        // Bytes, not letters.
        ada.ok(json!({ "do": do_with_name, argument: "übun" }))
            .await?;
        let code = ada
            .error(json!({ "do": do_with_name, argument: "übung" }))
            .await?;
        assert_eq!(code, "invalid-argument", "{do_with_name}");
    }
    let to_long = json!({ "do": "send-to-uid", "uids": ["ada", "longer"], "text": "m" });
    assert_eq!(ada.error(to_long).await?, "invalid-argument");
    Ok(())
}

#[tokio::test]
async fn sends_per_event() -> Result<()> {
    let node = limited("[plugin]\nsends_per_event = 4").start().await?;
    let mut ada = node.console(&[]).await?;
    let mut bob = node.console(&[("group", "g")]).await?;
    let send = json!({ "do": "send-to-group", "group": "g", "text": "m" });

    // The answer to it is a send as well, and what is beyond the limit stays unsaid.
    let three = json!({ "do": "repeat", "times": 3, "request": send });
    ada.ok(three).await?;
    ada.start(json!({ "do": "repeat", "times": 9, "request": send }))
        .await?;
    node.wait_for_log(|line| line.says("sends_per_event"))
        .await?;

    // The next event has its own count.
    ada.ok(send).await?;
    assert_eq!(bob.heard().await?, vec![text("m"); 3 + 4 + 1]);
    Ok(())
}

#[tokio::test]
async fn targets_of_one_send() -> Result<()> {
    let node = Node::start("console").await?;
    let mut ada = node.console(&[("uid", "1"), ("group", "1")]).await?;
    let names = |count: u32| (1..=count).map(|name| name.to_string()).collect::<Vec<_>>();
    for (function, names_are) in [("send-to-uid", "uids"), ("send-to-group", "groups")] {
        let many = json!({ "do": function, names_are: names(1000), "text": "m" });
        assert_eq!(ada.ok(many).await?, reach(1), "{function}");
        let too_many = json!({ "do": function, names_are: names(1001), "text": "m" });
        assert_eq!(ada.error(too_many).await?, "limit-exceeded", "{function}");
    }
    assert_eq!(ada.heard().await?, vec![text("m"); 2]);
    Ok(())
}

#[tokio::test]
async fn a_message_that_no_outbox_can_hold() -> Result<()> {
    // A request that is a message has no room for a larger one: these come with the handshake.
    let limits = "[limits]\nmessage_bytes = 990\noutbox_bytes = 1000";
    let node = limited(limits).start().await?;
    let path = |bytes: usize| {
        let send = json!({ "do": "send-to-client", "text": "m".repeat(bytes) });
        format!("/console{}", query(&[("do", &send.to_string())]))
    };
    let mut ada = Console::greet(node.client(&path(700)).await?).await?;
    assert_eq!(ada.heard().await?, [text(&"m".repeat(700))]);
    let refused = node.refusal(&path(997)).await?;
    let said = "1001 bytes in the message, more than 1000 (outbox_bytes)";
    assert!(refused.body.contains(said), "{}", refused.body);
    Ok(())
}

#[tokio::test]
async fn outbox_messages() -> Result<()> {
    // Nothing leaves an outbox before the upgrade.
    let node = limited("[limits]\noutbox_messages = 3").start().await?;
    let fits = query(&[("say", "1"), ("say", "2")]);
    let mut ada = Console::greet(node.client(&format!("/console{fits}")).await?).await?;
    assert_eq!(ada.heard().await?, [text("1"), text("2")]);

    let too_many = query(&[("say", "1"), ("say", "2"), ("say", "3"), ("say", "4")]);
    let mut bob = node.client(&format!("/console{too_many}")).await?;
    assert_eq!(bob.end().await?.code(), 1013);
    assert_eq!(node.counters().await?.get("outbox_closed")?, 1);
    Ok(())
}

#[tokio::test]
async fn bytes_of_a_log_line() -> Result<()> {
    let node = Node::start("console").await?;
    let mut ada = node.console(&[]).await?;
    // An odd number of bytes, so that the cut would fall into a letter.
    let long = format!("x{}", "\u{fc}".repeat(10_000));
    ada.ok(json!({ "do": "log", "text": long })).await?;
    let line = node
        .wait_for_log(|line| line.message().starts_with("x\u{fc}"))
        .await?;
    assert_eq!(line.message().len(), 8191);
    Ok(())
}

#[tokio::test]
async fn log_lines_per_event() -> Result<()> {
    let node = limited("[plugin]\nlog_lines_per_event = 3").start().await?;
    let mut ada = node.console(&[]).await?;
    let log = json!({ "do": "log", "text": "a line" });
    ada.ok(json!({ "do": "repeat", "times": 5, "request": log }))
        .await?;
    ada.ok(json!({ "do": "log", "text": "the last" })).await?;

    node.wait_for_log(|line| line.message() == "the last")
        .await?;
    assert_eq!(
        node.log().so_far(|line| line.message() == "a line").len(),
        3
    );
    assert_eq!(node.counters().await?.get("log_lines_dropped")?, 2);
    Ok(())
}

#[tokio::test]
async fn log_bytes_per_second() -> Result<()> {
    let limits = "[policies]\non-trap = 'keep'\n[limits]\nlog_bytes_per_second = 20_000\n\
                  log_lines_per_event = 1_000";
    // All lines are in one log.
    let node = limited("")
        .alone()
        .plugin_from("loud", "console")
        .manifest("loud", limits)
        .plugin_from("broken", "console")
        .manifest("broken", limits)
        .start()
        .await?;
    let mut loud = node.console_named("loud", &[]).await?;
    let mut broken = node.console_named("broken", &[]).await?;
    let mut calm = node.console(&[]).await?;
    let log = json!({ "do": "log", "text": "x".repeat(1_000) });
    loud.ok(json!({ "do": "repeat", "times": 500, "request": log }))
        .await?;
    for _ in 0..200 {
        let message = "y".repeat(1_000);
        broken
            .say(json!({ "do": "panic", "message": message }).to_string())
            .await?;
    }
    broken.ok(json!({ "do": "identify" })).await?;
    calm.ok(json!({ "do": "log", "text": "the last" })).await?;
    node.wait_for_log(|line| line.message() == "the last")
        .await?;

    // Seventeen at once, and as many a second.
    let lines = node.log().so_far(|line| line.message().starts_with("xxx"));
    assert!((17..200).contains(&lines.len()), "{} lines", lines.len());
    let traps = node.log().so_far(|line| line.says("an event trapped"));
    assert!((1..150).contains(&traps.len()), "{} traps", traps.len());
    let counters = node.counters().await?;
    assert_eq!(counters.get("traps_panic")?, 200);
    let dropped = counters.get("log_lines_dropped")?;
    assert_eq!(dropped, 700 - (lines.len() + traps.len()) as u64);
    let said = node
        .log()
        .so_far(|line| line.says("it logs more than log_bytes_per_second"));
    let mut plugins: Vec<_> = said.iter().map(|line| line.text("plugin")).collect();
    plugins.sort_unstable();
    plugins.dedup();
    assert_eq!(plugins, ["broken", "loud"]);
    Ok(())
}

#[tokio::test]
async fn a_manifest_sets_its_own_plugins_limits() -> Result<()> {
    let node = limited("[plugin]\nlog_lines_per_event = 3")
        .plugin_from("loud", "console")
        .manifest("loud", "[limits]\nlog_lines_per_event = 50")
        .start()
        .await?;
    let mut loud = node.console_named("loud", &[]).await?;
    let log = json!({ "do": "log", "text": "a line" });
    loud.ok(json!({ "do": "repeat", "times": 50, "request": log }))
        .await?;

    assert_eq!(node.counters().await?.get("log_lines_dropped")?, 0);
    let lines = node.log().so_far(|line| line.message() == "a line");
    assert_eq!(lines.len(), 50);
    assert_eq!(lines[0].text("plugin"), "loud");
    Ok(())
}
