//! A wire that is cut for longer than nodes wait for each other: both sides go on alone, and
//! meet again without being restarted.

use std::time::SystemTime;

use anyhow::{Result, ensure};
use jackfield_tests::{Console, End, Faults, LogLine, Wire, count, on_wire};
use serde_json::{Value, json};

use crate::wire::{Scene, start};
use crate::{becomes, reaches};

/// A failure is noticed soon.
const SOON: &str = "suspect_after = '1500ms'\ngone_after = '3s'\nask_timeout = '1s'\n";

fn is_gone(line: &LogLine) -> bool {
    line.says("a node is gone")
}

#[test]
fn cut_off_from_the_register_a_node_keeps_whom_it_knows() -> Result<()> {
    on_wire(4, async |wire| {
        let (register, late) = (2, 3);
        let scene = Scene::on(wire, 2, SOON).await?;
        let [lone, other] = &scene.nodes[..] else {
            anyhow::bail!("two nodes");
        };
        let mut ada = lone.console(&[]).await?;
        let mut bob = other.console(&[]).await?;

        wire.between(0, register, Faults::CUT);
        let left = |line: &LogLine| line.says("a node has left");
        scene.register.log().nth(1, left).await?;
        lone.wait_for_log(|line| line.says("not at this register"))
            .await?;
        was_cut(wire, 0, register)?;
        scene.everybody_knows_everybody().await?;
        reaches(&mut ada, &mut bob).await?;
        reaches(&mut bob, &mut ada).await?;

        // Who comes now is told of the other one only.
        let late = start(wire.place(late), &scene.register, SOON).await?;
        late.wait_for_peers(1).await?;
        other.wait_for_peers(2).await?;
        let mut carl = late.console(&[]).await?;
        reaches(&mut carl, &mut bob).await?;
        reaches(&mut bob, &mut carl).await?;
        let to_ada = json!({ "do": "send-to-client", "client": ada.id(), "text": "m" });
        assert_eq!(carl.error(to_ada).await?, "not-found");
        lone.wait_for_peers(1).await?;
        wire.between(0, register, Faults::NONE);

        for node in [lone, other, &late] {
            node.wait_for_peers(2).await?;
            let gone = node.log().so_far(is_gone);
            ensure!(gone.is_empty(), "{gone:?}");
        }
        reaches(&mut ada, &mut carl).await?;
        reaches(&mut carl, &mut ada).await
    })
}

#[test]
fn on_both_sides_of_a_partition_nodes_serve_and_afterwards_they_agree() -> Result<()> {
    on_wire(4, async |wire| {
        let scene = Scene::on(wire, 3, SOON).await?;
        let [lone, left, right] = &scene.nodes[..] else {
            anyhow::bail!("three nodes");
        };
        let mut ada = lone.console(&[("group", "g")]).await?;
        let mut bob = left.console(&[("group", "g")]).await?;
        let mut carl = right.console(&[("group", "g")]).await?;
        for client in [&mut ada, &mut bob, &mut carl] {
            holds(client, "g", 3).await?;
        }

        // The register is on the others' side.
        let others = [1, 2, 3];
        for other in others {
            wire.between(0, other, Faults::CUT);
        }
        lone.wait_for_peers(0).await?;
        left.wait_for_peers(1).await?;
        right.wait_for_peers(1).await?;
        for other in others {
            was_cut(wire, 0, other)?;
        }
        let to_g = |text: &str| json!({ "do": "send-to-group", "group": "g", "text": text });
        ada.ok(to_g("alone")).await?;
        assert_eq!(ada.next().await?.to_text()?, "alone");
        bob.ok(to_g("together")).await?;
        assert_eq!(bob.next().await?.to_text()?, "together");
        assert_eq!(carl.next().await?.to_text()?, "together");
        holds(&mut ada, "g", 1).await?;
        holds(&mut bob, "g", 2).await?;
        // Neither side knows of the other one's.
        let mut older = lone.console(&[("uid", "zoe")]).await?;
        next_millisecond();
        let mut newer = right.console(&[("uid", "zoe")]).await?;
        reaches(&mut bob, &mut newer).await?;
        for other in others {
            wire.between(0, other, Faults::NONE);
        }

        scene.everybody_knows_everybody().await?;
        assert_eq!(older.end().await?, End::closed(4001, "uid taken over"));
        for client in [&mut ada, &mut bob, &mut carl] {
            holds(client, "g", 3).await?;
            let zoe = json!({ "do": "get-client-ids-by-uid", "uid": "zoe" });
            let found = json!({ "items": [newer.id()], "next": null, "missing": [] });
            becomes(client, zoe, &found).await?;
            assert_eq!(client.heard().await?, [], "from the other side");
        }
        ada.ok(to_g("all")).await?;
        for client in [&mut ada, &mut bob, &mut carl] {
            assert_eq!(client.next().await?.to_text()?, "all");
            assert_eq!(client.heard().await?, []);
        }
        Ok(())
    })
}

/// Waits until a group has so many clients, all nodes asked.
async fn holds(client: &mut Console, group: &str, clients: u64) -> Result<()> {
    let request: Value = json!({ "do": "get-client-count-by-group", "group": group });
    becomes(client, request, &count(clients)).await
}

/// Packets were lost both ways.
fn was_cut(wire: &Wire, one: usize, other: usize) -> Result<()> {
    for carried in [wire.carried(one, other), wire.carried(other, one)] {
        ensure!(carried.cut > 0, "{carried:?}");
    }
    Ok(())
}

/// When a client was bound is known in milliseconds: the next one is in another.
fn next_millisecond() {
    let now = || {
        SystemTime::UNIX_EPOCH
            .elapsed()
            .unwrap_or_default()
            .as_millis()
    };
    let before = now();
    while now() <= before {}
}
