//! A wire that loses, delays, doubles and reorders packets all the time: what comes late comes
//! once and in order all the same.

use std::time::Duration;

use anyhow::{Result, ensure};
use jackfield_tests::{Carried, Console, Faults, Wire, count, on_wire};
use serde_json::json;

use crate::traffic::{Talker, has_lost_nothing, hears};
use crate::wire::Scene;
use crate::{becomes, reaches};

const BAD: Faults = Faults {
    delay: Duration::from_millis(20),
    jitter: Duration::from_millis(10),
    lost: 0.05,
    doubled: 0.01,
    reordered: 0.05,
    reordered_by: Duration::from_millis(30),
    ..Faults::NONE
};

/// TCP may have to send an answer again and again.
const PATIENT: &str = "ask_timeout = '4s'\n";

/// Two nodes say five thousand messages each to groups on three nodes, and the third one to
/// a client of the first.
#[test]
fn messages_come_once_and_in_order() -> Result<()> {
    on_wire(4, async |wire| {
        wire.everywhere(BAD);
        let scene = Scene::on(wire, 3, PATIENT).await?;
        let [first, second, third] = &scene.nodes[..] else {
            anyhow::bail!("three nodes");
        };
        let (mut ada, mut bob) = (first.console(&[]).await?, second.console(&[]).await?);
        let mut carl = third.console(&[]).await?;
        let [mut a, mut b, mut c] = members(&scene, "g").await?;
        let [mut d, mut e, mut f] = members(&scene, "h").await?;
        let mut home = first.console(&[]).await?;
        for group in ["g", "h"] {
            let members = json!({ "do": "get-client-count-by-group", "group": group });
            becomes(&mut ada, members.clone(), &count(3)).await?;
            becomes(&mut bob, members, &count(3)).await?;
        }

        let home_id = home.id().to_owned();
        let mut to_g = Talker::to_group(&mut ada, "g");
        let mut to_h = Talker::to_group(&mut bob, "h");
        let mut to_home = Talker::to_client(&mut carl, &home_id);
        tokio::try_join!(
            to_g.talk(4, 1_300),
            to_h.talk(4, 1_300),
            to_home.talk(4, 300),
            hears(&mut a, 5_200),
            hears(&mut b, 5_200),
            hears(&mut c, 5_200),
            hears(&mut d, 5_200),
            hears(&mut e, 5_200),
            hears(&mut f, 5_200),
            hears(&mut home, 1_200),
        )?;
        for node in &scene.nodes {
            has_lost_nothing(node).await?;
        }
        was_bad(wire, 3)
    })
}

/// A member of the group on each node.
async fn members(scene: &Scene, group: &str) -> Result<[Console; 3]> {
    let [first, second, third] = &scene.nodes[..] else {
        anyhow::bail!("three nodes");
    };
    Ok([
        first.console(&[("group", group)]).await?,
        second.console(&[("group", group)]).await?,
        third.console(&[("group", group)]).await?,
    ])
}

#[test]
fn a_node_reads_what_it_wrote_elsewhere() -> Result<()> {
    on_wire(4, async |wire| {
        wire.everywhere(BAD);
        let scene = Scene::on(wire, 3, PATIENT).await?;
        let mut ada = scene.nodes[0].console(&[]).await?;
        let mut bob = scene.nodes[1].console(&[]).await?;
        let mut carl = scene.nodes[2].console(&[]).await?;
        for round in 0..50 {
            let uid = format!("bob {round}");
            ada.ok(json!({ "do": "bind-uid", "client": bob.id(), "uid": uid }))
                .await?;
            ada.ok(json!({ "do": "send-to-uid", "uid": uid, "text": uid }))
                .await?;
            assert_eq!(bob.next().await?.to_text()?, uid);
            // Its answer to somebody else comes after the news.
            reaches(&mut bob, &mut carl).await?;
            carl.ok(json!({ "do": "send-to-uid", "uid": uid, "text": round.to_string() }))
                .await?;
            assert_eq!(bob.next().await?.to_text()?, round.to_string());
        }
        assert_eq!(bob.heard().await?, []);
        for node in &scene.nodes {
            has_lost_nothing(node).await?;
        }
        was_bad(wire, 3)
    })
}

/// Something of everything has happened between the first places. (Of some thousand packets
/// ten come twice.)
fn was_bad(wire: &Wire, places: usize) -> Result<()> {
    let pairs = (0..places).flat_map(|from| (0..places).map(move |to| (from, to)));
    let carried: Vec<Carried> = pairs.map(|(from, to)| wire.carried(from, to)).collect();
    let sum = |of: fn(&Carried) -> u64| carried.iter().map(of).sum::<u64>();
    ensure!(sum(|carried| carried.delayed) > 0, "{carried:?}");
    ensure!(sum(|carried| carried.lost) > 0, "{carried:?}");
    ensure!(sum(|carried| carried.doubled) > 0, "{carried:?}");
    ensure!(sum(|carried| carried.reordered) > 0, "{carried:?}");
    Ok(())
}
