//! A link that breaks, is made again, and has lost nothing; or too much waited for it.

use anyhow::Result;
use jackfield_tests::{Console, LogLine, Node, NodeBuilder, Proxy, Register, within};
use serde_json::{Value, json};

use crate::traffic::{Talker, next_number};
use crate::{becomes, console, reaches};

/// Two nodes, a proxy before each.
struct Scene {
    _register: Register,
    here: Node,
    there: Node,
    /// Before `here`.
    from_there: Proxy,
    /// Before `there`.
    from_here: Proxy,
}

impl Scene {
    async fn new(config: &str) -> Result<Scene> {
        let register = Register::start().await?;
        let (from_there, from_here) = (Proxy::start().await?, Proxy::start().await?);
        let node = || -> NodeBuilder {
            let node = Node::builder().alone().plugin("console").config(config);
            node.registered_at(&[&register])
        };
        let here = node().start_behind(&from_there).await?;
        let there = node().start_behind(&from_here).await?;
        here.wait_for_peers(1).await?;
        there.wait_for_peers(1).await?;
        Ok(Scene {
            _register: register,
            here,
            there,
            from_there,
            from_here,
        })
    }

    /// Waits until nothing waits in the link to `there`.
    async fn link_is_empty(&self) -> Result<()> {
        let emptied = async {
            loop {
                let peers = self.here.peers().await?;
                if peers.iter().all(|peer| peer["waiting_frames"] == 0) {
                    return anyhow::Ok(());
                }
            }
        };
        within("the link to be empty", emptied).await
    }
}

