//! join-group, leave-group, ungroup, and the lists and counts of groups.

use std::collections::BTreeSet;

use anyhow::Result;
use jackfield_tests::{Node, count, reach, text};
use serde_json::json;

use crate::tells_ids_apart;

#[tokio::test]
async fn joining_and_leaving_are_idempotent() -> Result<()> {
    let node = Node::start("console").await?;
    let [mut ada, mut bob] = node.consoles().await?;
    let members = json!({ "do": "get-client-count-by-group", "group": "g" });

    for _ in 0..2 {
        let join = json!({ "do": "join-group", "client": ada.id(), "group": "g" });
        assert!(bob.ok(join).await?.is_null());
        assert_eq!(bob.ok(members.clone()).await?, count(1));
    }
    let hello = json!({ "do": "send-to-group", "group": "g", "text": "hello" });
    assert_eq!(bob.ok(hello).await?, reach(1));
    assert_eq!(ada.heard().await?, [text("hello")]);

    for _ in 0..2 {
        let leave = json!({ "do": "leave-group", "client": ada.id(), "group": "g" });
        assert!(bob.ok(leave).await?.is_null());
        assert_eq!(bob.ok(members.clone()).await?, count(0));
    }
    assert_eq!(
        bob.walk(json!({ "do": "get-all-groups" }), 10).await?,
        [""; 0]
    );
    Ok(())
}

#[tokio::test]
async fn an_empty_group_is_an_error_everywhere() -> Result<()> {
    let node = Node::start("console").await?;
    let mut ada = node.console(&[]).await?;
    for function in [
        "join-group",
        "leave-group",
        "ungroup",
        "get-client-count-by-group",
        "get-client-ids-by-group",
        "get-uids-by-group",
        "get-uid-count-by-group",
        "close-group",
    ] {
        let code = ada.error(json!({ "do": function, "group": "" })).await?;
        assert_eq!(code, "invalid-argument", "{function}");
    }
    Ok(())
}

#[tokio::test]
async fn joining_and_leaving_tell_malformed_from_gone() -> Result<()> {
    let node = Node::start("console").await?;
    tells_ids_apart(&node, json!({ "do": "join-group", "group": "g" })).await?;
    tells_ids_apart(&node, json!({ "do": "leave-group", "group": "g" })).await
}

#[tokio::test]
async fn groups_go_with_their_last_member() -> Result<()> {
    let node = Node::start("console").await?;
    let mut watcher = node.watcher().await?;
    let mut ada = node.console(&[("group", "tea"), ("group", "cake")]).await?;

    ada.leave().await?;
    watcher.departure(ada.id()).await?;

    assert_eq!(
        watcher.walk(json!({ "do": "get-all-groups" }), 10).await?,
        ["watch-close"]
    );
    let members = json!({ "do": "get-client-count-by-group", "group": "tea" });
    assert_eq!(watcher.ok(members).await?, count(0));
    Ok(())
}

#[tokio::test]
async fn ungroup_dissolves_the_group_and_closes_nobody() -> Result<()> {
    let node = Node::start("console").await?;
    let mut ada = node.console(&[("group", "tea"), ("group", "cake")]).await?;
    let mut bob = node.console(&[("group", "tea")]).await?;

    assert_eq!(
        bob.ok(json!({ "do": "ungroup", "group": "tea" })).await?,
        count(2)
    );
    assert_eq!(
        bob.ok(json!({ "do": "ungroup", "group": "tea" })).await?,
        count(0)
    );
    let to_tea = json!({ "do": "send-to-group", "group": "tea", "text": "m" });
    assert_eq!(bob.ok(to_tea).await?, reach(0));
    assert_eq!(
        bob.walk(json!({ "do": "get-all-groups" }), 10).await?,
        ["cake"]
    );

    // They are still here, in their other groups, and may come back.
    ada.ok(json!({ "do": "join-group", "group": "tea" }))
        .await?;
    let to_both = json!({ "do": "send-to-group", "groups": ["tea", "cake"], "text": "m" });
    assert_eq!(bob.ok(to_both).await?, reach(1));
    assert_eq!(ada.heard().await?, [text("m")]);
    Ok(())
}

