//! What is seen as it happens: the log, and the traces of clients; and the timers that wait.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jackfield_tests::{Api, Console, Events, Node, Protocol, text, within};
use serde_json::{Value, json};

use super::tokens::guarded;
use super::{BOTH, consoles};

/// Opens the log, over either protocol.
async fn logs(api: &Api, plugins: &[&str], level: &str) -> Result<Events> {
    let mut path = format!("/v1/logs?level={level}");
    for plugin in plugins {
        write!(path, "&plugin={plugin}")?;
    }
    let request = json!({ "plugins": plugins, "level": level });
    api.stream("logs", request, &path).await
}

/// Opens a trace; `whom` is `client` or `uid`.
async fn trace(api: &Api, whom: &str, name: &str, payloads: bool) -> Result<Events> {
    let path = format!("/v1/plugins/console/trace?{whom}={name}&payloads={payloads}");
    let mut request = json!({ "plugin": "console", "payloads": payloads });
    request[whom] = name.into();
    api.stream("trace", request, &path).await
}

/// Reads up to the first one that is wanted.
async fn until(events: &mut Events, wanted: impl Fn(&Value) -> bool) -> Result<Vec<Value>> {
    let mut read = Vec::new();
    let reading = async {
        loop {
            let event = events.next().await?.context("the stream has ended")?;
            let is_wanted = wanted(&event);
            read.push(event);
            if is_wanted {
                return anyhow::Ok(());
            }
        }
    };
    let found = within("an event", reading).await;
    found.with_context(|| format!("there was {read:#?}"))?;
    Ok(read)
}

/// Repeats what shows that a trace is open, until it is seen there. `name` is used once.
async fn until_open(events: &mut Events, ada: &mut Console, name: &str) -> Result<()> {
    let seen = async {
        for number in 0.. {
            let group = format!("{name}{number}");
            ada.ok(json!({ "do": "join-group", "group": group }))
                .await?;
            let next = tokio::time::timeout(Duration::from_millis(300), events.next());
            if next.await.is_ok() {
                break;
            }
        }
        anyhow::Ok(())
    };
    within("a step", seen).await?;
    // What comes of that is not for the test.
    ada.ok(json!({ "do": "join-group", "group": name })).await?;
    until(events, |step| step["joined"] == name).await?;
    let is_event = |step: &Value| step["event"]["function"] == "on-message";
    until(events, is_event).await?;
    Ok(())
}

/// The kinds of steps, each with what the test asks of it.
fn kinds(steps: &[Value]) -> Vec<String> {
    let kind = |step: &Value| {
        let fields = step.as_object().into_iter().flatten();
        let common = ["at_us", "node", "client"];
        let mut kinds = fields.filter(|(key, _)| !common.contains(&key.as_str()));
        kinds.next().map(|(key, _)| key.clone()).unwrap_or_default()
    };
    steps.iter().map(kind).collect()
}