#[tokio::test]
async fn connections_that_the_network_has_lost_are_closed_at_last() -> Result<()> {
    let scene = Scene::new("").await?;
    let mut ada = scene.here.console(&[]).await?;
    let mut bob = scene.there.console(&[]).await?;
    reaches(&mut ada, &mut bob).await?;
    reaches(&mut bob, &mut ada).await?;
    // A node that looks for itself at its address makes one more for a moment.
    let one_each = async {
        while scene.here.mesh_connections()? > 1 || scene.there.mesh_connections()? > 1 {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    };
    within("one connection each way", one_each).await?;

    scene.from_here.strand();
    scene.from_there.strand();
    reaches(&mut ada, &mut bob).await?;
    reaches(&mut bob, &mut ada).await?;
    assert!(scene.there.mesh_connections()? >= 2);
    let closed = async {
        while scene.here.mesh_connections()? > 1 || scene.there.mesh_connections()? > 1 {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    };
    within("the lost connections to be closed", closed).await?;
    reaches(&mut ada, &mut bob).await?;
    reaches(&mut bob, &mut ada).await?;
    assert_eq!(scene.here.counters().await?.get("mesh_dropped")?, 0);
    Ok(())
}

#[tokio::test]
async fn a_node_without_files_is_linked_again_once_it_has_some() -> Result<()> {
    let scene = Scene::new("").await?;
    let mut ada = scene.here.console(&[]).await?;
    let mut bob = scene.there.console(&[]).await?;
    scene.there.keep_out_of_files(true)?;
    scene.from_here.cut_for_a_moment();
    let is_news = |line: &LogLine| line.says("nodes cannot be accepted");
    scene.there.wait_for_log(is_news).await?;
    scene.there.keep_out_of_files(false)?;
    reaches(&mut ada, &mut bob).await?;
    assert_eq!(scene.there.log().so_far(is_news).len(), 1);
    Ok(())
}

#[tokio::test]
async fn what_a_cut_link_has_no_room_for_is_dropped_counted_and_said_once() -> Result<()> {
    let scene = Scene::new("[limits]\nlink_bytes = 65536\n").await?;
    let mut ada = scene.here.console(&[]).await?;
    let mut bob = scene.there.console(&[]).await?;
    let there = scene.there.incarnation().await?;
    ada.ok(json!({ "do": "join-group", "client": bob.id(), "group": "g" }))
        .await?;
    scene.link_is_empty().await?;
    scene.from_here.cut();

    let mut talker = Talker::to_group(&mut ada, "g");
    let answers = talker.say(300, &"m".repeat(1000)).await?;
    let named: Vec<bool> = answers
        .iter()
        .map(|answer| answer["missing"] == json!([there]))
        .collect();
    assert!(named.is_sorted(), "the first ones fit: {named:?}");
    let dropped = named.iter().filter(|is_missing| **is_missing).count();
    assert!((200..270).contains(&dropped), "{dropped} of 300");
    scene.from_here.restore();
    scene.link_is_empty().await?;
    talker.say(1, "").await?;
    let said = talker.said();

    for expected in 0..300 - dropped {
        assert_eq!(next_number(&mut bob).await?, expected);
    }
    assert_eq!(next_number(&mut bob).await?, said - 1);
    assert_eq!(bob.heard().await?, []);
    let counters = scene.here.counters().await?;
    assert_eq!(counters.get("mesh_dropped")?, dropped as u64);
    assert_eq!(scene.here.peers().await?[0]["dropped"], dropped);
    let lines = scene.here.log().so_far(|line| line.says("link is full"));
    assert_eq!(lines.len(), 1, "{lines:?}");
    Ok(())
}

#[tokio::test]
async fn a_question_whose_answer_finds_no_room_costs_no_messages() -> Result<()> {
    let scene = Scene::new("[limits]\nlink_bytes = 65536\nask_timeout = '500ms'\n").await?;
    let mut ada = scene.here.console(&[]).await?;
    let mut bob = scene.there.console(&[]).await?;
    let bob_id = bob.id().to_owned();
    reaches(&mut ada, &mut bob).await?;
    scene.link_is_empty().await?;
    // From there to here all is well.
    scene.from_here.cut();

    ada.ok(json!({ "do": "join-group", "client": ada.id(), "group": "g" }))
        .await?;
    let filler = "m".repeat(1000);
    let send = json!({ "do": "send-to-client", "client": bob_id, "text": filler });
    let mut taken = 0;
    while ada.call(send.clone()).await?.get("ok").is_some() {
        taken += 1;
    }
    assert!((40..70).contains(&taken), "{taken} messages of 64 KiB");
    let info = json!({ "k": "v".repeat(2000) });
    ada.ok(json!({ "do": "set-info", "info": info })).await?;
    let question = json!({ "do": "get-info", "client": ada.id() });
    assert_eq!(bob.error(question.clone()).await?, "timed-out");
    scene.from_here.restore();

    for _ in 0..taken {
        assert_eq!(bob.next().await?.to_text()?, filler);
    }
    becomes(&mut bob, question, &info).await
}

#[tokio::test]
async fn a_link_that_is_too_slow_says_so_now_and_then() -> Result<()> {
    let scene = Scene::new("[limits]\nlink_bytes = 65536\n").await?;
    let mut ada = scene.here.console(&[]).await?;
    let mut bob = scene.there.console(&[("group", "g")]).await?;
    let count = json!({ "do": "get-client-count-by-group", "group": "g" });
    becomes(&mut ada, count, &json!({ "value": 1, "missing": [] })).await?;

    // Four mebibytes in one event: a link of 64 KiB is full most of the time.
    let text = "m".repeat(4000);
    let send = json!({ "do": "send-to-group", "group": "g", "text": text });
    let repeat = json!({ "do": "repeat", "times": 1000, "request": send });
    let flooding = async {
        ada.ok(repeat.clone()).await?;
        ada.ok(repeat.clone()).await?;
        ada.ok(repeat).await?;
        scene.link_is_empty().await?;
        ada.ok(json!({ "do": "send-to-group", "group": "g", "text": "end" }))
            .await?;
        anyhow::Ok(())
    };
    let hearing = async {
        let mut heard = 0;
        while bob.next().await?.to_text()? != "end" {
            heard += 1;
        }
        anyhow::Ok(heard)
    };
    let ((), heard) = tokio::try_join!(flooding, hearing)?;
    let dropped = scene.here.counters().await?.get("mesh_dropped")?;
    assert!(dropped > 0, "it was never too much");
    assert_eq!(heard + dropped, 3000);
    let lines = scene.here.log().so_far(|line| line.says("link is full"));
    assert_eq!(lines.len(), 1, "{lines:?}");
    Ok(())
}

/// Sent all the same it would end the connection, and come again with the next one, for ever.
#[tokio::test]
async fn a_message_that_another_node_does_not_take_is_missing_there_and_the_link_goes_on()
-> Result<()> {
    let large = "[limits]\nmessage_bytes = 25165824\noutbox_bytes = 33554432\n\
                 [plugin]\nmemory_bytes = 268435456\n";
    let register = Register::start().await?;
    let [here, there] = [large, ""].map(|config| {
        let node = console(config)(Node::builder().alone());
        node.registered_at(&[&register]).start()
    });
    let (here, there) = tokio::try_join!(here, there)?;
    here.wait_for_peers(1).await?;
    there.wait_for_peers(1).await?;
    let mut ada = here.console(&[]).await?;
    let mut bob = there.console(&[("group", "g")]).await?;
    holds(&mut ada, "g", 1).await?;

    let message = "m".repeat(17 << 20);
    let send = json!({ "do": "send-to-group", "group": "g", "text": message });
    let reach = ada.ok(send).await?;
    assert_eq!(reach["missing"], json!([there.incarnation().await?]));
    reaches(&mut ada, &mut bob).await?;
    assert_eq!(here.counters().await?.get("mesh_dropped")?, 1);
    let said = |words: &str| here.log().so_far(|line| line.says(words)).len();
    assert_eq!(said("larger than this node takes from others"), 1);
    assert_eq!(said("not linked to a node"), 0);
    Ok(())
}

/// Waits until a group has so many clients, all nodes asked.
async fn holds(client: &mut Console, group: &str, clients: u64) -> Result<()> {
    let count: Value = json!({ "do": "get-client-count-by-group", "group": group });
    becomes(client, count, &json!({ "value": clients, "missing": [] })).await
}