#[tokio::test]
async fn uids_of_a_group_show_each_once_and_unbound_members_never() -> Result<()> {
    let node = Node::start("console").await?;
    let mut phone = node.console(&[("uid", "ada"), ("group", "g")]).await?;
    let _laptop = node.console(&[("uid", "ada"), ("group", "g")]).await?;
    let _bob = node.console(&[("uid", "bob"), ("group", "g")]).await?;
    let mut unbound = node.console(&[("group", "g")]).await?;
    let _elsewhere = node.console(&[("uid", "eve"), ("group", "h")]).await?;

    let mut uids = phone
        .walk(json!({ "do": "get-uids-by-group", "group": "g" }), 1)
        .await?;
    uids.sort();
    assert_eq!(uids, ["ada", "bob"]);
    let uid_count = json!({ "do": "get-uid-count-by-group", "group": "g" });
    assert_eq!(phone.ok(uid_count.clone()).await?, count(2));
    let client_count = json!({ "do": "get-client-count-by-group", "group": "g" });
    assert_eq!(phone.ok(client_count).await?, count(4));

    // A bind and an unbind show at once.
    unbound
        .ok(json!({ "do": "bind-uid", "uid": "dan" }))
        .await?;
    assert_eq!(phone.ok(uid_count.clone()).await?, count(3));
    unbound.ok(json!({ "do": "unbind-uid" })).await?;
    assert_eq!(phone.ok(uid_count).await?, count(2));
    Ok(())
}

#[tokio::test]
async fn members_and_uids_of_a_group_walk_through_pages() -> Result<()> {
    let node = Node::start("console").await?;
    let (mut ids, mut uids) = (BTreeSet::new(), BTreeSet::new());
    let mut clients = Vec::new();
    for number in 0..205 {
        let uid = format!("uid-{number}");
        let client = node.console(&[("uid", &uid), ("group", "g")]).await?;
        ids.insert(client.id().to_owned());
        uids.insert(uid);
        clients.push(client);
    }
    let mut eve = node.console(&[("uid", "eve"), ("group", "h")]).await?;

    for limit in [1000, 205, 204, 50] {
        let walked = eve
            .walk(
                json!({ "do": "get-client-ids-by-group", "group": "g" }),
                limit,
            )
            .await?;
        assert_eq!(walked.len(), ids.len(), "each once, {limit} a page");
        assert_eq!(BTreeSet::from_iter(walked), ids);
        let walked = eve
            .walk(json!({ "do": "get-uids-by-group", "group": "g" }), limit)
            .await?;
        assert_eq!(walked.len(), uids.len(), "each once, {limit} a page");
        assert_eq!(BTreeSet::from_iter(walked), uids);
    }
    Ok(())
}

#[tokio::test]
async fn all_groups_walk_through_pages() -> Result<()> {
    let node = Node::start("console").await?;
    let mut ada = node.console(&[]).await?;
    let groups: BTreeSet<_> = (0..300).map(|number| format!("group-{number}")).collect();
    for group in &groups {
        ada.ok(json!({ "do": "join-group", "group": group }))
            .await?;
    }

    for limit in [1000, 300, 299, 37] {
        let walked = ada.walk(json!({ "do": "get-all-groups" }), limit).await?;
        assert_eq!(walked.len(), groups.len(), "each once, {limit} a page");
        assert_eq!(BTreeSet::from_iter(walked), groups);
    }
    Ok(())
}

#[tokio::test]
async fn a_page_has_one_to_a_thousand_items_and_its_cursor_comes_from_the_one_before() -> Result<()>
{
    let node = Node::start("console").await?;
    let mut ada = node.console(&[("uid", "u"), ("group", "g")]).await?;
    for list in [
        json!({ "do": "get-all-uids" }),
        json!({ "do": "get-all-groups" }),
        json!({ "do": "get-client-ids-by-uid", "uid": "u" }),
        json!({ "do": "get-client-ids-by-group", "group": "g" }),
        json!({ "do": "get-uids-by-group", "group": "g" }),
    ] {
        for limit in [0, 1001] {
            let mut request = list.clone();
            request["limit"] = limit.into();
            assert_eq!(
                ada.error(request).await?,
                "invalid-argument",
                "{list}, {limit} items"
            );
        }
        let mut request = list.clone();
        request["cursor"] = "not one of ours".into();
        assert_eq!(ada.error(request).await?, "invalid-argument", "{list}");
        assert_eq!(ada.walk(list, 1).await?.len(), 1);
    }
    Ok(())
}