#[tokio::test]
async fn a_plugins_records_are_read_as_they_are_written() -> Result<()> {
    for protocol in BOTH {
        let node = Node::start_alone("console").await?;
        let api = node.calls(protocol)?;
        let mut ada = node.console(&[]).await?;
        let mut all = logs(&api, &["console"], "").await?;
        let mut warnings = logs(&api, &[], "warn").await?;
        let mut others = logs(&api, &["other"], "").await?;
        let log = |level: &str, said: &str| json!({ "do": "log", "level": level, "text": said });
        ada.ok(log("info", "tea")).await?;
        ada.ok(log("warn", "no tea")).await?;
        let lines = until(&mut all, |record| record["line"]["message"] == "no tea").await?;
        let tea = &lines[lines.len() - 2]["line"];
        assert_eq!(
            (&tea["level"], &tea["message"]),
            (&json!("info"), &json!("tea"))
        );
        assert_eq!(tea["plugin"], "console");
        assert_eq!(tea["target"], "jackfield::plugin::log");
        assert_eq!(tea["fields"]["generation"], "1");
        assert!(tea["at_ms"].as_u64() > Some(1_600_000_000_000));
        let first = warnings.next().await?.context("a record")?;
        assert_eq!(first["line"]["message"], "no tea", "{first}");
        // A trap has what the guest said.
        ada.call(json!({ "do": "panic", "message": "out of tea" }))
            .await
            .ok();
        let is_trap = |record: &Value| record["line"]["message"] == "an event trapped: it panicked";
        let lines = until(&mut all, is_trap).await?;
        let trap = &lines.last().context("a trap")?["line"];
        let said = trap["fields"]["said"].as_str().context("its words")?;
        assert!(said.contains("out of tea"), "{said}");
        // Nothing is about the other plugin, up to the end of the node.
        node.stop().await?;
        match (protocol, within("the end", others.next()).await) {
            (_, Ok(None)) => {}
            (Protocol::Grpc, Err(error)) if format!("{error:#}").contains("the node has ended") => {
            }
            (_, rest) => panic!("{rest:?}"),
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_log_and_payloads_need_the_scope_inspect() -> Result<()> {
    let digest = |token: &str| {
        let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    };
    let token = |name: &str, scopes: &str, more: &str| {
        let digest = digest(&format!("{name}-token"));
        format!("[[token]]\nname = '{name}'\nsha256 = '{digest}'\nscopes = [{scopes}]\n{more}\n")
    };
    let tokens = [
        token("inspect", "'inspect', 'read'", ""),
        token("reader", "'read'", ""),
        token("chat", "'inspect', 'read'", "plugins = ['chat']"),
        token("one", "'inspect', 'read'", "plugins = ['console']"),
    ];
    let (node, _file) = guarded(&tokens.concat()).await?;
    let mut ada = node.console(&[]).await?;
    let api = node.calls(Protocol::Http)?;
    let status = async |token: &str, path: &str| {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}-token\r\n\r\n"
        );
        let mut raw = api.begin(&request).await?;
        anyhow::Ok(raw.response().await?.status)
    };
    let id = ada.id().to_owned();
    let traced = format!("/v1/plugins/console/trace?client={id}");
    let payloads = format!("{traced}&payloads=true");
    for (token, path, expected) in [
        ("nobody", "/v1/logs", 401),
        ("reader", "/v1/logs", 403),
        ("chat", "/v1/logs?plugin=console", 403),
        ("inspect", "/v1/logs?level=loud", 400),
        ("inspect", "/v1/logs?levels=info", 400),
        ("nobody", &traced, 401),
        ("chat", &traced, 403),
        ("reader", &payloads, 403),
        ("inspect", "/v1/plugins/console/trace", 400),
        ("inspect", &format!("{traced}&uid=ada"), 400),
        ("inspect", &format!("{traced}&payloads=1"), 400),
        ("inspect", "/v1/plugins/console/trace?client=nobody", 400),
        ("inspect", "/v1/plugins/nothing/trace?uid=ada", 404),
    ] {
        assert_eq!(status(token, path).await?, expected, "{token} {path}");
    }
    // A token for one plugin gets its records, and not those of the node.
    let mut own = logs(&api.with_token("one-token"), &[], "").await?;
    let mut whole = logs(&api.with_token("inspect-token"), &[], "").await?;
    node.signal(rustix::process::Signal::USR1)?;
    until(&mut whole, |record| record["line"]["message"] == "counters").await?;
    ada.ok(json!({ "do": "log", "text": "tea" })).await?;
    let first = own.next().await?.context("a record")?;
    assert_eq!(first["line"]["message"], "tea", "{first}");
    // One that reads may watch without payloads.
    let mut steps = trace(&api.with_token("reader-token"), "client", &id, false).await?;
    until_open(&mut steps, &mut ada, "open").await?;
    Ok(())
}

#[tokio::test]
async fn everything_that_happens_to_a_client_is_in_its_trace() -> Result<()> {
    for protocol in BOTH {
        let node = Node::start_alone("console").await?;
        let api = node.calls(protocol)?;
        let mut ada = node.console(&[]).await?;
        let mut bob = node.console(&[]).await?;
        let mut steps = trace(&api, "client", ada.id(), true).await?;
        until_open(&mut steps, &mut ada, "open").await?;
        let own = json!(ada.id());

        ada.ok(json!({ "do": "bind-uid", "uid": "ada" })).await?;
        let is_event = |step: &Value| step.get("event").is_some();
        let bound = until(&mut steps, is_event).await?;
        assert_eq!(kinds(&bound), ["received", "uid", "sent", "event"]);
        let received = &bound[0]["received"];
        assert_eq!(received["is_text"], true);
        let payload = BASE64_STANDARD.decode(received["payload"].as_str().context("it")?)?;
        assert_eq!(received["bytes"], payload.len());
        assert!(String::from_utf8(payload)?.contains("bind-uid"));
        assert_eq!(bound[1]["uid"], "ada");
        let sent = &bound[2]["sent"];
        assert_eq!(sent["outcome"], "queued");
        assert_eq!(sent["by"], format!("on-message {}", ada.id()));
        let event = &bound[3]["event"];
        assert_eq!(
            (&event["function"], &event["generation"]),
            (&json!("on-message"), &json!(1))
        );
        assert!(event["failure"].is_null(), "{event}");
        let node_id = node.incarnation().await?;
        for step in &bound {
            assert_eq!((&step["client"], &step["node"]), (&own, &json!(node_id)));
        }

        // What others send, and what a backend sends, is said to be theirs.
        let send = json!({ "do": "send-to-uid", "uid": "ada", "text": "from bob" });
        bob.ok(send).await?;
        let send = json!({ "client": ada.id(), "message": { "binary": "AAE=" } });
        api.ok("console", "send-to-client", send).await?;
        let sent = until(&mut steps, |step| step["sent"]["is_text"] == false).await?;
        assert_eq!(sent[0]["sent"]["by"], format!("on-message {}", bob.id()));
        assert_eq!(sent[1]["sent"]["by"], "api ");
        assert_eq!(sent[1]["sent"]["payload"], "AAE=");

        ada.leave_with(4321, "tea").await?;
        let is_last = |step: &Value| step["event"]["function"] == "on-close";
        let last = until(&mut steps, is_last).await?;
        assert_eq!(kinds(&last), ["closed", "event"]);
        let expected = json!({ "code": 4321, "reason": "tea", "by": "client" });
        assert_eq!(last[0]["closed"], expected);
    }
    Ok(())
}

/// Messages that have arrived together are seen one by one.
#[tokio::test]
async fn the_messages_of_a_turn_are_seen_one_by_one_and_a_trap_with_its_reason() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let api = node.calls(Protocol::Http)?;
    let mut ada = node.console(&[]).await?;
    let mut steps = trace(&api, "client", ada.id(), false).await?;
    until_open(&mut steps, &mut ada, "open").await?;
    for number in 0..20 {
        let request = json!({ "id": number, "do": "generation" });
        ada.client().feed(text(&request.to_string())).await?;
    }
    let panic = json!({ "id": 99, "do": "panic", "message": "no tea" });
    ada.client().feed(text(&panic.to_string())).await?;
    ada.client().flush().await?;
    let is_failed = |step: &Value| step["event"]["failure"].is_string();
    let seen = until(&mut steps, is_failed).await?;
    let count = |kind: &str| kinds(&seen).iter().filter(|found| *found == kind).count();
    assert_eq!(
        (count("received"), count("event"), count("sent")),
        (21, 21, 20)
    );
    let ordered: Vec<_> = kinds(&seen).into_iter().take(3).collect();
    assert_eq!(ordered, ["received", "sent", "event"]);
    assert!(
        seen.iter()
            .all(|step| step["received"]["payload"].is_null())
    );
    let closed = until(&mut steps, |step| step.get("closed").is_some()).await?;
    assert_eq!(closed.last().context("it")?["closed"]["code"], 1011);
    Ok(())
}

