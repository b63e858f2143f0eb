//! Messages that wait already go to the plugin in one call, a turn. Everything that holds for one
//! message after the other goes on holding for each of them.
//!
//! `cargo xtask test` runs this three times: with the SDK's `turn-handler`, with the node's driver
//! beside components that have none, and without turns.

use std::iter;

use anyhow::{Context as _, Result};
use jackfield_tests::{End, Frame, LogLine, Node, NodeBuilder, OpCode, Turns, text};
use serde_json::{Value, json};

/// As many as come in one read of the node.
const MANY: usize = 40;

#[tokio::test]
async fn many_messages_are_answered_each_and_in_their_order() -> Result<()> {
    let node = Node::builder().plugin("echo").start().await?;
    let mut ada = node.client("/echo").await?;
    let messages: Vec<_> = (0..400_u32)
        .map(|number| match number % 3 {
            0 => text(&format!("gr\u{fc}\u{df}e {number}")),
            1 => jackfield_tests::binary(&number.to_be_bytes()),
            _ => text(""),
        })
        .collect();
    for message in &messages {
        ada.feed(message.clone()).await?;
    }
    ada.flush().await?;
    for message in messages {
        assert_eq!(ada.next().await?, message);
    }
    were_turns(&node).await?;
    assert_eq!(node.counters().await?.get("messages_in")?, 400);
    Ok(())
}

#[tokio::test]
async fn of_a_message_that_traps_only_that_one_is_lost() -> Result<()> {
    let node = keeps().start().await?;
    let mut ada = node.console(&[]).await?;
    for (nth, (request, kind)) in [
        (json!({ "do": "panic", "message": "no tea" }), "panic"),
        (json!({ "do": "unreachable" }), "unreachable"),
        (json!({ "do": "eat-memory" }), "memory"),
        (json!({ "do": "overflow-stack" }), "stack"),
        (json!({ "do": "exit" }), "exit"),
    ]
    .into_iter()
    .enumerate()
    {
        let before = (0..7).map(|_| online());
        let after = (0..9).map(|_| online());
        let all = before.chain([request]).chain(after);
        let ids = ada.start_all(all).await?;
        for (place, id) in ids.into_iter().enumerate() {
            if place != 7 {
                assert_eq!(ada.answer(id).await?["ok"], true, "{kind}: message {place}");
            }
        }
        let trap = node.log().nth(nth + 1, is_trap).await?;
        assert_eq!(trap.text("kind"), kind);
        assert_eq!(trap.text("function"), "on-message");
        assert_eq!(trap.text("client"), ada.id());
        assert_eq!(
            trap.says("tea") || trap.text("said").contains("no tea"),
            nth == 0
        );
    }
    were_turns(&node).await
}

#[tokio::test]
async fn a_trap_of_each_of_them_loses_each_of_them() -> Result<()> {
    let node = keeps().start().await?;
    let mut ada = node.console(&[]).await?;
    let panics = iter::repeat_n(json!({ "do": "panic" }), MANY);
    let last = *ada
        .start_all(panics.chain([online()]))
        .await?
        .last()
        .expect("it was sent");
    assert_eq!(ada.answer(last).await?["ok"], true);
    assert_eq!(ada.heard().await?, []);
    assert_eq!(node.counters().await?.get("traps_panic")?, MANY as u64);
    Ok(())
}

#[tokio::test]
async fn where_a_trap_closes_the_client_nothing_follows_it() -> Result<()> {
    let node = Node::builder().plugin("console").start().await?;
    let mut watcher = node.watcher().await?;
    let mut ada = node.console(&[]).await?;
    let join = json!({ "do": "join-group", "group": "after" });
    ada.start_all([online(), json!({ "do": "panic" }), join, online()])
        .await?;
    assert_eq!(ada.end().await?.code(), 1011);
    assert_eq!(watcher.departure(ada.id()).await?["groups"], json!([]));
    assert_eq!(node.counters().await?.get("traps_panic")?, 1);
    Ok(())
}

#[tokio::test]
async fn each_has_its_own_running_time() -> Result<()> {
    let node = Node::builder()
        .plugin("console")
        .manifest(
            "console",
            "[limits]\nevent_timeout = '1s'\n[policies]\non-trap = 'keep'",
        )
        .start()
        .await?;
    let mut ada = node.console(&[]).await?;
    let work = || iter::repeat_n(json!({ "do": "spin", "ms": 300 }), 4);
    let endless = json!({ "do": "spin" });
    let ids = ada.start_all(work().chain([endless]).chain(work())).await?;
    for id in ids.into_iter().enumerate().filter(|(place, _)| *place != 4) {
        assert_eq!(ada.answer(id.1).await?["ok"], json!(null));
    }
    let trap = node.wait_for_log(is_trap).await?;
    assert_eq!(trap.text("kind"), "deadline");
    assert_eq!(node.counters().await?.get("traps_deadline")?, 1);
    were_turns(&node).await
}

