//! A node that is stopped (SIGSTOP) and goes on later (SIGCONT): nobody waits for it, and it
//! comes back with everything that it holds.

use anyhow::Result;
use jackfield_tests::{Cluster, Console, within};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::traffic::{Talker, hears};
use crate::{becomes, nodes, reaches};

/// Suspect soon, gone not before the test is over. Whoever waits for an answer waits longer
/// than an event may, and loses it.
const PATIENT: &str =
    "[limits]\nsuspect_after = '1500ms'\ngone_after = '50s'\nask_timeout = '1h'\n";

/// Gone soon.
const IMPATIENT: &str = "[limits]\nsuspect_after = '1500ms'\ngone_after = '3s'\n";

#[tokio::test]
async fn while_it_is_stopped_the_others_go_on_and_then_it_has_missed_nothing() -> Result<()> {
    let cluster = nodes(3, PATIENT).await?;
    let mut sender = cluster[0].console(&[]).await?;
    let mut here = cluster[0].console(&[("group", "g")]).await?;
    let mut there = cluster[1].console(&[("group", "g")]).await?;
    let mut stopped = cluster[2].console(&[("group", "g")]).await?;
    holds(&mut sender, 3).await?;

    cluster[2].signal(Signal::STOP)?;
    let mut talker = Talker::to_group(&mut sender, "g");
    let messages = 4 * 500;
    tokio::try_join!(
        talker.talk(4, 500),
        hears(&mut here, messages),
        hears(&mut there, messages),
    )?;
    // All of it while that one was stopped.
    cluster[2].signal(Signal::CONT)?;

    hears(&mut stopped, messages).await?;
    everybody_is_well(&cluster).await?;
    for node in cluster.nodes() {
        assert_eq!(node.counters().await?.get("mesh_dropped")?, 0);
        let gone = node.log().so_far(|line| line.says("a node is gone"));
        assert!(gone.is_empty(), "{gone:?}");
    }
    Ok(())
}

#[tokio::test]
async fn once_it_is_suspect_nobody_waits_for_it() -> Result<()> {
    let cluster = nodes(3, PATIENT).await?;
    let missing = cluster[2].incarnation().await?;
    let mut ada = cluster[0].console(&[("group", "g")]).await?;
    let mut bob = cluster[1].console(&[("group", "g")]).await?;
    let zoe = cluster[2]
        .console(&[("group", "g"), ("uid", "zoe")])
        .await?;
    holds(&mut ada, 3).await?;
    cluster[2].signal(Signal::STOP)?;
    cluster[0]
        .wait_for_peer_states(&["alive", "suspect"])
        .await?;

    let missing = json!([missing]);
    for (request, value) in [
        (
            json!({ "do": "get-client-count-by-group", "group": "g" }),
            json!(3),
        ),
        (
            json!({ "do": "get-uid-count-by-group", "group": "g" }),
            json!(0),
        ),
        (json!({ "do": "get-all-client-count" }), json!(3)),
        (json!({ "do": "close-uid", "uid": "zoe" }), json!(0)),
    ] {
        let answer = at_once(&mut ada, request).await?;
        assert_eq!(answer["ok"], json!({ "value": value, "missing": missing }));
    }
    for request in [
        json!({ "do": "get-client-ids-by-group", "group": "g" }),
        json!({ "do": "get-uids-by-group", "group": "g" }),
        json!({ "do": "get-all-uids" }),
        json!({ "do": "send-to-group", "group": "g", "text": "1" }),
        json!({ "do": "send-to-all", "text": "2" }),
    ] {
        let shown = request.to_string();
        let answer = at_once(&mut ada, request).await?;
        assert_eq!(answer["ok"]["missing"], missing, "{shown}: {answer}");
    }
    for request in [
        json!({ "do": "get-info", "client": zoe.id() }),
        json!({ "do": "is-online", "client": zoe.id() }),
        json!({ "do": "join-group", "client": zoe.id(), "group": "h" }),
    ] {
        let shown = request.to_string();
        let answer = at_once(&mut ada, request).await?;
        assert_eq!(answer["error"]["code"], "unreachable", "{shown}: {answer}");
    }
    assert_eq!(bob.next().await?.to_text()?, "1");
    assert_eq!(bob.next().await?.to_text()?, "2");

    cluster[2].signal(Signal::CONT)?;
    everybody_is_well(&cluster).await?;
    let info = json!({ "do": "get-info", "client": zoe.id() });
    becomes(&mut ada, info, &json!({})).await
}

#[tokio::test]
async fn taken_for_gone_it_comes_back_with_everything_it_holds() -> Result<()> {
    let cluster = nodes(3, IMPATIENT).await?;
    let mut ada = cluster[0]
        .console(&[("group", "g"), ("uid", "ada")])
        .await?;
    let mut bob = cluster[1]
        .console(&[("group", "g"), ("uid", "bob")])
        .await?;
    let mut zoe = cluster[2]
        .console(&[("group", "g"), ("uid", "zoe")])
        .await?;
    holds(&mut ada, 3).await?;

    cluster[2].signal(Signal::STOP)?;
    for (node, client) in [(0, &mut ada), (1, &mut bob)] {
        cluster[node].wait_for_peers(1).await?;
        holds(client, 2).await?;
        let online = json!({ "do": "is-uid-online", "uid": "zoe" });
        assert_eq!(client.ok(online).await?, false);
        let to_zoe = json!({ "do": "send-to-client", "client": zoe.id(), "text": "m" });
        assert_eq!(client.error(to_zoe).await?, "not-found");
    }
    // What happens meanwhile it has to hear afterwards.
    bob.ok(json!({ "do": "leave-group", "group": "g" })).await?;
    bob.ok(json!({ "do": "join-group", "group": "h" })).await?;
    bob.ok(json!({ "do": "bind-uid", "uid": "bert" })).await?;
    cluster[2].signal(Signal::CONT)?;

    everybody_is_well(&cluster).await?;
    for client in [&mut ada, &mut bob, &mut zoe] {
        holds(client, 2).await?;
        let uids = json!({ "items": ["ada", "bert", "zoe"], "next": null, "missing": [] });
        becomes(client, json!({ "do": "get-all-uids" }), &uids).await?;
        let groups = json!({ "items": ["g", "h"], "next": null, "missing": [] });
        becomes(client, json!({ "do": "get-all-groups" }), &groups).await?;
    }
    reaches(&mut ada, &mut zoe).await?;
    reaches(&mut zoe, &mut bob).await?;
    let to_h = json!({ "do": "send-to-group", "group": "h", "text": "h" });
    zoe.ok(to_h).await?;
    assert_eq!(bob.next().await?.to_text()?, "h");
    Ok(())
}

/// Asks for what must be answered without waiting for anybody: see `PATIENT`.
async fn at_once(client: &mut Console, request: Value) -> Result<Value> {
    client.call(request).await
}

/// Waits until the group `g` has so many clients, and nobody is missing.
async fn holds(client: &mut Console, clients: u64) -> Result<()> {
    let count = json!({ "do": "get-client-count-by-group", "group": "g" });
    becomes(client, count, &json!({ "value": clients, "missing": [] })).await
}

/// Waits until all nodes know all others.
async fn everybody_is_well(cluster: &Cluster) -> Result<()> {
    for node in cluster.nodes() {
        let others = cluster.nodes().len() - 1;
        within("all to be well", node.wait_for_peers(others)).await?;
    }
    Ok(())
}
