//! Bad events: a plugin that panics, spins, waits, eats memory or exits costs its own client
//! that one event, and the log a clear line.
//!
//! The plugin `console` misbehaves as it is asked to. That others are served meanwhile is
//! known by their answers, which come before the counter of the bad event moves.

use anyhow::Result;
use jackfield_tests::{Counters, End, LogLine, Node, NodeBuilder, count, query, within};
use serde_json::{Value, json};

/// What a client hears whose event trapped.
const FAILED: (u16, &str) = (1011, "the server failed at this message");

#[tokio::test]
async fn a_panic() -> Result<()> {
    let line = ends_badly(json!({ "do": "panic", "message": "no tea left" }), "panic").await?;
    assert!(
        line.text("said").contains("panicked at"),
        "{}",
        line.text("said")
    );
    assert!(
        line.text("said").contains("no tea left"),
        "{}",
        line.text("said")
    );
    assert!(
        line.text("backtrace").contains("console"),
        "{}",
        line.text("backtrace")
    );
    Ok(())
}

#[tokio::test]
async fn a_panic_is_logged_once_and_known_as_one_however_long_its_words_are() -> Result<()> {
    let node = short_of_patience().start().await?;
    let [mut ada, mut bob] = node.consoles().await?;
    let message = format!("no tea left {}", "x".repeat(6_000));
    ada.start(json!({ "do": "panic", "message": message }))
        .await?;
    let line = node.wait_for_log(is_trap).await?;
    assert_eq!(line.text("kind"), "panic");
    // What came before it in the same event is its, too.
    bob.start(json!({ "do": "panic", "message": "no milk either" }))
        .await?;
    let line = node.log().nth(2, is_trap).await?;
    assert!(
        line.text("said").contains("no milk either"),
        "{}",
        line.text("said")
    );
    let again = node.log().so_far(|line| line.says("no milk either"));
    assert!(again.is_empty(), "{again:?}");
    Ok(())
}

#[tokio::test]
async fn an_unreachable_instruction() -> Result<()> {
    ends_badly(json!({ "do": "unreachable" }), "unreachable")
        .await
        .map(drop)
}

#[tokio::test]
async fn an_endless_loop() -> Result<()> {
    let line = ends_badly(json!({ "do": "spin" }), "deadline").await?;
    assert!(line.says("event_timeout"), "{}", line.message());
    Ok(())
}

#[tokio::test]
async fn an_endless_loop_of_calls_to_the_node() -> Result<()> {
    ends_badly(json!({ "do": "spin-host" }), "deadline")
        .await
        .map(drop)
}

#[tokio::test]
async fn waiting_without_end() -> Result<()> {
    let line = ends_badly(json!({ "do": "sleep", "ms": 3_600_000 }), "wait").await?;
    assert!(line.says("wait_timeout"), "{}", line.message());
    Ok(())
}

#[tokio::test]
async fn endless_recursion() -> Result<()> {
    ends_badly(json!({ "do": "overflow-stack" }), "stack")
        .await
        .map(drop)
}

#[tokio::test]
async fn memory_eaten_bit_by_bit() -> Result<()> {
    let line = ends_badly(json!({ "do": "eat-memory" }), "memory").await?;
    assert!(line.says("memory_bytes"), "{}", line.message());
    Ok(())
}

#[tokio::test]
async fn one_allocation_beyond_the_limit() -> Result<()> {
    ends_badly(
        json!({ "do": "eat-memory", "bytes": 1_u64 << 30 }),
        "memory",
    )
    .await
    .map(drop)
}

#[tokio::test]
async fn an_exit() -> Result<()> {
    for code in [0, 1] {
        ends_badly(json!({ "do": "exit", "code": code }), "exit").await?;
    }
    Ok(())
}

#[tokio::test]
async fn three_gibibytes_are_refused_and_a_guest_that_takes_no_for_an_answer_goes_on() -> Result<()>
{
    let three_gibibytes = 3_u64 << 30;
    let node = short_of_patience().start().await?;
    let mut ada = node.console(&[]).await?;
    let grow = json!({ "do": "grow-memory", "bytes": three_gibibytes });
    assert_eq!(ada.ok(grow).await?, false);
    assert_eq!(traps(&node.counters().await?), []);

    // Rust's allocator does not even ask for so much.
    ada.start(json!({ "do": "eat-memory", "bytes": three_gibibytes }))
        .await?;
    assert_eq!(ada.end().await?.code(), 1011);
    assert_eq!(traps(&node.counters().await?), [("traps_panic", 1)]);
    assert!(node.resident_bytes()? < three_gibibytes / 8);
    Ok(())
}

