//! A client comes back at another node than the one where it was, and keeps its id.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use jackfield_tests::{Cluster, Console, Node, NodeBuilder, Register, ReliableClient, within};
use serde_json::{Value, json};

use crate::{connect, has_not_left, to_group, with_manifest};

/// So many nodes with the plugin `console`, whose clients may come back.
async fn nodes(count: usize) -> Result<Cluster> {
    let manifest = "[resume]\nwindow = '10m'\nmessages = 10000\n";
    let build = |node: NodeBuilder| {
        let node = node.plugin("console").manifest("console", manifest);
        node.config("[limits]\noutbox_messages = 10000\n")
    };
    Cluster::start(count, build).await
}

/// Waits until a group has so many members, as far as a client's node knows.
async fn has_members(client: &mut Console, group: &str, members: u64) -> Result<()> {
    let count = json!({ "do": "get-client-count-by-group", "group": group });
    let counting = async {
        while client.ok(count.clone()).await?["value"] != members {}
        anyhow::Ok(())
    };
    within("a group to have its members", counting).await
}

#[tokio::test]
async fn a_client_comes_back_at_any_node() -> Result<()> {
    let cluster = nodes(3).await?;
    let mut watcher = cluster[0].watcher().await?;
    let mut bob = cluster[1].console(&[("group", "g")]).await?;
    let mut ada = connect(&cluster[0], "?uid=ada&group=g&group=h&info.a=1").await?;
    let id = ada.id().to_owned();
    has_members(&mut bob, "g", 2).await?;
    // Back to the first node, too, which has given it its id.
    for (round, node) in [1, 2, 0, 1, 0].into_iter().enumerate() {
        ada.cut()?;
        to_group(&mut bob, "g", &format!("{round} group")).await?;
        bob.next().await?;
        bob.ok(json!({ "do": "send-to-uid", "uid": "ada", "text": "uid" }))
            .await?;
        bob.ok(json!({ "do": "send-to-client", "client": id, "text": "client" }))
            .await?;
        assert!(ada.come_back(cluster[node].address()).await?, "{round}");
        assert_eq!(ada.id(), id);
        for text in [&format!("{round} group"), "uid", "client"] {
            assert_eq!(&ada.next_text().await?, text);
        }
        // It speaks, and is asked about by its id, as before.
        ada.say(r#"{"id":1,"do":"get-uid-by-client-id"}"#).await?;
        let answer: Value = serde_json::from_str(&ada.next_text().await?)?;
        assert_eq!(answer["ok"], "ada");
        for asking in 0..3 {
            let mut asker = cluster[asking].console(&[]).await?;
            let of = |what: &str| json!({ "do": what, "client": id });
            assert_eq!(asker.ok(of("get-uid-by-client-id")).await?, "ada");
            assert_eq!(asker.ok(of("get-info")).await?["a"], "1");
            assert_eq!(asker.ok(of("is-online")).await?, true);
            let sent = json!({ "do": "send-to-client", "client": id, "text": "hello" });
            asker.ok(sent).await?;
            assert_eq!(ada.next_text().await?, "hello");
            // A third node hears a moment later that the old one has forgotten the client.
            has_members(&mut asker, "g", 2).await?;
            has_members(&mut asker, "h", 1).await?;
            let members = json!({ "do": "get-client-ids-by-group", "group": "g" });
            let members = asker.walk(members, 1).await?;
            assert_eq!(members.len(), 2, "{members:?}");
            assert!(members.contains(&id), "{members:?}");
        }
    }
    has_not_left(&cluster[0], &mut watcher, &id).await?;
    let mut ends = [0; 3];
    for (node, ends) in ends.iter_mut().enumerate() {
        let counters = cluster[node].counters().await?;
        *ends = counters.get("clients_moved")?;
        assert_eq!(counters.get("resumes_failed")?, 0, "node {node}");
    }
    assert_eq!(ends, [2, 2, 1]);
    // And when it leaves, its plugin is told once, by the node that has it.
    ada.leave_with(1000, "bye").await?;
    let left = watcher.departure(&id).await?;
    assert_eq!((&left["code"], &left["uid"]), (&json!(1000), &json!("ada")));
    Ok(())
}

/// While a client moves from node to node, clients of all nodes send to it in all ways.
#[tokio::test]
async fn nothing_is_lost_doubled_or_reordered_while_a_client_moves() -> Result<()> {
    const MOVES: usize = 40;
    let cluster = nodes(3).await?;
    let mut ada = connect(&cluster[0], "?uid=ada&group=g").await?;
    for node in cluster.nodes() {
        has_members(&mut node.console(&[]).await?, "g", 1).await?;
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let mut sending = Vec::new();
    for node in 0..3 {
        let mut sender = cluster[node].console(&[]).await?;
        let (id, is_over) = (ada.id().to_owned(), is_over.clone());
        sending.push(tokio::spawn(async move {
            let mut sent = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                let text = format!("{node} {sent}");
                let request = match sent % 3 {
                    0 => json!({ "do": "send-to-group", "group": "g", "text": text }),
                    1 => json!({ "do": "send-to-uid", "uid": "ada", "text": text }),
                    _ => json!({ "do": "send-to-client", "client": id, "text": text }),
                };
                sender.ok(request).await?;
                sent += 1;
            }
            anyhow::Ok(sent)
        }));
    }
    let mut heard = [0_u64; 3];
    let mut random = fastrand::Rng::with_seed(5);
    let hear = async |ada: &mut ReliableClient, heard: &mut [u64; 3]| -> Result<()> {
        let text = ada.next_text().await?;
        let (node, number) = text.split_once(' ').context("a node and a number")?;
        let node: usize = node.parse()?;
        assert_eq!(number.parse::<u64>()?, heard[node], "of {node}: {heard:?}");
        heard[node] += 1;
        Ok(())
    };
    for _ in 0..MOVES {
        for _ in 0..random.usize(1..200) {
            hear(&mut ada, &mut heard).await?;
        }
        match random.bool() {
            true => ada.cut()?,
            false => drop(ada.let_go()),
        }
        let node = random.usize(..3);
        assert!(ada.come_back(cluster[node].address()).await?);
    }
    is_over.store(true, Ordering::Relaxed);
    let mut sent = [0; 3];
    for (sent, sending) in sent.iter_mut().zip(sending) {
        *sent = sending.await??;
    }
    while heard != sent {
        hear(&mut ada, &mut heard).await?;
    }
    eprintln!("{MOVES} moves, {sent:?} messages from the three nodes");
    Ok(())
}

/// The clients of a node that ends come back at the others, and their plugin is not told of an end.
#[tokio::test]
async fn clients_live_through_the_drain_of_their_node() -> Result<()> {
    let mut cluster = nodes(2).await?;
    let leaving = cluster.nodes_mut().remove(1);
    let staying = &cluster[0];
    let mut watcher = staying.watcher().await?;
    let mut bob = staying.console(&[]).await?;
    let mut ada = connect(&leaving, "?uid=ada&group=g").await?;
    let id = ada.id().to_owned();
    has_members(&mut bob, "g", 1).await?;
    let mut plain = leaving.console(&[]).await?;
    let plain_id = plain.id().to_owned();
    has_members(&mut plain, "watch-close", 1).await?;
    let address = staying.address();
    let (stopped, ended) = tokio::join!(leaving.stop(), async {
        let end = ada.end().await?;
        assert_eq!(end.code(), 1012, "{end:?}");
        plain.end().await?;
        // The plain client has left; the other one is waited for.
        assert_eq!(watcher.departure(&plain_id).await?["code"], 1012);
        to_group(&mut bob, "g", "meanwhile").await?;
        assert!(ada.come_back(address).await?);
        assert_eq!(ada.next_text().await?, "meanwhile");
        anyhow::Ok(())
    });
    assert!(stopped?.status.success());
    ended?;
    // Its node is gone, and it is the same client.
    let uid = json!({ "do": "get-uid-by-client-id", "client": id });
    assert_eq!(bob.ok(uid).await?, "ada");
    bob.ok(json!({ "do": "send-to-client", "client": id, "text": "hello" }))
        .await?;
    assert_eq!(ada.next_text().await?, "hello");
    has_not_left(staying, &mut watcher, &id).await?;
    ada.leave_with(1000, "").await?;
    assert_eq!(watcher.departure(&id).await?["code"], 1000);
    Ok(())
}

/// A node that has no place for a client does not take it from the one where it waits.
#[tokio::test]
async fn a_client_that_a_full_node_refuses_is_still_waited_for() -> Result<()> {
    let register = Register::start().await?;
    let build = |config: &str| {
        with_manifest("[resume]\nwindow = '10m'\n")
            .config(config)
            .registered_at(&[&register])
            .start()
    };
    let (old, full) = tokio::try_join!(build(""), build("[limits]\nclients = 1\n"))?;
    for node in [&old, &full] {
        node.wait_for_peers(1).await?;
    }
    let mut watcher = full.watcher().await?;
    has_members(&mut old.console(&[]).await?, "watch-close", 1).await?;
    let mut ada = connect(&old, "?uid=ada").await?;
    let id = ada.id().to_owned();
    ada.cut()?;
    let refused = ada.come_back(full.address()).await;
    let refused = refused.expect_err("there is no place");
    assert_eq!(jackfield_tests::refusal_status(&refused), Some(503));
    assert!(ada.come_back(old.address()).await?);
    has_not_left(&old, &mut watcher, &id).await
}

/// A client that tries again at the same node is adopted once.
#[tokio::test]
async fn a_client_that_tries_twice_at_once_comes_back_once() -> Result<()> {
    let cluster = nodes(2).await?;
    let mut watcher = cluster[0].watcher().await?;
    let mut bob = cluster[0].console(&[]).await?;
    has_members(&mut cluster[1].console(&[]).await?, "watch-close", 1).await?;
    for round in 0..20 {
        let mut ada = connect(&cluster[0], "?group=g").await?;
        let id = ada.id().to_owned();
        ada.cut()?;
        let (path, token) = ("/console", ada.token()?.to_owned());
        let protocols = format!("jackfield.v1, jackfield.resume.{token}.{}", ada.received());
        let headers = [("sec-websocket-protocol", protocols.as_str())];
        let address = cluster[1].address();
        let attempt = async || {
            let mut client = jackfield_tests::Client::connect(address, path, &headers).await?;
            let welcome: Value = serde_json::from_str(&client.next_text().await?)?;
            anyhow::Ok((client, welcome))
        };
        let (first, second) = tokio::join!(attempt(), attempt());
        let resumed = [first, second].into_iter().flatten();
        let resumed = resumed.filter(|(_, welcome)| welcome["client"] == id);
        assert!(resumed.count() >= 1, "{round}");
        // Whichever of the two is the client's last connection, the client can be reached.
        assert!(ada.come_back(address).await?, "{round}");
        bob.ok(json!({ "do": "send-to-client", "client": id, "text": "hello" }))
            .await?;
        assert_eq!(ada.next_text().await?, "hello");
        ada.leave_with(1000, "").await?;
        assert_eq!(watcher.departure(&id).await?["code"], 1000);
    }
    Ok(())
}

/// With its node, all that was known of a client is gone.
#[tokio::test]
async fn a_client_whose_node_was_killed_is_a_new_client() -> Result<()> {
    let mut cluster = nodes(2).await?;
    let killed = cluster.nodes_mut().remove(1);
    let mut ada = connect(&killed, "?uid=ada").await?;
    let id = ada.id().to_owned();
    killed.kill().await?;
    assert!(!within("an answer", ada.come_back(cluster[0].address())).await?);
    assert_ne!(ada.id(), id);
    Ok(())
}

/// A gateway has the clients, and another node the plugin.
#[tokio::test]
async fn clients_of_gateways_come_back_too() -> Result<()> {
    let manifest = "[resume]\nwindow = '10m'\n";
    let register = Register::start().await?;
    let worker = with_manifest(manifest)
        .registered_at(&[&register])
        .start()
        .await?;
    let gateway = || Node::builder().gateway().registered_at(&[&register]);
    let (one, two) = tokio::try_join!(gateway().start(), gateway().start())?;
    for node in [&one, &two, &worker] {
        node.wait_for_peers(2).await?;
    }
    for gateway in [&one, &two] {
        gateway.wait_for_plugins_of(&worker).await?;
    }
    let mut ada = connect(&one, "?uid=ada&group=g").await?;
    let mut bob = worker.console(&[]).await?;
    has_members(&mut bob, "g", 1).await?;
    for gateway in [&one, &two, &one] {
        ada.cut()?;
        to_group(&mut bob, "g", "hello").await?;
        assert!(ada.come_back(gateway.address()).await?);
        assert_eq!(ada.next_text().await?, "hello");
        ada.say(r#"{"id":1,"do":"get-uid-by-client-id"}"#).await?;
        let answer: Value = serde_json::from_str(&ada.next_text().await?)?;
        assert_eq!(answer["ok"], "ada");
    }
    Ok(())
}