#[tokio::test]
async fn what_a_full_outbox_drops_is_seen() -> Result<()> {
    let node = Node::builder()
        .alone()
        .plugin("console")
        .manifest("console", "[policies]\noverflow = 'drop-newest'")
        .start()
        .await?;
    let api = node.calls(Protocol::Http)?;
    let mut slow = node.console(&[("uid", "slow")]).await?;
    let mut steps = trace(&api, "client", slow.id(), false).await?;
    until_open(&mut steps, &mut slow, "open").await?;
    let message = "m".repeat(48 << 10);
    let send = json!({ "uids": ["slow"], "message": { "text": message } });
    let mut sent = 0;
    while api.ok("console", "send-to-uid", send.clone()).await?["dropped"] == 0 {
        sent += 1;
        ensure!(sent < 600, "it was never too much");
    }
    let is_dropped = |step: &Value| step["sent"]["outcome"] == "dropped";
    let seen = until(&mut steps, is_dropped).await?;
    assert_eq!(seen.len(), sent + 1);
    assert_eq!(seen[0]["sent"]["bytes"], message.len());
    Ok(())
}

#[tokio::test]
async fn a_uid_is_followed_on_all_nodes_also_by_clients_that_come_later() -> Result<()> {
    let mut cluster = consoles(2).await?;
    for protocol in BOTH {
        let api = cluster[0].calls(protocol)?;
        let mut steps = trace(&api, "uid", "ada", false).await?;
        // Whoever comes once the other node knows of the trace is seen from the beginning.
        let seen = async {
            loop {
                let ada = cluster[1].console(&[("uid", "ada")]).await?;
                let next = tokio::time::timeout(Duration::from_millis(500), steps.next());
                if let Ok(step) = next.await {
                    return anyhow::Ok((ada, step?.context("a step")?));
                }
            }
        };
        let (mut ada, first) = within("a step", seen).await?;
        assert_eq!(first["node"], cluster[1].incarnation().await?);
        let mut bob = cluster[0].console(&[]).await?;
        let send = json!({ "do": "send-to-client", "client": ada.id(), "text": "from bob" });
        bob.ok(send).await?;
        assert_eq!(ada.next().await?, text("from bob"));
        // The other node has the trace, too, and says who has sent it.
        let by = format!("on-message {}", bob.id());
        until(&mut steps, |step| step["sent"]["by"] == by).await?;
        // One that loses the uid has no place in the trace any more, and says so before.
        ada.ok(json!({ "do": "unbind-uid" })).await?;
        until(&mut steps, |step| step["uid"] == "").await?;
        let mut own = cluster[0].console(&[("uid", "ada")]).await?;
        until(&mut steps, |step| step["client"] == own.id()).await?;
        // Nor is seen what it does under another one.
        ada.ok(json!({ "do": "bind-uid", "uid": "eve" })).await?;
        own.leave().await?;
        let is_last = |step: &Value| step["event"]["function"] == "on-close";
        let seen = until(&mut steps, is_last).await?;
        let of_ada = seen.iter().filter(|step| step["client"] == ada.id());
        // The end of the event in which it has lost the uid is not seen, either.
        assert_eq!(of_ada.count(), 0, "{seen:#?}");
        ada.leave().await?;
    }
    // A node that does not answer is named once.
    let api = cluster[0].calls(Protocol::Http)?;
    let lost = cluster[1].incarnation().await?;
    let mut steps = trace(&api, "uid", "ada", false).await?;
    let node = cluster.nodes_mut().remove(1);
    node.signal(rustix::process::Signal::STOP)?;
    let is_said = |step: &Value| step["node"] == lost && step["unanswered"].is_string();
    until(&mut steps, is_said).await?;
    node.signal(rustix::process::Signal::CONT)?;
    Ok(())
}

