//! What holds for a node as a whole: namespaces, ids, identity, guests' output.

use std::collections::BTreeSet;

use anyhow::Result;
use jackfield_tests::{Node, count, reach, text};
use serde_json::json;

#[tokio::test]
async fn plugins_do_not_see_each_others_clients() -> Result<()> {
    let node = Node::builder()
        // A message for a client of another node is on its way before that node is heard.
        .alone()
        .plugin_from("chat", "console")
        .plugin_from("ticker", "console")
        .start();
    let node = node.await?;
    let query = [("uid", "ada"), ("group", "g"), ("group", "watch-close")];
    let mut chat = node.console_named("chat", &query).await?;
    let mut ticker = node.console_named("ticker", &query).await?;

    assert_eq!(
        chat.ok(json!({ "do": "get-all-client-count" })).await?,
        count(1)
    );
    assert_eq!(
        chat.ok(json!({ "do": "send-to-all", "text": "1" })).await?,
        reach(1)
    );
    assert_eq!(
        chat.ok(json!({ "do": "send-to-uid", "uid": "ada", "text": "2" }))
            .await?,
        reach(1)
    );
    let to_group = json!({ "do": "send-to-group", "group": "g", "text": "3" });
    assert_eq!(chat.ok(to_group).await?, reach(1));
    let to_the_other = json!({ "do": "send-to-client", "client": ticker.id(), "text": "4" });
    assert_eq!(chat.error(to_the_other).await?, "not-found");
    let the_other = json!({ "do": "is-online", "client": ticker.id() });
    assert_eq!(chat.ok(the_other).await?, false);
    chat.start(json!({ "do": "close-uid", "uid": "ada" }))
        .await?;

    assert_eq!(chat.until_end().await?.0, [text("1"), text("2"), text("3")]);
    assert_eq!(ticker.heard().await?, []);
    assert_eq!(
        ticker
            .ok(json!({ "do": "is-uid-online", "uid": "ada" }))
            .await?,
        true
    );
    Ok(())
}

#[tokio::test]
async fn a_restarted_node_gives_out_new_ids() -> Result<()> {
    let mut ids = BTreeSet::new();
    let mut nodes = BTreeSet::new();
    for _ in 0..3 {
        let node = Node::start("console").await?;
        for _ in 0..20 {
            let client = node.console(&[]).await?;
            assert!(
                ids.insert(client.id().to_owned()),
                "{} came again",
                client.id()
            );
        }
        let identity = node
            .console(&[])
            .await?
            .ok(json!({ "do": "identify" }))
            .await?;
        assert!(
            nodes.insert(identity["node"].to_string()),
            "an incarnation came again"
        );
        assert!(node.stop().await?.status.success());
    }
    Ok(())
}

#[tokio::test]
async fn an_id_of_a_former_run_names_nobody() -> Result<()> {
    let former = Node::start("console")
        .await?
        .console(&[])
        .await?
        .id()
        .to_owned();
    let node = Node::start("console").await?;
    let mut ada = node.console(&[]).await?;
    assert_eq!(
        ada.ok(json!({ "do": "is-online", "client": former }))
            .await?,
        false
    );
    let send = json!({ "do": "send-to-client", "client": former, "text": "m" });
    assert_eq!(ada.error(send).await?, "not-found");
    Ok(())
}

#[tokio::test]
async fn a_plugin_knows_who_it_is() -> Result<()> {
    let node = Node::builder()
        .plugin_from("tea-time", "console")
        .start()
        .await?;
    let mut ada = node.console_named("tea-time", &[]).await?;
    let identity = ada.ok(json!({ "do": "identify" })).await?;
    assert_eq!(
        (&identity["plugin"], &identity["generation"]),
        (&json!("tea-time"), &json!(1))
    );
    assert_eq!(ada.generation(), 1);
    assert_eq!(identity["node"].as_str().map(str::len), Some(13));
    Ok(())
}

#[tokio::test]
async fn what_a_guest_prints_and_logs_is_in_the_nodes_log_as_its_own() -> Result<()> {
    let node = Node::start("console").await?;
    let mut ada = node.console(&[]).await?;
    ada.ok(json!({ "do": "print", "text": "printed" })).await?;
    ada.ok(json!({ "do": "log", "level": "warn", "text": "logged" }))
        .await?;

    let logged = node.wait_for_log(|line| line.message() == "logged").await?;
    assert_eq!((logged.level(), logged.text("stream")), ("WARN", "log"));
    let printed = node.log().so_far(|line| line.message() == "printed");
    let streams: Vec<_> = printed.iter().map(|line| line.text("stream")).collect();
    assert_eq!(streams, ["stdout", "stderr"]);
    for line in printed.iter().chain([&logged]) {
        assert_eq!(
            (line.text("plugin"), line.number("generation")),
            ("console", Some(1))
        );
    }
    Ok(())
}