#[tokio::test]
async fn where_the_plugin_wants_it_the_client_stays_and_only_the_event_is_lost() -> Result<()> {
    let node = short_of_patience()
        .manifest("console", "[policies]\non-trap = 'keep'")
        .start()
        .await?;
    let mut ada = node.console(&[("uid", "ada")]).await?;
    for (nth, request) in [
        json!({ "do": "panic" }),
        json!({ "do": "spin" }),
        json!({ "do": "exit" }),
    ]
    .into_iter()
    .enumerate()
    {
        ada.start(request).await?;
        assert_eq!(
            ada.ok(json!({ "do": "get-uid-by-client-id" })).await?,
            "ada"
        );
        node.log().nth(nth + 1, is_trap).await?;
    }
    let all = [("traps_deadline", 1), ("traps_exit", 1), ("traps_panic", 1)];
    assert_eq!(traps(&node.counters().await?), all);
    assert_eq!(ada.heard().await?, []);
    Ok(())
}

#[tokio::test]
async fn a_trap_in_on_connect_is_500_and_nobody_has_come() -> Result<()> {
    let node = short_of_patience().start().await?;
    let mut watcher = node.watcher().await?;
    for (nth, name) in ["panic", "spin", "exit"].into_iter().enumerate() {
        let join = r#"{"do":"join-group","group":"g"}"#;
        let path = format!(
            "/console{}",
            query(&[("do", join), ("do", name), ("uid", "ada")])
        );
        let response = node.refusal(&path).await?;
        assert_eq!(response.status, 500);
        assert!(
            !response.body.contains("panicked"),
            "what the log has is not for clients"
        );
        let line = node.log().nth(nth + 1, is_trap).await?;
        assert_eq!(line.text("function"), "on-connect");
    }
    assert_eq!(
        watcher.ok(json!({ "do": "get-all-client-count" })).await?,
        count(1)
    );
    assert_eq!(
        watcher.walk(json!({ "do": "get-all-groups" }), 10).await?,
        ["watch-close"]
    );
    assert_eq!(watcher.heard().await?, [], "no on-close");
    Ok(())
}

#[tokio::test]
async fn a_trap_in_on_close_leaves_nothing_behind_and_the_next_one_works() -> Result<()> {
    let node = short_of_patience().start().await?;
    let mut watcher = node.watcher().await?;
    for (nth, name) in ["panic", "spin", "exit"].into_iter().enumerate() {
        let bad = [("uid", "ada"), ("group", "g"), ("info.on-close", name)];
        let mut ada = node.console(&bad).await?;
        ada.leave().await?;
        watcher.departure(ada.id()).await?;
        let line = node.log().nth(nth + 1, is_trap).await?;
        assert_eq!(
            (line.text("function"), line.text("client")),
            ("on-close", ada.id())
        );

        let mut bob = node.console(&[]).await?;
        bob.leave().await?;
        watcher.departure(bob.id()).await?;
    }
    assert_eq!(
        watcher.ok(json!({ "do": "get-all-client-count" })).await?,
        count(1)
    );
    assert_eq!(
        watcher
            .ok(json!({ "do": "is-uid-online", "uid": "ada" }))
            .await?,
        false
    );
    assert_eq!(
        watcher.walk(json!({ "do": "get-all-groups" }), 10).await?,
        ["watch-close"]
    );
    assert_eq!(node.stop().await?.counters.get("on_close_lost")?, 0);
    Ok(())
}