#[tokio::test]
async fn there_are_as_many_traces_as_a_node_takes() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let api = node.calls(Protocol::Http)?;
    let mut ada = node.console(&[("uid", "ada")]).await?;
    let mut open = Vec::new();
    for number in 0..16 {
        let mut steps = trace(&api, "uid", "ada", false).await?;
        until_open(&mut steps, &mut ada, &format!("open{number}-")).await?;
        open.push(steps);
    }
    let mut more = trace(&api, "uid", "ada", false).await?;
    let refused = more.next().await?.context("a step")?;
    let why = refused["unanswered"].as_str().context("why")?;
    assert!(why.contains("16 traces are open"), "{why}");
    // When those end, which nobody reads, there is room again: it is tried once a second.
    drop(open);
    until_open(&mut more, &mut ada, "more").await
}

#[tokio::test]
async fn the_timers_that_wait_are_listed_in_pages() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let mut ada = node.console(&[]).await?;
    for (name, every, scope) in [
        ("daily", json!(86_400_000), "cluster"),
        ("once", Value::Null, "node"),
        ("node:twice", Value::Null, "node"),
    ] {
        let set = json!({
            "do": "set-timer", "name": name, "after_ms": 3_600_000, "every_ms": every, "scope": scope,
        });
        ada.ok(set).await?;
    }
    for protocol in BOTH {
        let api = node.calls(protocol)?;
        let mut listed = Vec::new();
        let mut request = json!({ "limit": 1 });
        loop {
            let page = api.ok("console", "get-timers", request.clone()).await?;
            listed.extend(page["timers"].as_array().context("timers")?.clone());
            match page["next"].as_str() {
                Some(next) => request["cursor"] = json!(next),
                None => break,
            }
        }
        let names: Vec<_> = listed.iter().map(|timer| &timer["name"]).collect();
        assert_eq!(names, ["node:twice", "once", "daily"]);
        assert_eq!(listed[2]["of_cluster"], true);
        assert_eq!(listed[2]["every_ms"], 86_400_000);
        assert!(listed[1]["every_ms"].is_null());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let due = listed[1]["due_at_ms"].as_u64().context("a time")?;
        let left = u128::from(due) - now.as_millis();
        assert!((3_500_000..=3_600_000).contains(&left), "{left}");
        let wrong = json!({ "cursor": "daily" });
        let refused = api.call("console", "get-timers", wrong).await?;
        assert_eq!(refused.expect_err("no cursor").reason, "INVALID_ARGUMENT");
    }
    Ok(())
}