#[tokio::test]
async fn each_has_its_own_time_to_wait() -> Result<()> {
    let node = Node::builder()
        .plugin("console")
        .manifest(
            "console",
            "[limits]\nevent_timeout = '1s'\nwait_timeout = '2s'\n[policies]\non-trap = 'keep'",
        )
        .start()
        .await?;
    let mut ada = node.console(&[]).await?;
    let nap = || iter::repeat_n(json!({ "do": "sleep", "ms": 700 }), 2);
    let endless = json!({ "do": "sleep", "ms": 3_600_000 });
    let ids = ada.start_all(nap().chain(nap()).chain([endless]).chain(nap()));
    for id in ids
        .await?
        .into_iter()
        .enumerate()
        .filter(|(place, _)| *place != 4)
    {
        assert_eq!(ada.answer(id.1).await?["ok"], json!(null));
    }
    let trap = node.wait_for_log(is_trap).await?;
    assert_eq!(trap.text("kind"), "wait");
    assert_eq!(node.counters().await?.get("traps_wait")?, 1);
    were_turns(&node).await
}

#[tokio::test]
async fn each_has_its_own_allowances() -> Result<()> {
    let node = Node::builder()
        .plugin("console")
        .manifest(
            "console",
            "[limits]\nsends_per_event = 3\nlog_lines_per_event = 2",
        )
        .start()
        .await?;
    let mut ada = node.console(&[]).await?;
    // Two sends, and the answer is the third.
    let send = json!({ "do": "send-to-uid", "uid": "nobody", "text": "m" });
    let sends = json!({ "do": "repeat", "times": 2, "request": send });
    let line = json!({ "do": "log", "text": "a line" });
    let lines = json!({ "do": "repeat", "times": 2, "request": line });
    let ids = ada
        .start_all((0..10).flat_map(|_| [sends.clone(), lines.clone()]))
        .await?;
    for id in ids {
        let answer = ada.answer(id).await?;
        assert!(answer.get("ok").is_some(), "{answer}");
    }
    // Its line of the log comes after all of these.
    assert_eq!(node.counters().await?.get("log_lines_dropped")?, 0);
    let lines = node.log().so_far(|line| line.message() == "a line");
    assert_eq!(lines.len(), 20);
    were_turns(&node).await
}

#[tokio::test]
async fn a_turn_has_no_more_messages_than_the_manifest_says() -> Result<()> {
    let node = Node::builder()
        .plugin("echo")
        .manifest("echo", "[limits]\nmessages_per_turn = 4")
        .start()
        .await?;
    let mut ada = node.client("/echo").await?;
    for number in 0..MANY {
        ada.feed(text(&number.to_string())).await?;
    }
    ada.flush().await?;
    for number in 0..MANY {
        assert_eq!(ada.next().await?, text(&number.to_string()));
    }
    let turns = node.counters().await?.get("turns")?;
    assert!(turns >= MANY as u64 / 4, "{turns} turns");
    Ok(())
}

/// A turn has at most 32 KiB. What is larger by itself has a call of its own.
#[tokio::test]
async fn large_messages_and_small_ones_are_answered_in_their_order() -> Result<()> {
    let node = Node::builder().plugin("echo").start().await?;
    let mut ada = node.client("/echo").await?;
    let sizes = [
        31_000, 500, 500, 1_500, 40_000, 500, 500, 32_768, 500, 32_769, 500,
    ];
    for round in 0..20_u8 {
        for size in sizes {
            ada.feed(jackfield_tests::binary(&vec![round; size]))
                .await?;
        }
        ada.flush().await?;
        for size in sizes {
            let answer = ada.next().await?.into_data();
            assert!(answer.len() == size && answer.iter().all(|byte| *byte == round));
        }
    }
    were_turns(&node).await
}

#[tokio::test]
async fn a_new_generation_has_the_next_message() -> Result<()> {
    let node = Node::builder().plugin("console").start().await?;
    let mut ada = node.console(&[]).await?;
    for generation in 2..5 {
        let asleep = format!("asleep before {generation}");
        let nap = json!({ "do": "sleep", "ms": 2_000, "log": asleep });
        let who = || json!({ "do": "generation" });
        let ids = ada
            .start_all([who(), nap].into_iter().chain((0..20).map(|_| who())))
            .await?;
        node.wait_for_log(|line| line.message() == asleep).await?;
        let manifest = format!("[limits]\ntimers = {generation}");
        node.folder().put_manifest("console", &manifest)?;
        node.generation_loaded("console", generation).await?;
        for (place, id) in ids.into_iter().enumerate() {
            let answer = ada.answer(id).await?;
            let expected = match place {
                0 => json!(generation - 1),
                1 => json!(null),
                _ => json!(generation),
            };
            let answered = &answer["ok"];
            let answered = answered.get("generation").unwrap_or(answered);
            assert_eq!(*answered, expected, "message {place}");
        }
    }
    were_turns(&node).await
}