#[tokio::test]
async fn when_no_instance_comes_free_clients_are_told_to_try_again() -> Result<()> {
    let node = Node::builder()
        .plugin("console")
        .manifest("console", "[limits]\ninstances = 1\ncall_wait = '100ms'")
        .start()
        .await?;
    let mut watcher = node.watcher().await?;
    let [mut ada, mut bob] = node.consoles().await?;
    let nap = node.put_to_sleep(&mut ada, 3000).await?;

    bob.start(json!({ "do": "is-online" })).await?;
    let response = node.refusal("/console").await?;
    assert_eq!(response.status, 503);
    assert!(response.headers.contains_key("retry-after"));

    // An on-close is owed, and waits for longer.
    assert_eq!(ada.answer(nap).await?, json!({ "ok": null }));
    assert_eq!(
        bob.end().await?,
        End::closed(1013, "too busy, try again later")
    );
    assert_eq!(watcher.departure(bob.id()).await?["code"], 1013);
    assert!(node.counters().await?.get("events_overloaded")? >= 2);
    assert_eq!(node.stop().await?.counters.get("on_close_lost")?, 0);
    Ok(())
}

#[tokio::test]
async fn others_are_served_while_two_guests_spin_on_two_cores() -> Result<()> {
    let node = Node::builder()
        .plugin("console")
        .plugin("echo")
        .config("[plugin]\nevent_timeout = '15s'\nwait_timeout = '1m'")
        .start()
        .await?;
    let [mut first, mut second, mut third] = node.consoles().await?;
    let mut echo = node.client("/echo").await?;
    for (spinner, name) in [(&mut first, "one"), (&mut second, "two")] {
        spinner.start(json!({ "do": "log", "text": name })).await?;
        spinner.start(json!({ "do": "spin" })).await?;
        node.wait_for_log(|line| line.message() == name).await?;
    }

    for number in 0..100 {
        third.ok(json!({ "do": "is-online" })).await?;
        echo.say(number.to_string()).await?;
        assert_eq!(echo.next_text().await?, number.to_string());
    }
    assert_eq!(traps(&node.counters().await?), [], "both spin still");
    assert_eq!(
        node.console(&[])
            .await?
            .ok(json!({ "do": "is-online" }))
            .await?,
        true
    );
    Ok(())
}

#[tokio::test]
async fn a_thousand_traps_of_each_kind_leave_the_node_as_it_was() -> Result<()> {
    let node = Node::builder()
        .plugin("console")
        .manifest("console", "[policies]\non-trap = 'keep'")
        // Without the line that each of them has in the log.
        .config("log = 'info,jackfield::plugin=off'\n[plugin]\nevent_timeout = '5ms'\n")
        .config("memory_bytes = 4194304")
        .start()
        .await?;
    let mut clients = node.consoles::<10>().await?;
    let kinds = [
        "panic",
        "unreachable",
        "spin",
        "overflow-stack",
        "eat-memory",
        "exit",
    ];

    let mut resident = Vec::new();
    for times_each in [10, 100] {
        for kind in kinds {
            for client in &mut clients {
                for _ in 0..times_each {
                    client.start(json!({ "do": kind })).await?;
                }
            }
            for client in &mut clients {
                client.ok(json!({ "do": "is-online" })).await?;
            }
        }
        resident.push(node.resident_bytes()?);
    }

    let counters = node.counters().await?;
    let counters = traps(&counters);
    assert_eq!(
        counters.iter().map(|(_, times)| times).sum::<u64>(),
        6 * 1100,
        "{counters:?}"
    );
    // A leak of an instance each would be six gigabytes.
    let growth = resident[1].saturating_sub(resident[0]);
    assert!(
        growth < 256 << 20,
        "{growth} bytes more than after the first hundred: {resident:?}"
    );
    Ok(())
}

#[tokio::test]
async fn an_instance_is_replaced_after_so_many_events() -> Result<()> {
    let node = Node::builder()
        .plugin("console")
        .config("[plugin]\nrecycle_after_events = 5")
        .start()
        .await?;
    let mut ada = node.console(&[]).await?;
    for _ in 0..20 {
        ada.ok(json!({ "do": "is-online" })).await?;
    }
    let recycled = node.counters().await?.get("instances_recycled")?;
    assert!((3..=4).contains(&recycled), "{recycled}");
    Ok(())
}

