//! Timers: when they fire and who hears it, across reloads, traps and the plugin's end.
//!
//! The plugin `console` tells the group `timers` of each that fires. That one fires no more is
//! known by others that were set after it was ended, and have fired.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use jackfield_tests::{
    Console, LogLine, Node, NodeBuilder, component, error_code, run_node_binary,
};
use serde_json::{Value, json};

#[tokio::test]
async fn one_fires_once() -> Result<()> {
    let node = console("").start().await?;
    let mut ada = listener(&node).await?;
    assert_eq!(ada.ok(set("tea", 10)).await?, Value::Null);
    let fired = json!({
        "event": "timer",
        "name": "tea",
        "generation": 1,
        "node": node.incarnation().await?,
    });
    assert_eq!(ada.next_event().await?, fired);
    assert_eq!(ada.ok(cancel("tea")).await?, false, "it is none any more");
    assert_eq!(names_until_quiet(&mut ada).await?, [""; 0]);
    assert_eq!(node.counters().await?.get("timers_fired")?, 3);
    Ok(())
}

#[tokio::test]
async fn one_fires_again_and_again_until_it_is_cancelled() -> Result<()> {
    let node = console("").start().await?;
    let mut ada = listener(&node).await?;
    ada.ok(every("tick", 10)).await?;
    for _ in 0..5 {
        assert_eq!(fired(&mut ada).await?, "tick");
    }
    assert_eq!(ada.ok(cancel("tick")).await?, true);
    assert_eq!(ada.ok(cancel("tick")).await?, false);
    names_until_quiet(&mut ada).await?;
    assert_eq!(names_until_quiet(&mut ada).await?, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn one_takes_the_place_of_another_of_its_name() -> Result<()> {
    let node = console("").start().await?;
    let mut ada = listener(&node).await?;
    ada.ok(set("tea", 3_600_000)).await?;
    ada.ok(every("tea", 10)).await?;
    for _ in 0..2 {
        assert_eq!(fired(&mut ada).await?, "tea");
    }
    ada.ok(set("tea", 3_600_000)).await?;
    names_until_quiet(&mut ada).await?;
    assert_eq!(names_until_quiet(&mut ada).await?, [""; 0]);
    let of_cluster = json!({ "do": "cancel-timer", "name": "tea", "scope": "cluster" });
    assert_eq!(ada.ok(of_cluster).await?, false, "that is another one");
    assert_eq!(ada.ok(cancel("tea")).await?, true);
    Ok(())
}

#[tokio::test]
async fn each_fires_once_while_the_plugin_is_reloaded() -> Result<()> {
    const TIMERS: usize = 100;
    const RELOADS: u64 = 3;
    let node = console("").start().await?;
    let mut ada = listener(&node).await?;
    ada.ok(every("tick", 10)).await?;
    assert_eq!(fired(&mut ada).await?, "tick");
    for number in 0..TIMERS {
        ada.ok(set(&number.to_string(), 10 + 20 * number as u64))
            .await?;
    }
    for reload in 1..=RELOADS {
        node.folder()
            .put_manifest("console", &format!("# {reload}"))?;
        node.generation_loaded("console", reload + 1).await?;
    }
    let (mut times, mut newest) = (BTreeMap::new(), 0);
    while newest <= RELOADS || times.len() < TIMERS {
        let event = ada.next_event().await?;
        newest = newest.max(event["generation"].as_u64().context("a generation")?);
        let name = event["name"].as_str().context("a name")?;
        if name != "tick" {
            *times.entry(name.to_owned()).or_insert(0) += 1;
        }
    }
    ada.ok(cancel("tick")).await?;
    for name in names_until_quiet(&mut ada).await? {
        assert_eq!(name, "tick", "nothing fires twice");
    }
    assert!(times.values().all(|times| *times == 1), "{times:?}");
    Ok(())
}

#[tokio::test]
async fn a_generation_that_does_not_hear_them_says_so_once_and_the_next_one_hears_them()
-> Result<()> {
    let node = console("").start().await?;
    let mut ada = listener(&node).await?;
    ada.ok(every("tick", 10)).await?;
    node.folder().put("console", "echo")?;
    node.generation_loaded("console", 2).await?;
    let unheard = |line: &LogLine| line.says("nobody hears it");
    let line = node.wait_for_log(unheard).await?;
    assert_eq!(
        (line.number("generation"), line.text("timer")),
        (Some(2), "tick")
    );
    node.folder().put("console", "console")?;
    node.generation_loaded("console", 3).await?;
    while ada.next_event().await?["generation"] != 3 {}
    assert_eq!(node.log().so_far(unheard).len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_plugin_that_sets_them_and_exports_no_handler_is_told_when_it_is_loaded() -> Result<()> {
    let node = Node::builder().alone().plugin("deaf").start().await?;
    let advice = "it imports set-timer and does not export timer-handler";
    let line = node.wait_for_log(|line| line.says(advice)).await?;
    assert_eq!((line.level(), line.text("plugin")), ("WARN", "deaf"));

    for (name, is_advised) in [("deaf", true), ("console", false), ("echo", false)] {
        let path = component(name)?;
        let checked =
            run_node_binary(&["check", path.to_str().context("a readable path")?]).await?;
        let shown = checked.stdout;
        assert_eq!(checked.code, 0, "{shown}");
        assert_eq!(
            shown.contains(&format!("warning: {advice}")),
            is_advised,
            "{shown}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn they_end_with_their_plugin() -> Result<()> {
    let node = console("").start().await?;
    let mut ada = listener(&node).await?;
    ada.ok(every("tick", 10)).await?;
    ada.ok(set("later", 3_600_000)).await?;
    node.folder().remove("console")?;
    assert_eq!(ada.end().await?.code(), 1001);

    node.folder().put("console", "console")?;
    node.generation_loaded("console", 2).await?;
    let mut bob = listener(&node).await?;
    assert_eq!(names_until_quiet(&mut bob).await?, [""; 0]);
    for name in ["tick", "later"] {
        assert_eq!(bob.ok(cancel(name)).await?, false);
    }
    Ok(())
}

#[tokio::test]
async fn one_set_by_on_start_fires_and_on_stop_comes_last() -> Result<()> {
    let node = Node::builder().alone().plugin("ticker").start().await?;
    let ticks = |line: &LogLine| line.message() == "tick";
    node.log().nth(3, ticks).await?;
    node.folder().put_manifest("ticker", "# again")?;
    node.generation_loaded("ticker", 2).await?;
    let of_second = |line: &LogLine| ticks(line) && line.number("generation") == Some(2);
    node.log().nth(3, of_second).await?;

    let stopped = node.stop().await?;
    let said = |line: &LogLine| line.text("plugin") == "ticker" && line.text("stream") == "log";
    let said = stopped.log.so_far(said);
    for generation in [1, 2] {
        let mut of_it = said
            .iter()
            .filter(|line| line.number("generation") == Some(generation));
        let last = of_it.next_back().context("a line")?;
        assert_eq!(last.message(), "stopped", "{generation}");
    }
    Ok(())
}

#[tokio::test]
async fn a_trap_costs_one_event() -> Result<()> {
    let node = console("[limits]\nevent_timeout = '50ms'\nwait_timeout = '2s'")
        .start()
        .await?;
    let mut ada = listener(&node).await?;
    for (nth, (bad, kind)) in [
        ("do:panic", "panic"),
        ("do:spin", "deadline"),
        (r#"do:{"do":"sleep","ms":3600000}"#, "wait"),
        ("do:exit", "exit"),
    ]
    .into_iter()
    .enumerate()
    {
        ada.ok(set(bad, 10)).await?;
        assert_eq!(fired(&mut ada).await?, bad);
        let line = node.log().nth(nth + 1, is_trap).await?;
        assert_eq!(
            (line.text("kind"), line.text("function")),
            (kind, "on-timer")
        );
        assert_eq!((line.text("plugin"), line.text("client")), ("console", ""));
    }
    ada.ok(every("do:panic", 10)).await?;
    for _ in 0..3 {
        assert_eq!(fired(&mut ada).await?, "do:panic", "it goes on");
    }
    Ok(())
}

#[tokio::test]
async fn one_that_spins_holds_up_no_other() -> Result<()> {
    let node = console("[limits]\nevent_timeout = '1h'\nwait_timeout = '1h'")
        .start()
        .await?;
    let mut ada = listener(&node).await?;
    ada.ok(set("do:spin", 10)).await?;
    assert_eq!(fired(&mut ada).await?, "do:spin");
    ada.ok(every("tick", 10)).await?;
    for _ in 0..5 {
        assert_eq!(fired(&mut ada).await?, "tick");
    }
    assert_eq!(node.counters().await?.get("traps_deadline")?, 0);
    node.kill().await
}

#[tokio::test]
async fn of_one_timer_there_is_one_event_at_a_time() -> Result<()> {
    let node = console("").start().await?;
    let mut ada = listener(&node).await?;
    let slow = r#"do:{"do":"sleep","ms":50}"#;
    ada.ok(every(slow, 10)).await?;
    for _ in 0..5 {
        for kind in ["timer", "on-timer"] {
            assert_eq!(ada.next_event().await?["event"], kind);
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_comes_due_while_there_is_no_instance_fires_when_there_is_one() -> Result<()> {
    let node = console("[limits]\ninstances = 1\ncall_wait = '10ms'")
        .start()
        .await?;
    let mut ada = listener(&node).await?;
    let slow = r#"do:{"do":"sleep","ms":300}"#;
    ada.ok(set("tea", 50)).await?;
    ada.ok(set(slow, 10)).await?;
    let mut heard = Vec::new();
    while heard.len() < 3 {
        let event = ada.next_event().await?;
        heard.push(event["name"].as_str().context("a name")?.to_owned());
    }
    assert_eq!(heard.iter().filter(|name| *name == "tea").count(), 1);
    Ok(())
}

#[tokio::test]
async fn there_are_so_many_with_such_names_and_such_times() -> Result<()> {
    let node = console("[limits]\ntimers = 2").start().await?;
    let mut ada = listener(&node).await?;
    let long = |bytes: usize| "n".repeat(bytes);
    let year = 366 * 24 * 60 * 60 * 1000_u64;
    let timer = |after: u64, every: u64| json!({ "do": "set-timer", "name": "t", "after_ms": after, "every_ms": every });
    for (request, words) in [
        (set("", 10), "the timer is empty"),
        (set(&long(257), 10), "257 bytes, more than 256 (name_bytes)"),
        (set("t", 9), "after-ms is 9"),
        (set("t", year + 1), "must be 10 to 31622400000"),
        (timer(10, 0), "every-ms is 0"),
        (timer(10, year + 1), "every-ms"),
        (cancel(""), "the timer is empty"),
    ] {
        let answer = ada.call(request).await?;
        assert_eq!(error_code(&answer), Some("invalid-argument"), "{answer}");
        assert!(answer.to_string().contains(words), "{answer}");
    }
    ada.ok(set(&long(256), year)).await?;
    ada.ok(timer(year, year)).await?;
    let answer = ada.call(set("third", 10)).await?;
    assert_eq!(error_code(&answer), Some("limit-exceeded"));
    assert!(answer.to_string().contains("limit of 2 (timers)"));
    ada.ok(timer(year, 10)).await?;
    assert_eq!(ada.ok(cancel("t")).await?, true);
    ada.ok(set("third", 10)).await?;
    assert_eq!(fired(&mut ada).await?, "third");
    Ok(())
}

#[tokio::test]
async fn a_plugin_that_has_nothing_to_do_with_timers_knows_nothing_of_them() -> Result<()> {
    for (name, knows) in [("echo", false), ("console", true)] {
        let path = component(name)?;
        let path = path.to_str().context("a readable path")?;
        let shown = run_node_binary(&["check", path]).await?.stdout;
        for interface in [
            "imports jackfield:plugin/timers@",
            "exports jackfield:plugin/timer-handler@",
        ] {
            assert_eq!(shown.contains(interface), knows, "{shown}");
        }
    }
    Ok(())
}

/// One node with the plugin `console`, whose manifest this is.
fn console(manifest: &str) -> NodeBuilder {
    let node = Node::builder().alone().plugin("console");
    node.manifest("console", manifest)
}

/// A client that hears of timers that fire.
async fn listener(node: &Node) -> Result<Console> {
    node.console(&[("group", "timers")]).await
}

fn set(name: &str, after_ms: u64) -> Value {
    json!({ "do": "set-timer", "name": name, "after_ms": after_ms })
}

fn every(name: &str, ms: u64) -> Value {
    json!({ "do": "set-timer", "name": name, "after_ms": ms, "every_ms": ms })
}

fn cancel(name: &str) -> Value {
    json!({ "do": "cancel-timer", "name": name })
}

/// The name of the next timer that fires.
async fn fired(client: &mut Console) -> Result<String> {
    let event = client.next_event().await?;
    ensure!(event["event"] == "timer", "{event} came instead");
    Ok(event["name"].as_str().context("a name")?.to_owned())
}

/// Which timers fire until two more have that are set now, one after the other.
async fn names_until_quiet(client: &mut Console) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for marker in ["first", "second"] {
        client.ok(set(marker, 20)).await?;
        loop {
            let name = fired(client).await?;
            if name == marker {
                break;
            }
            names.push(name);
        }
    }
    Ok(names)
}

fn is_trap(line: &LogLine) -> bool {
    line.says("an event trapped")
}
