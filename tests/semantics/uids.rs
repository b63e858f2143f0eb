//! bind-uid, unbind-uid, is-uid-online, get-uid-by-client-id, get-client-ids-by-uid,
//! get-all-uids.

use std::collections::BTreeSet;

use anyhow::Result;
use jackfield_tests::{End, Node, reach, text};
use serde_json::json;

use crate::tells_ids_apart;

#[tokio::test]
async fn bind_uid_replaces_the_former_uid() -> Result<()> {
    let node = Node::start("console").await?;
    let [mut ada, mut bob] = node.consoles().await?;

    for uid in ["first", "second", "second"] {
        assert!(
            bob.ok(json!({ "do": "bind-uid", "client": ada.id(), "uid": uid }))
                .await?
                .is_null()
        );
    }

    assert_eq!(
        bob.ok(json!({ "do": "is-uid-online", "uid": "first" }))
            .await?,
        false
    );
    assert_eq!(
        bob.ok(json!({ "do": "is-uid-online", "uid": "second" }))
            .await?,
        true
    );
    assert_eq!(
        ada.ok(json!({ "do": "get-uid-by-client-id" })).await?,
        "second"
    );
    let to_uid = json!({ "do": "send-to-uid", "uids": ["first", "second"], "text": "m" });
    assert_eq!(bob.ok(to_uid).await?, reach(1));
    assert_eq!(ada.heard().await?, [text("m")]);
    Ok(())
}

#[tokio::test]
async fn an_empty_uid_is_an_error_everywhere() -> Result<()> {
    let node = Node::start("console").await?;
    let mut ada = node.console(&[("uid", "ada")]).await?;
    for function in [
        "bind-uid",
        "unbind-uid",
        "is-uid-online",
        "get-client-ids-by-uid",
        "close-uid",
    ] {
        let code = ada.error(json!({ "do": function, "uid": "" })).await?;
        assert_eq!(code, "invalid-argument", "{function}");
    }
    assert_eq!(
        ada.ok(json!({ "do": "get-uid-by-client-id" })).await?,
        "ada"
    );
    Ok(())
}

#[tokio::test]
async fn binding_and_unbinding_tell_malformed_from_gone() -> Result<()> {
    let node = Node::start("console").await?;
    tells_ids_apart(&node, json!({ "do": "bind-uid", "uid": "u" })).await?;
    tells_ids_apart(&node, json!({ "do": "unbind-uid" })).await?;
    tells_ids_apart(&node, json!({ "do": "unbind-uid", "uid": "u" })).await
}

#[tokio::test]
async fn many_clients_share_a_uid_by_default() -> Result<()> {
    let node = Node::start("console").await?;
    let mut phone = node.console(&[("uid", "ada")]).await?;
    let laptop = node.console(&[("uid", "ada")]).await?;

    let clients = phone
        .walk(json!({ "do": "get-client-ids-by-uid", "uid": "ada" }), 1)
        .await?;
    let both = [phone.id().to_owned(), laptop.id().to_owned()];
    assert_eq!(BTreeSet::from_iter(clients), BTreeSet::from(both));
    assert_eq!(
        phone.walk(json!({ "do": "get-all-uids" }), 10).await?,
        ["ada"]
    );
    Ok(())
}

#[tokio::test]
async fn kick_old_closes_whoever_had_the_uid() -> Result<()> {
    let node = Node::builder()
        .plugin("console")
        .manifest("console", "[policies]\nuid = 'kick-old'")
        .start()
        .await?;
    let mut watcher = node.watcher().await?;
    let mut first = node.console(&[("uid", "ada")]).await?;
    let mut second = node.console(&[("uid", "ada")]).await?;

    assert_eq!(first.end().await?, End::closed(4001, "uid taken over"));
    let departure = watcher.departure(first.id()).await?;
    assert_eq!(departure["code"], 4001);
    assert_eq!(departure["by"], "plugin");
    assert_eq!(departure["uid"], "ada");

    // Having it already kicks nobody, and a call kicks as a handshake does.
    assert!(
        second
            .ok(json!({ "do": "bind-uid", "uid": "ada" }))
            .await?
            .is_null()
    );
    assert!(
        watcher
            .ok(json!({ "do": "bind-uid", "uid": "ada" }))
            .await?
            .is_null()
    );
    assert_eq!(second.end().await?, End::closed(4001, "uid taken over"));
    let clients = watcher
        .walk(json!({ "do": "get-client-ids-by-uid", "uid": "ada" }), 10)
        .await?;
    assert_eq!(clients, [watcher.id()]);
    Ok(())
}

#[tokio::test]
async fn reject_new_keeps_the_uid_with_whoever_had_it() -> Result<()> {
    let node = Node::builder()
        .plugin("console")
        .manifest("console", "[policies]\nuid = 'reject-new'")
        .start()
        .await?;
    let mut watcher = node.watcher().await?;
    let mut first = node.console(&[("uid", "ada")]).await?;
    let mut second = node.console(&[("uid", "bob")]).await?;

    assert!(
        first
            .ok(json!({ "do": "bind-uid", "uid": "ada" }))
            .await?
            .is_null()
    );
    assert_eq!(
        second
            .error(json!({ "do": "bind-uid", "uid": "ada" }))
            .await?,
        "taken"
    );
    assert_eq!(
        second.ok(json!({ "do": "get-uid-by-client-id" })).await?,
        "bob"
    );
    assert_eq!(node.refusal("/console?uid=ada").await?.status, 409);

    first.leave().await?;
    watcher.departure(first.id()).await?;
    assert!(
        second
            .ok(json!({ "do": "bind-uid", "uid": "ada" }))
            .await?
            .is_null()
    );
    Ok(())
}