#[tokio::test]
async fn a_client_that_is_closed_in_the_middle_has_no_further_event() -> Result<()> {
    let node = Node::builder().plugin("console").start().await?;
    let mut watcher = node.watcher().await?;
    let mut ada = node.console(&[]).await?;
    let close = json!({ "do": "close-client", "code": 4000, "reason": "enough" });
    let log = || json!({ "do": "log", "text": "after the close" });
    let all = [online(), close].into_iter().chain((0..20).map(|_| log()));
    ada.start_all(all).await?;
    assert_eq!(ada.end().await?, End::closed(4000, "enough"));
    assert_eq!(watcher.departure(ada.id()).await?["code"], 4000);
    // What it logs comes after all of these.
    node.counters().await?;
    let after = node
        .log()
        .so_far(|line| line.message() == "after the close");
    assert!(after.is_empty(), "{after:?}");
    Ok(())
}

#[tokio::test]
async fn a_client_that_does_not_read_what_it_is_sent_is_not_handled_on() -> Result<()> {
    let node = Node::builder()
        .plugin("console")
        .manifest("console", "[calls]\nallow = ['console']")
        .start()
        .await?;
    let mut ada = node.console(&[]).await?;
    // Forty times four tenths of an outbox, and much more than the sockets hold.
    let much = json!({ "do": "call", "plugin": "console", "method": "bytes", "payload": "400000" });
    let ids = ada.start_all(iter::repeat_n(much, MANY)).await?;
    let (first, others) = ids.split_first().context("they were sent")?;
    assert!(ada.answer(*first).await?.get("ok").is_some());
    let handled = node.counters().await?.get("calls_in")?;
    assert!((1..MANY as u64).contains(&handled), "{handled} of them");
    for id in others {
        assert!(ada.answer(*id).await?.get("ok").is_some());
    }
    let counters = node.counters().await?;
    assert_eq!(counters.get("calls_in")?, MANY as u64);
    assert_eq!(
        counters.get("outbox_closed")? + counters.get("outbox_dropped")?,
        0
    );
    were_turns(&node).await
}

#[tokio::test]
async fn what_comes_before_a_mistake_is_handled() -> Result<()> {
    let node = Node::builder()
        .plugin("echo")
        .config("[limits]\nmessage_bytes = 1000\nmessages_per_second = 12")
        .start()
        .await?;
    let good = Frame::new(OpCode::Text, "hello").to_bytes();
    for (bad, code) in [
        (Frame::new(OpCode::Text, "hello").with_reserved_bit(), 1002),
        (Frame::new(OpCode::Text, [0xff]), 1007),
        (Frame::new(OpCode::Binary, [0; 1001]), 1009),
        (Frame::new(OpCode::Close, 4001_u16.to_be_bytes()), 4001),
    ] {
        let mut ada = node.client("/echo").await?;
        let bytes = [good.repeat(10), bad.to_bytes(), good.clone()].concat();
        ada.say_bytes(&bytes).await?;
        let (messages, end) = ada.until_end().await?;
        assert_eq!(
            messages,
            iter::repeat_n(text("hello"), 10).collect::<Vec<_>>()
        );
        assert_eq!(end.code(), code);
    }
    // And too many in a second.
    let mut ada = node.client("/echo").await?;
    ada.say_bytes(&good.repeat(20)).await?;
    let (messages, end) = ada.until_end().await?;
    assert_eq!(messages.len(), 12);
    assert_eq!(end.code(), 1008);
    were_turns(&node).await
}

#[tokio::test]
async fn a_reply_goes_to_the_client_whose_event_it_is() -> Result<()> {
    let node = Node::builder()
        .plugin("console")
        .manifest("console", "[calls]\nallow = ['console']")
        .start()
        .await?;
    let mut ada = node
        .console(&[("do", r#"{"do":"reply","text":"come in"}"#)])
        .await?;
    let mut watcher = node.watcher().await?;
    assert!(ada.heard().await?.contains(&text("come in")));
    let reply = json!({ "do": "reply", "text": "to you" });
    assert_eq!(ada.ok(reply.clone()).await?, json!(null));
    assert_eq!(ada.heard().await?, [text("to you")]);
    assert_eq!(watcher.heard().await?, []);
    // A call is nobody's event, and in its on-close a client has left.
    let call = json!({
        "do": "call", "plugin": "console", "method": "do", "payload": reply.to_string(),
    });
    let answer = ada.ok(call).await?.to_string();
    assert!(answer.contains("invalid-argument"), "{answer}");
    let info = json!({ "on-close": reply.to_string() });
    ada.ok(json!({ "do": "set-info", "info": info })).await?;
    drop(ada);
    let answer = watcher.next_event().await?.to_string();
    assert!(answer.contains("closed"), "{answer}");
    Ok(())
}

/// A node whose clients stay after a trap, and with little patience.
fn keeps() -> NodeBuilder {
    Node::builder()
        .plugin("console")
        .manifest("console", "[policies]\non-trap = 'keep'")
}

fn online() -> Value {
    json!({ "do": "is-online" })
}

fn is_trap(line: &LogLine) -> bool {
    line.says("an event trapped")
}

/// That messages went in turns, where they shall.
async fn were_turns(node: &Node) -> Result<()> {
    let turns = node.counters().await?.get("turns")?;
    match Turns::from_environment() {
        Turns::Off => assert_eq!(turns, 0),
        Turns::On => assert!(turns > 0),
    }
    Ok(())
}
