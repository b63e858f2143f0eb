//! Workers that come and go while a gateway holds the clients.

use anyhow::{Context as _, Result};
use jackfield_tests::{Cluster, Console, End, Node, Protocol, within};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::Split;

/// Limits with which a silent worker is noticed soon.
const SOON: &str = "[limits]\nsuspect_after = '1500ms'\ngone_after = '3s'\nask_timeout = '1s'\n";

/// The node that runs a client's events.
async fn worker_of(console: &mut Console) -> Result<String> {
    let identity = console.ok(json!({ "do": "identify" })).await?;
    Ok(identity["node"].as_str().context("a node")?.to_owned())
}

/// Which of the workers runs a client's events.
async fn place_of(split: &Split, console: &mut Console) -> Result<usize> {
    let node = worker_of(console).await?;
    for (place, worker) in split.workers.iter().enumerate() {
        if worker.incarnation().await? == node {
            return Ok(place);
        }
    }
    anyhow::bail!("{node} is none of the workers")
}

#[tokio::test]
async fn a_client_stays_with_its_worker_and_clients_are_spread() -> Result<()> {
    let mut split = Split::start(2, |node| node.plugin("console")).await?;
    let mut consoles = Vec::new();
    for _ in 0..40 {
        let mut console = split.gateway.console(&[]).await?;
        let worker = worker_of(&mut console).await?;
        consoles.push((console, worker));
    }
    let first = consoles[0].1.clone();
    let of_first = consoles
        .iter()
        .filter(|(_, worker)| *worker == first)
        .count();
    assert!((1..40).contains(&of_first), "all are one worker's");
    // A third one takes nobody from the others.
    let third = Node::builder()
        .alone()
        .plugin("console")
        .registered_at(&[&split.register]);
    split.workers.push(third.start().await?);
    split.gateway.wait_for_peers(3).await?;
    split.gateway.wait_for_plugins_of(&split.workers[2]).await?;
    for (console, worker) in &mut consoles {
        assert_eq!(worker_of(console).await?, *worker);
    }
    Ok(())
}

#[tokio::test]
async fn a_worker_that_drains_hands_its_clients_over() -> Result<()> {
    let mut split = Split::start(2, |node| node.plugin("console")).await?;
    let mut console = split.gateway.console(&[("group", "tea")]).await?;
    let place = place_of(&split, &mut console).await?;
    // Under way when the worker is told to end: it is handled to its end.
    let leaving = split.workers.remove(place);
    let nap = leaving.put_to_sleep(&mut console, 300).await?;
    let stopped = leaving.stop().await?;
    assert!(stopped.status.success());
    assert!(console.answer(nap).await?["ok"].is_null());
    assert_eq!(place_of(&split, &mut console).await?, 0);
    assert_eq!(split.gateway.counters().await?.get("events_lost")?, 0);
    Ok(())
}

#[tokio::test]
async fn an_event_under_way_at_a_killed_worker_is_lost_and_said_to_be() -> Result<()> {
    let mut split = Split::with_config(2, SOON, |node| node.plugin("console")).await?;
    let mut console = split.gateway.console(&[("group", "tea")]).await?;
    let api = split.gateway.calls(Protocol::Http)?;
    let mut events = api.watch(&["console"]).await?;
    let place = place_of(&split, &mut console).await?;
    let killed = split.workers.remove(place);
    killed.put_to_sleep(&mut console, 4_000).await?;
    killed.kill().await?;
    // What it says meanwhile waits, and goes to the other worker.
    assert_eq!(place_of(&split, &mut console).await?, 0);
    let lost = events.next().await?.context("an event")?;
    let expected = json!({ "client": console.id(), "function": "on-message" });
    assert_eq!(lost["event_lost"], expected, "{lost}");
    assert_eq!(split.gateway.counters().await?.get("events_lost")?, 1);
    let said = split
        .gateway
        .wait_for_log(|line| line.says("a node is gone"))
        .await?;
    assert_eq!(said.number("events"), Some(1), "{:?}", said.fields());
    // It was nobody else's: the client is as it was.
    let online = console
        .ok(json!({ "do": "get-client-count-by-group", "group": "tea" }))
        .await?;
    assert_eq!(online["value"], 1);
    Ok(())
}