#[tokio::test]
async fn unbind_uid_knows_which() -> Result<()> {
    let node = Node::start("console").await?;
    let mut ada = node.console(&[("uid", "ada")]).await?;
    let unbind = |uid: &str| json!({ "do": "unbind-uid", "uid": uid });

    assert_eq!(ada.ok(unbind("bob")).await?, false);
    assert_eq!(
        ada.ok(json!({ "do": "get-uid-by-client-id" })).await?,
        "ada"
    );
    assert_eq!(ada.ok(unbind("ada")).await?, true);
    assert_eq!(ada.ok(unbind("ada")).await?, false);
    assert_eq!(
        ada.ok(json!({ "do": "is-uid-online", "uid": "ada" }))
            .await?,
        false
    );

    ada.ok(json!({ "do": "bind-uid", "uid": "eve" })).await?;
    assert_eq!(ada.ok(json!({ "do": "unbind-uid" })).await?, true);
    assert_eq!(ada.ok(json!({ "do": "unbind-uid" })).await?, false);
    Ok(())
}

#[tokio::test]
async fn a_uid_is_offline_as_soon_as_its_last_client_has_gone() -> Result<()> {
    let node = Node::start("console").await?;
    let mut watcher = node.watcher().await?;
    let is_online = json!({ "do": "is-uid-online", "uid": "ada" });

    // However it goes: a close frame, a broken connection, a close by the plugin, an unbind.
    let mut leaves = node.console(&[("uid", "ada")]).await?;
    let vanishes = node.console(&[("uid", "ada")]).await?;
    let closed = node.console(&[("uid", "ada")]).await?;
    let mut unbound = node.console(&[("uid", "ada")]).await?;

    leaves.leave().await?;
    watcher.departure(leaves.id()).await?;
    assert_eq!(watcher.ok(is_online.clone()).await?, true);

    let gone = vanishes.id().to_owned();
    vanishes.vanish()?;
    watcher.departure(&gone).await?;
    assert_eq!(watcher.ok(is_online.clone()).await?, true);

    unbound.ok(json!({ "do": "unbind-uid" })).await?;
    assert_eq!(watcher.ok(is_online.clone()).await?, true);

    watcher
        .ok(json!({ "do": "close-client", "client": closed.id() }))
        .await?;
    assert_eq!(watcher.ok(is_online).await?, false);
    assert_eq!(
        watcher.walk(json!({ "do": "get-all-uids" }), 10).await?,
        [""; 0]
    );
    Ok(())
}

#[tokio::test]
async fn a_client_without_a_uid_is_not_an_unknown_client() -> Result<()> {
    let node = Node::start("console").await?;
    let [mut ada, bob] = node.consoles().await?;
    let uid_of_bob = json!({ "do": "get-uid-by-client-id", "client": bob.id() });
    assert!(ada.ok(uid_of_bob).await?.is_null());
    tells_ids_apart(&node, json!({ "do": "get-uid-by-client-id" })).await
}

#[tokio::test]
async fn get_client_ids_by_uid_walks_through_pages() -> Result<()> {
    let node = Node::start("console").await?;
    let mut ids = BTreeSet::new();
    let mut clients = Vec::new();
    for _ in 0..205 {
        let client = node.console(&[("uid", "ada")]).await?;
        ids.insert(client.id().to_owned());
        clients.push(client);
    }
    let mut eve = node.console(&[("uid", "eve")]).await?;

    for limit in [1000, 205, 204, 50] {
        let walked = eve
            .walk(
                json!({ "do": "get-client-ids-by-uid", "uid": "ada" }),
                limit,
            )
            .await?;
        assert_eq!(walked.len(), ids.len(), "each once, {limit} a page");
        assert_eq!(BTreeSet::from_iter(walked), ids);
    }
    let nobody = eve
        .walk(
            json!({ "do": "get-client-ids-by-uid", "uid": "nobody" }),
            10,
        )
        .await?;
    assert_eq!(nobody, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn get_all_uids_lists_what_stays_throughout_the_walk_once() -> Result<()> {
    let node = Node::start("console").await?;
    let mut stay = BTreeSet::new();
    let mut clients = Vec::new();
    for number in 0..200 {
        let uid = format!("stays-{number}");
        clients.push(node.console(&[("uid", &uid)]).await?);
        stay.insert(uid);
    }
    let mut eve = node.console(&[]).await?;

    let mut walked = Vec::new();
    let mut request = json!({ "do": "get-all-uids", "limit": 9 });
    for step in 0.. {
        let page = eve.ok(request.clone()).await?;
        walked.extend(page["items"].as_array().into_iter().flatten().cloned());
        request["cursor"] = page["next"].clone();
        if request["cursor"].is_null() {
            break;
        }
        // Uids come and go between the pages.
        eve.ok(json!({ "do": "bind-uid", "uid": format!("comes-{step}") }))
            .await?;
    }

    let walked = walked.iter().filter_map(|uid| uid.as_str());
    let walked: Vec<_> = walked
        .filter(|uid| uid.starts_with("stays"))
        .map(str::to_owned)
        .collect();
    assert_eq!(walked.len(), stay.len());
    assert_eq!(BTreeSet::from_iter(walked), stay);
    Ok(())
}
