//! Calls from plugin to plugin: who may, what comes back, and what a bad callee costs.
//!
//! Two plugins of one node, `console` and `other`, are the same component: a client of one has
//! it call the other. That a callee's instance is fresh, free or replaced is known by what the
//! next call is answered.

use anyhow::{Context as _, Result, ensure};
use jackfield_tests::{
    Console, Counters, LogLine, Node, NodeBuilder, component, error_code, run_node_binary, text,
    within,
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

const RELOADS: u64 = 10;

#[tokio::test]
async fn a_plugin_calls_another_that_allows_it() -> Result<()> {
    let node = two_plugins("").start().await?;
    let mut ada = node.console(&[]).await?;
    assert_eq!(ada.ok(call("other", "echo", "hello")).await?, "hello");
    assert_eq!(ada.ok(call("other", "caller", "")).await?, "plugin console");
    assert_eq!(node.counters().await?.get("calls_in")?, 2);
    Ok(())
}

#[tokio::test]
async fn nobody_may_call_a_plugin_that_does_not_name_it() -> Result<()> {
    let node = two_plugins("").start().await?;
    let mut eve = node.console_named("other", &[]).await?;
    for plugin in ["console", "other"] {
        let refused = eve.call(call(plugin, "echo", "")).await?;
        assert_eq!(error_code(&refused), Some("denied"), "not even itself");
        let message = refused["error"]["message"].as_str().unwrap_or_default();
        assert!(
            message.contains(r#""other" under [calls] allow"#),
            "{message}"
        );
    }
    assert_eq!(node.counters().await?.get("calls_in")?, 0);

    node.folder()
        .put_manifest("console", "[calls]\nallow = ['other']")?;
    node.generation_loaded("console", 2).await?;
    assert_eq!(eve.ok(call("console", "echo", "now")).await?, "now");
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_called_is_told_apart() -> Result<()> {
    let node = two_plugins("").plugin("echo").start().await?;
    let mut ada = node.console(&[]).await?;
    for (plugin, method, code, words) in [
        ("nobody", "echo", "unavailable", "no such plugin"),
        ("", "echo", "unavailable", "no such plugin"),
        ("echo", "echo", "unknown-method", "no call-handler"),
        ("other", "dance", "unknown-method", "\"dance\""),
    ] {
        let answer = ada.call(call(plugin, method, "")).await?;
        assert_eq!(error_code(&answer), Some(code), "{plugin} {method}");
        assert!(
            answer.to_string().contains(&words.replace('"', "\\\"")),
            "{answer}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_callees_own_error_comes_back_as_it_is() -> Result<()> {
    let node = two_plugins("").start().await?;
    let mut ada = node.console(&[]).await?;
    for code in [
        "unknown-method",
        "invalid-argument",
        "not-found",
        "denied",
        "limit-exceeded",
        "overloaded",
        "unavailable",
        "failed",
    ] {
        let answer = ada.call(call("other", "fail", code)).await?;
        let error = json!({ "error": { "code": code, "message": "asked to fail" } });
        assert_eq!(answer, error);
    }
    Ok(())
}

#[tokio::test]
async fn a_trap_costs_the_caller_an_error_and_nobody_a_connection() -> Result<()> {
    let node = two_plugins("[limits]\nevent_timeout = '100ms'\nwait_timeout = '1s'")
        .start()
        .await?;
    let mut ada = node.console(&[]).await?;
    for (nth, (bad, kind)) in [
        (json!({ "do": "panic" }), "panic"),
        (json!({ "do": "spin" }), "deadline"),
        (json!({ "do": "sleep", "ms": 3_600_000 }), "wait"),
        (json!({ "do": "exit" }), "exit"),
    ]
    .into_iter()
    .enumerate()
    {
        let failed = call("other", "do", &bad.to_string());
        assert_eq!(ada.error(failed).await?, "failed", "{bad}");
        assert_eq!(ada.ok(call("other", "echo", "again")).await?, "again");

        let line = node.log().nth(nth + 1, is_trap).await?;
        assert_eq!(
            (line.text("kind"), line.text("function")),
            (kind, "on-call")
        );
        assert_eq!((line.text("plugin"), line.text("client")), ("other", ""));
    }
    let one_each = ["deadline", "exit", "panic", "wait"].map(|kind| (format!("traps_{kind}"), 1));
    assert_eq!(traps(&node.counters().await?), one_each);
    Ok(())
}

#[tokio::test]
async fn a_call_and_its_answer_have_so_many_bytes() -> Result<()> {
    let node = two_plugins("[limits]\ncall_bytes = 100").start().await?;
    let mut ada = node.console(&[]).await?;
    let exactly = "x".repeat(100 - "echo".len());
    assert_eq!(ada.ok(call("other", "echo", &exactly)).await?, exactly);
    assert_eq!(
        ada.ok(call("other", "bytes", "100")).await?,
        ".".repeat(100)
    );
    for (method, payload) in [("echo", format!("{exactly}x")), ("bytes", "101".to_owned())] {
        let answer = ada.call(call("other", method, &payload)).await?;
        assert_eq!(error_code(&answer), Some("limit-exceeded"), "{method}");
        assert!(
            answer
                .to_string()
                .contains("101 bytes, more than 100 (call_bytes)")
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_mebibyte_there_and_back() -> Result<()> {
    let node = two_plugins("")
        .config("[limits]\nmessage_bytes = 2097152\noutbox_bytes = 4194304")
        .start()
        .await?;
    let mut ada = node.console(&[]).await?;
    let exactly = "x".repeat((1 << 20) - "echo".len());
    assert_eq!(ada.ok(call("other", "echo", &exactly)).await?, exactly);
    assert_eq!(
        ada.error(call("other", "echo", &(exactly + "x"))).await?,
        "limit-exceeded"
    );
    Ok(())
}

#[tokio::test]
async fn calls_within_calls_come_to_an_end() -> Result<()> {
    let node = call_each_other("").start().await?;
    let mut ada = node.console(&[]).await?;
    assert_eq!(innermost(ada.call(nested(4)).await?)?["ok"], "deep");
    for depth in [5, 6] {
        let answer = innermost(ada.call(nested(depth)).await?)?;
        assert_eq!(error_code(&answer), Some("limit-exceeded"), "{depth}");
        assert!(answer.to_string().contains("within 4 others"), "{answer}");
    }
    // The instances that were deep in calls serve clients again, at the surface.
    assert_eq!(innermost(ada.call(nested(4)).await?)?["ok"], "deep");
    Ok(())
}

#[tokio::test]
async fn plugins_that_call_each_other_with_one_instance_each_do_not_wait_for_ever() -> Result<()> {
    let node = call_each_other("[limits]\ninstances = 1\ncall_wait = '100ms'")
        .start()
        .await?;
    let mut ada = node.console(&[]).await?;
    assert_eq!(innermost(ada.call(nested(1)).await?)?["ok"], "deep");
    let answer = innermost(ada.call(nested(2)).await?)?;
    assert_eq!(error_code(&answer), Some("overloaded"));
    assert_eq!(innermost(ada.call(nested(1)).await?)?["ok"], "deep");
    Ok(())
}

#[tokio::test]
async fn a_call_ends_with_the_event_that_waits_for_it() -> Result<()> {
    let node = two_plugins("[limits]\ninstances = 1\nwait_timeout = '1h'")
        .manifest(
            "console",
            "[limits]\nevent_timeout = '500ms'\nwait_timeout = '500ms'",
        )
        .start()
        .await?;
    let [mut ada, mut bob] = node.consoles().await?;
    let nap = json!({ "do": "sleep", "ms": 3_600_000 });
    ada.start(call("other", "do", &nap.to_string())).await?;

    assert_eq!(ada.end().await?.code(), 1011);
    let line = node.wait_for_log(is_trap).await?;
    assert_eq!(
        (line.text("kind"), line.text("plugin")),
        ("wait", "console")
    );
    assert_eq!(
        (line.text("function"), line.text("client")),
        ("on-message", ada.id())
    );
    assert_eq!(bob.ok(call("other", "echo", "free")).await?, "free");
    assert_eq!(
        traps(&node.counters().await?),
        [("traps_wait".to_owned(), 1)]
    );
    Ok(())
}

#[tokio::test]
async fn when_no_instance_of_the_callee_comes_free_the_caller_is_told() -> Result<()> {
    let node = two_plugins("[limits]\ninstances = 1\ncall_wait = '100ms'")
        .start()
        .await?;
    let [mut ada, mut bob] = node.consoles().await?;
    let nap = json!({ "do": "sleep", "ms": 3000 }).to_string();
    let nap = ada.start(call("other", "do", &nap)).await?;

    let answer = until_error(&mut bob, call("other", "echo", "")).await?;
    assert_eq!(error_code(&answer), Some("overloaded"));

    let awake = ada.answer(nap).await?;
    assert_eq!(awake, json!({ "ok": r#"{"id":null,"ok":null}"# }));
    assert_eq!(bob.ok(call("other", "echo", "free")).await?, "free");
    Ok(())
}

#[tokio::test]
async fn what_a_callee_does_is_done_to_its_own_clients() -> Result<()> {
    let node = two_plugins("").start().await?;
    let [mut ada, bob] = node.consoles().await?;
    let mut cara = node.console_named("other", &[]).await?;
    for request in [
        json!({ "do": "send-to-all", "text": "the shop opens" }),
        json!({ "do": "bind-uid", "client": cara.id(), "uid": "cara" }),
        json!({ "do": "join-group", "client": cara.id(), "group": "shop" }),
    ] {
        let done = ada.ok(call("other", "do", &request.to_string())).await?;
        let done: Value = serde_json::from_str(done.as_str().context("text")?)?;
        assert!(done.get("ok").is_some(), "{request}: {done}");
    }
    assert_eq!(cara.heard().await?, [text("the shop opens")]);
    let uid = cara.ok(json!({ "do": "get-uid-by-client-id" })).await?;
    assert_eq!(uid, "cara");
    assert_eq!(
        cara.walk(json!({ "do": "get-all-groups" }), 10).await?,
        ["shop"]
    );
    for mut client in [ada, bob] {
        assert_eq!(client.heard().await?, []);
        let online = client
            .ok(json!({ "do": "is-uid-online", "uid": "cara" }))
            .await?;
        assert_eq!(online, false);
    }
    Ok(())
}

#[tokio::test]
async fn a_callee_is_replaced_and_every_call_is_answered() -> Result<()> {
    let node = two_plugins("").start().await?;
    let over = watch::Sender::new(false);
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        callers.spawn(keep_calling(node.console(&[]).await?, over.subscribe()));
    }
    for reload in 1..=RELOADS {
        let manifest = format!("# {reload}\n{ALLOW}");
        node.folder().put_manifest("other", &manifest)?;
        node.generation_loaded("other", reload + 1).await?;
    }
    over.send_replace(true);

    let mut calls = 0;
    while let Some(caller) = callers.join_next().await {
        calls += caller??;
    }
    let counters = node.counters().await?;
    assert_eq!(counters.get("calls_in")?, calls, "each once");
    assert_eq!(traps(&counters), []);
    Ok(())
}

#[tokio::test]
async fn a_removed_plugin_can_be_called_until_it_has_ended() -> Result<()> {
    let node = two_plugins("").start().await?;
    let mut ada = node.console(&[]).await?;
    node.folder().remove("other")?;
    let answer = until_error(&mut ada, call("other", "echo", "")).await?;
    assert_eq!(error_code(&answer), Some("unavailable"));

    node.folder().put("other", "console")?;
    node.generation_loaded("other", 2).await?;
    assert_eq!(ada.ok(call("other", "echo", "back")).await?, "back");
    Ok(())
}

#[tokio::test]
async fn a_plugin_that_has_nothing_to_do_with_calls_knows_nothing_of_them() -> Result<()> {
    let (echo, console) = (component("echo")?, component("console")?);
    let check = async |path: &std::path::Path| {
        let path = path.to_str().context("a readable path")?;
        anyhow::Ok(run_node_binary(&["check", path]).await?.stdout)
    };
    let (echo, console) = (check(&echo).await?, check(&console).await?);
    for interface in [
        "imports jackfield:plugin/calls@",
        "exports jackfield:plugin/call-handler@",
    ] {
        assert!(!echo.contains(interface), "{echo}");
        assert!(console.contains(interface), "{console}");
    }
    Ok(())
}

/// Under which `other` takes calls of `console`.
const ALLOW: &str = "[calls]\nallow = ['console']\n";

/// A node where `console` may call `other`, whose manifest has this, too.
fn two_plugins(other: &str) -> NodeBuilder {
    Node::builder()
        .plugin("console")
        .plugin_from("other", "console")
        .manifest("other", &format!("{ALLOW}{other}"))
}

/// A node where both may call each other.
fn call_each_other(both: &str) -> NodeBuilder {
    let manifest = format!("[calls]\nallow = ['other']\n{both}");
    two_plugins(both).manifest("console", &manifest)
}

fn call(plugin: &str, method: &str, payload: &str) -> Value {
    json!({ "do": "call", "plugin": plugin, "method": method, "payload": payload })
}

/// A request of a client of `console` that ends in a call so deep.
fn nested(depth: usize) -> Value {
    let callee = |depth: usize| ["console", "other"][depth % 2];
    let deepest = call(callee(depth), "echo", "deep");
    let around = (1..depth).rev();
    around.fold(deepest, |inner, depth| {
        call(callee(depth), "do", &inner.to_string())
    })
}

/// What the deepest call was answered.
fn innermost(mut answer: Value) -> Result<Value> {
    while let Some(inner) = answer["ok"].as_str().filter(|inner| inner.starts_with('{')) {
        answer = serde_json::from_str(inner)?;
    }
    Ok(answer)
}

/// Asks the same again and again, and answers the first error.
async fn until_error(client: &mut Console, request: Value) -> Result<Value> {
    let error = async {
        loop {
            let answer = client.call(request.clone()).await?;
            if error_code(&answer).is_some() {
                return anyhow::Ok(answer);
            }
        }
    };
    within("an error", error).await
}

/// Has `other` say which generation it is until it is over; how often.
async fn keep_calling(mut client: Console, mut over: watch::Receiver<bool>) -> Result<u64> {
    let (mut calls, mut newest) = (0, 1);
    loop {
        let is_last = *over.borrow_and_update();
        let answer = client.ok(call("other", "do", "generation")).await?;
        let answer: Value = serde_json::from_str(answer.as_str().context("text")?)?;
        let generation = answer["ok"]["generation"].as_u64().context("a number")?;
        ensure!(generation >= newest, "{generation} after {newest}");
        (calls, newest) = (calls + 1, generation);
        if is_last {
            ensure!(newest == RELOADS + 1, "the last one answers: {newest}");
            return Ok(calls);
        }
    }
}

fn is_trap(line: &LogLine) -> bool {
    line.says("an event trapped")
}

/// The counters of traps that have moved.
fn traps(counters: &Counters) -> Vec<(String, u64)> {
    let traps = counters
        .all()
        .filter(|(name, times)| name.starts_with("traps_") && *times > 0);
    traps
        .map(|(name, times)| (name.to_owned(), times))
        .collect()
}