/// What has not gone out to a worker when its connection ends does not end with it.
#[tokio::test]
async fn what_a_killed_worker_never_saw_goes_to_another_one() -> Result<()> {
    let mut split = Split::with_config(2, SOON, |node| node.plugin("console")).await?;
    let mut consoles = Vec::new();
    for _ in 0..8 {
        let mut console = split.gateway.console(&[]).await?;
        let place = place_of(&split, &mut console).await?;
        consoles.push((console, place));
    }
    let place = consoles[0].1;
    consoles.retain(|console| console.1 == place);
    let killed = split.workers.remove(place);
    killed.kill().await?;
    // The connection is gone, and nobody says yet that the worker is.
    while split.gateway.dialled().await?.is_empty() {}
    let mut asked = Vec::new();
    for (console, _) in &mut consoles {
        asked.push(console.start(json!({ "do": "identify" })).await?);
    }
    // Newcomers too, some of whom would be that worker's.
    let comers = (0..8).map(|_| split.gateway.console(&[]));
    futures_util::future::try_join_all(comers).await?;
    let kept = split.workers[0].incarnation().await?;
    for ((console, _), number) in consoles.iter_mut().zip(asked) {
        let identity = console.answer(number).await?;
        assert_eq!(identity["ok"]["node"], kept.as_str(), "{identity}");
    }
    assert_eq!(split.gateway.counters().await?.get("events_lost")?, 0);
    let said = split
        .gateway
        .wait_for_log(|line| line.says("a node is gone"))
        .await?;
    assert_eq!(said.number("events"), Some(0), "{:?}", said.fields());
    Ok(())
}

#[tokio::test]
async fn an_on_close_whose_worker_is_killed_is_told_another_one() -> Result<()> {
    let mut split = Split::with_config(2, SOON, |node| node.plugin("console")).await?;
    let mut watcher = split.gateway.watcher().await?;
    let watching = place_of(&split, &mut watcher).await?;
    // One whose worker is not the watcher's.
    let mut ada = loop {
        let mut console = split.gateway.console(&[("uid", "ada")]).await?;
        if place_of(&split, &mut console).await? != watching {
            break console;
        }
        console.leave().await?;
    };
    let killed = split.workers.remove(1 - watching);
    killed.signal(Signal::STOP)?;
    ada.leave_with(4000, "dinner").await?;
    killed.kill().await?;
    let departure = watcher.departure(ada.id()).await?;
    assert_eq!(
        (&departure["code"], &departure["uid"]),
        (&json!(4000), &json!("ada"))
    );
    assert_eq!(split.gateway.counters().await?.get("on_close_lost")?, 0);
    Ok(())
}

#[tokio::test]
async fn without_a_worker_events_wait_for_one() -> Result<()> {
    let mut split = Split::console().await?;
    let mut console = split.gateway.console(&[("uid", "ada")]).await?;
    split.workers.remove(0).stop().await?;
    split.gateway.wait_for_peers(0).await?;
    let asked = console
        .start(json!({ "do": "get-uid-by-client-id" }))
        .await?;
    assert_eq!(split.gateway.refusal("/console").await?.status, 503);
    let another = Node::builder()
        .alone()
        .plugin("console")
        .registered_at(&[&split.register]);
    let _another = another.start().await?;
    assert_eq!(console.answer(asked).await?["ok"], "ada");
    Ok(())
}

#[tokio::test]
async fn but_not_for_ever() -> Result<()> {
    let config = "[limits]\nworker_wait = '200ms'\ndrain_timeout = '1s'\n";
    let mut split = Split::with_config(1, config, |node| node.plugin("console")).await?;
    let mut console = split.gateway.console(&[]).await?;
    split.workers.remove(0).stop().await?;
    split.gateway.wait_for_peers(0).await?;
    console.start(json!({ "do": "identify" })).await?;
    assert_eq!(console.end().await?.code(), 1013);
    // Its end could be told to nobody, and that is not kept quiet.
    split.gateway.wait_for_counter("on_close_lost", 1).await?;
    let counters = split.gateway.counters().await?;
    assert_eq!(
        counters.get("events_unserved")?,
        2,
        "a message and an on-close"
    );
    split
        .gateway
        .wait_for_log(|line| line.says("an on-close is lost"))
        .await?;
    Ok(())
}