#[tokio::test]
async fn an_instance_is_replaced_after_an_event_that_took_much_memory() -> Result<()> {
    let node = Node::builder()
        .plugin("console")
        .config("[plugin]\nrecycle_above_bytes = 8388608")
        .start()
        .await?;
    let mut ada = node.console(&[]).await?;
    ada.ok(json!({ "do": "eat-memory", "bytes": 1 << 20 }))
        .await?;
    assert_eq!(node.counters().await?.get("instances_recycled")?, 0);
    ada.ok(json!({ "do": "eat-memory", "bytes": 10 << 20 }))
        .await?;
    // It is given back at the end of the turn, which a message of another turn comes after.
    ada.ok(json!({ "do": "is-online" })).await?;
    assert_eq!(node.counters().await?.get("instances_recycled")?, 1);
    Ok(())
}

#[tokio::test]
async fn an_instance_that_begins_with_much_memory_is_kept_and_its_author_told() -> Result<()> {
    let node = Node::builder()
        .plugin("console")
        .config("[plugin]\nrecycle_above_bytes = 1000000")
        .start()
        .await?;
    let advice = "each of its instances begins with";
    let line = node.wait_for_log(|line| line.says(advice)).await?;
    assert_eq!((line.level(), line.text("plugin")), ("WARN", "console"));
    let mut ada = node.console(&[]).await?;
    for _ in 0..20 {
        ada.ok(json!({ "do": "is-online" })).await?;
    }
    assert_eq!(node.counters().await?.get("instances_recycled")?, 0);
    Ok(())
}

#[tokio::test]
async fn nothing_ticks_while_no_guest_runs() -> Result<()> {
    let node = short_of_patience().alone().start().await?;
    let mut ada = node.console(&[]).await?;
    ada.ok(json!({ "do": "is-online" })).await?;
    let rests = async {
        loop {
            let before = node.waits_of_thread("epoch")?;
            for _ in 0..20 {
                node.api("/live").await?;
            }
            if node.waits_of_thread("epoch")? == before {
                return anyhow::Ok(());
            }
        }
    };
    within("the ticker to rest", rests).await?;
    // It is there again for each guest that would run for ever.
    let before = node.waits_of_thread("epoch")?;
    for _ in 0..5 {
        ada.start(json!({ "do": "spin" })).await?;
        assert_eq!(ada.end().await?.code(), 1011);
        ada = node.console(&[]).await?;
    }
    assert!(node.waits_of_thread("epoch")? > before);
    Ok(())
}

/// A node whose guests have little time.
fn short_of_patience() -> NodeBuilder {
    Node::builder()
        .plugin("console")
        .config("[plugin]\nevent_timeout = '100ms'\nwait_timeout = '3s'")
}

/// That this request ends in a trap of this kind, at the cost of nobody but its client; the
/// line in the log.
async fn ends_badly(request: Value, kind: &str) -> Result<LogLine> {
    let node = short_of_patience().start().await?;
    let mut watcher = node.watcher().await?;
    let [mut ada, mut bob] = node.consoles().await?;

    ada.start(request).await?;
    for _ in 0..10 {
        bob.ok(json!({ "do": "is-online" })).await?;
    }

    let (code, reason) = FAILED;
    assert_eq!(ada.end().await?, End::closed(code, reason));
    let departure = watcher.departure(ada.id()).await?;
    assert_eq!(
        (&departure["code"], &departure["by"]),
        (&json!(1011), &json!("plugin"))
    );

    let line = node.wait_for_log(is_trap).await?;
    assert_eq!(line.level(), "ERROR");
    assert_eq!(
        (line.text("kind"), line.text("function")),
        (kind, "on-message")
    );
    assert_eq!(
        (line.text("plugin"), line.number("generation")),
        ("console", Some(1))
    );
    assert_eq!(line.text("client"), ada.id());

    bob.ok(json!({ "do": "is-online" })).await?;
    assert_eq!(
        node.console(&[])
            .await?
            .ok(json!({ "do": "is-online" }))
            .await?,
        true
    );
    assert_eq!(
        traps(&node.counters().await?),
        [(&*format!("traps_{kind}"), 1)]
    );
    Ok(line)
}

fn is_trap(line: &LogLine) -> bool {
    line.says("an event trapped")
}

/// The counters of traps that have moved.
fn traps(counters: &Counters) -> Vec<(&str, u64)> {
    let traps = counters
        .all()
        .filter(|(name, times)| name.starts_with("traps_") && *times > 0);
    traps.collect()
}