/// A removed plugin's clients are drained wherever they are, and their ends told.
#[tokio::test]
async fn a_plugin_that_is_removed_drains_the_gateways_clients() -> Result<()> {
    let split = Split::console().await?;
    let mut consoles = Vec::new();
    for _ in 0..20 {
        consoles.push(split.gateway.console(&[]).await?);
    }
    split.workers[0].folder().remove("console")?;
    for console in &mut consoles {
        assert_eq!(
            console.end().await?,
            End::closed(1001, "the service has ended")
        );
    }
    split.gateway.wait_for_counter("clients_left", 20).await?;
    assert_eq!(split.gateway.counters().await?.get("on_close_lost")?, 0);
    let gone = async {
        while split.gateway.refusal("/console").await?.status != 404 {}
        anyhow::Ok(())
    };
    within("the path to be nobody's", gone).await
}

/// With another worker that still has it, nobody is closed.
#[tokio::test]
async fn removed_from_one_worker_it_goes_on_at_the_other() -> Result<()> {
    let split = Split::start(2, |node| node.plugin("console")).await?;
    let mut consoles = Vec::new();
    for _ in 0..20 {
        consoles.push(split.gateway.console(&[]).await?);
    }
    split.workers[0].folder().remove("console")?;
    split.workers[0]
        .wait_for_log(|line| line.says("plugin removed"))
        .await?;
    let other = split.workers[1].incarnation().await?;
    for console in &mut consoles {
        let moved = async {
            while worker_of(console).await? != other {}
            anyhow::Ok(())
        };
        within("the client to be the other worker's", moved).await?;
    }
    Ok(())
}

/// A worker that is stopped, not killed: what was under way is given up, and nothing else waits.
#[tokio::test]
async fn a_stopped_worker_holds_up_its_own_events_only() -> Result<()> {
    let split = Split::with_config(2, SOON, |node| node.plugin("console")).await?;
    let mut consoles = Vec::new();
    let mut places = Vec::new();
    for _ in 0..16 {
        let mut console = split.gateway.console(&[]).await?;
        places.push(place_of(&split, &mut console).await?);
        consoles.push(console);
    }
    let stopped = places[0];
    let kept = split.workers[1 - stopped].incarnation().await?;
    split.workers[stopped].signal(Signal::STOP)?;
    for (console, place) in consoles.iter_mut().zip(&places) {
        if *place != stopped {
            assert_eq!(worker_of(console).await?, kept);
        }
    }
    // Given up when the worker counts as gone; the event after it goes to the other one.
    consoles[0].start(json!({ "do": "identify" })).await?;
    assert_eq!(worker_of(&mut consoles[0]).await?, kept);
    split.workers[stopped].signal(Signal::CONT)?;
    split.gateway.wait_for_peers(2).await?;
    // It is the other one's from now on.
    assert_eq!(worker_of(&mut consoles[0]).await?, kept);
    Ok(())
}

#[tokio::test]
async fn events_of_peers_have_a_bound() -> Result<()> {
    let config = "[limits]\npeer_events = 1\n";
    let split = Split::with_config(1, config, |node| {
        node.plugin("console").plugin_from("other", "console")
    })
    .await?;
    let mut asleep = split.gateway.console(&[]).await?;
    let mut other = split.gateway.console(&[]).await?;
    let mut others = split.gateway.console_named("other", &[]).await?;
    split.workers[0].put_to_sleep(&mut asleep, 2_000).await?;
    // The nap may not have begun yet; once it has, there is no room for another event.
    let end = loop {
        let asked = other.start(json!({ "do": "identify" })).await?;
        if let Err(end) = other.answer_or_end(asked).await? {
            break end;
        }
    };
    assert_eq!(end.code(), 1013);
    // Another plugin has a bound of its own.
    others.ok(json!({ "do": "identify" })).await?;
    assert!(
        split.workers[0]
            .counters()
            .await?
            .get("peer_events_refused")?
            >= 1
    );
    Ok(())
}

/// An `on-close` is owed: where there is no room for it now, there is later.
#[tokio::test]
async fn ends_wait_for_room() -> Result<()> {
    let config = "[limits]\npeer_events = 1\n";
    let split = Split::with_config(1, config, |node| node.plugin("console")).await?;
    let mut asleep = split.gateway.console(&[]).await?;
    let mut leaving = Vec::new();
    for _ in 0..20 {
        leaving.push(split.gateway.console(&[]).await?);
    }
    split.workers[0].put_to_sleep(&mut asleep, 1_000).await?;
    for console in leaving {
        console.vanish()?;
    }
    split.gateway.wait_for_counter("clients_left", 20).await?;
    let counters = split.gateway.counters().await?;
    assert_eq!(counters.get("on_close_lost")?, 0);
    // Each was handled once, whatever was refused before.
    let worker = split.workers[0].counters().await?;
    assert!(worker.get("peer_events_refused")? >= 1);
    Ok(())
}

/// A node that has lost the plugin itself, and whose clients another one runs.
#[tokio::test]
async fn removed_here_and_then_there_it_closes_the_clients() -> Result<()> {
    let cluster = Cluster::start(2, |node| node.plugin("console")).await?;
    let (here, there) = (&cluster[0], &cluster[1]);
    here.wait_for_plugins_of(there).await?;
    here.folder().remove("console")?;
    // Once it has gone here, whoever comes is the other one's.
    let mut console = loop {
        if let Ok(console) = here.console(&[]).await
            && here.counters().await?.get("events_elsewhere")? > 0
        {
            break console;
        }
    };
    assert_eq!(worker_of(&mut console).await?, there.incarnation().await?);
    there.folder().remove("console")?;
    assert_eq!(
        console.end().await?,
        End::closed(1001, "the service has ended")
    );
    let left = here.counters().await?.get("clients_accepted")?;
    here.wait_for_counter("clients_left", left).await?;
    assert_eq!(here.counters().await?.get("on_close_lost")?, 0);
    Ok(())
}

/// What a trap costs is the same as where the plugin runs.
#[tokio::test]
async fn a_trap_costs_its_client_one_event_or_the_connection() -> Result<()> {
    for (policy, code) in [("close", Some(1011)), ("keep", None)] {
        let manifest = format!("[policies]\non_trap = '{policy}'");
        let split = Split::start(1, |node| {
            node.plugin("console").manifest("console", &manifest)
        })
        .await?;
        let mut console = split.gateway.console(&[]).await?;
        let mut other = split.gateway.console(&[]).await?;
        console.start(json!({ "do": "panic" })).await?;
        match code {
            Some(code) => assert_eq!(console.end().await?.code(), code),
            None => drop(worker_of(&mut console).await?),
        }
        worker_of(&mut other).await?;
        let counters = split.workers[0].counters().await?;
        assert_eq!(counters.get("traps_panic")?, 1);
    }
    Ok(())
}

/// Clients of a gateway and of its worker reach one another.
#[tokio::test]
async fn sends_reach_clients_wherever_they_are() -> Result<()> {
    let split = Split::console().await?;
    let mut there = split.workers[0].console(&[("group", "tea")]).await?;
    let mut here = split.gateway.console(&[("group", "tea")]).await?;
    let to_group = json!({ "do": "send-to-group", "group": "tea", "text": "m" });
    for _ in 0..100 {
        here.ok(to_group.clone()).await?;
        assert_eq!(there.next().await?.to_text()?, "m");
        assert_eq!(here.next().await?.to_text()?, "m");
    }
    let reached: Value = there.ok(to_group).await?;
    assert_eq!(reached["clients"], 2);
    Ok(())
}

/// Two gateways and two workers: all of it once more, crossed.
#[tokio::test]
async fn gateways_share_workers() -> Result<()> {
    let cluster = Cluster::start(2, |node| node.plugin("console")).await?;
    let mut gateways = Vec::new();
    for _ in 0..2 {
        let gateway = Node::builder()
            .gateway()
            .registered_at(&[cluster.register()]);
        gateways.push(gateway.start().await?);
    }
    for node in cluster.nodes().iter().chain(&gateways) {
        node.wait_for_peers(3).await?;
    }
    for gateway in &gateways {
        for worker in cluster.nodes() {
            gateway.wait_for_plugins_of(worker).await?;
        }
    }
    let mut ada = gateways[0].console(&[("uid", "ada")]).await?;
    let mut bob = gateways[1].console(&[("uid", "bob")]).await?;
    for _ in 0..50 {
        // Bind and send at once, each through its own worker.
        ada.ok(json!({ "do": "join-group", "client": bob.id(), "group": "tea" }))
            .await?;
        let reached = ada
            .ok(json!({ "do": "send-to-group", "group": "tea", "text": "m" }))
            .await?;
        assert_eq!(reached["clients"], 1);
        assert_eq!(bob.next().await?.to_text()?, "m");
        ada.ok(json!({ "do": "leave-group", "client": bob.id(), "group": "tea" }))
            .await?;
    }
    Ok(())
}
