//! The context of a handshake or of a call of the API, and what follows from it on one node.

use std::time::Duration;

use anyhow::Result;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jackfield_tests::{CollectedSpan, Collector, Node, Protocol, Raw, text, within};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{
    ALL, FOLLOW, NONE, SPAN, TRACE, echo, named, start, the, traced_client, traceparent,
    until_the_client_has_ended,
};

/// The number of the kinds in OTLP.
const SERVER: i32 = 2;
const CLIENT: i32 = 3;

#[tokio::test]
async fn a_client_and_its_events_are_in_the_trace_of_the_handshake() -> Result<()> {
    let (collector, node) = start("echo", FOLLOW).await?;
    // Others have no spans.
    let mut other = node.client("/echo").await?;
    echo(&mut other, "not traced").await?;
    let mut ada = traced_client(&node, "/echo", "01").await?;
    for message in ["one", "second", "3"] {
        echo(&mut ada, message).await?;
    }
    ada.leave_with(4000, "").await?;
    let spans = until_the_client_has_ended(&collector).await?;
    let client = the(&spans, "client");
    assert_eq!((&*client.parent, client.kind), (SPAN, SERVER));
    assert_eq!(client.get("jackfield.plugin"), "echo");
    assert_eq!(client.get("jackfield.close_code"), "4000");
    assert_eq!(client.get("jackfield.closed_by"), "client");
    assert!(!client.get("jackfield.client").is_empty());
    let messages = named(&spans, "on-message");
    let bytes: Vec<_> = messages
        .iter()
        .map(|span| span.get("jackfield.message_bytes"))
        .collect();
    assert_eq!(bytes, ["3", "6", "1"]);
    let events = [the(&spans, "on-connect"), the(&spans, "on-close")];
    for event in messages.into_iter().chain(events) {
        assert_eq!(event.parent, client.id, "{event:?}");
        assert_eq!(event.get("jackfield.generation"), "1", "{event:?}");
        assert_eq!(event.failure, None);
    }
    assert_eq!(spans.len(), 6);
    assert!(spans.iter().all(|span| span.trace == TRACE), "{spans:#?}");
    assert_eq!(node.incarnation().await?, spans[0].node);
    node.wait_for_counter("spans_sent", 6).await?;
    other.leave().await?;
    Ok(())
}

/// Messages that have arrived together go through the guest one by one, each with its span.
#[tokio::test]
async fn messages_of_a_turn_have_their_own_spans() -> Result<()> {
    let (collector, node) = start("echo", FOLLOW).await?;
    let mut ada = traced_client(&node, "/echo", "01").await?;
    for number in 0..20 {
        ada.say(text(&number.to_string())).await?;
    }
    for number in 0..20 {
        assert_eq!(ada.next().await?, text(&number.to_string()));
    }
    ada.leave().await?;
    let spans = until_the_client_has_ended(&collector).await?;
    assert_eq!(named(&spans, "on-message").len(), 20);
    Ok(())
}

/// A trace that grows for days is one that no backend takes.
#[tokio::test]
async fn after_a_thousand_messages_the_next_ones_are_in_a_linked_trace() -> Result<()> {
    let (collector, node) = start("echo", FOLLOW).await?;
    let mut ada = traced_client(&node, "/echo", "01").await?;
    for _ in 0..1_001 {
        echo(&mut ada, "x").await?;
    }
    ada.leave().await?;
    let enough = |spans: &[CollectedSpan]| {
        named(spans, "on-message").len() == 1_001 && !named(spans, "client continued").is_empty()
    };
    let spans = collector.wait_for("all spans", enough).await?;
    let next = the(&spans, "client continued");
    assert_ne!(next.trace, TRACE);
    assert_eq!(next.links, [TRACE]);
    let messages = named(&spans, "on-message");
    let there = messages.iter().filter(|span| span.trace == next.trace);
    let there: Vec<_> = there.collect();
    assert_eq!(there.len(), 1);
    assert_eq!(there[0].parent, next.id);
    Ok(())
}

/// Anybody can send the header, and must not be able to fill the queue.
#[tokio::test]
async fn without_follow_clients_the_share_decides() -> Result<()> {
    let collector = Collector::start().await?;
    let none = collector.config(NONE);
    let node = Node::builder().alone().plugin("echo");
    let node = node.config(&none).start().await?;
    let mut ada = traced_client(&node, "/echo", "01").await?;
    echo(&mut ada, "x").await?;
    ada.leave().await?;
    let stopped = node.stop().await?;
    assert_eq!(stopped.counters.get("spans_sent")?, 0);
    assert!(collector.so_far().is_empty());

    // With a share of all, it is in the trace of the handshake also if that has none.
    let all = collector.config(ALL);
    let node = Node::builder().alone().plugin("echo");
    let node = node.config(&all).start().await?;
    let mut ada = traced_client(&node, "/echo", "00").await?;
    echo(&mut ada, "x").await?;
    ada.leave().await?;
    let spans = until_the_client_has_ended(&collector).await?;
    assert!(spans.iter().all(|span| span.trace == TRACE));
    Ok(())
}

/// A context that is only passed on begins no trace of the node's own, however long the client stays.
#[tokio::test]
async fn a_stranger_cannot_make_the_node_record_anything() -> Result<()> {
    let collector = Collector::start().await?;
    let none = collector.config(NONE);
    let node = Node::builder().alone().plugin("echo");
    let node = node.config(&none).start().await?;
    for flags in ["00", "01"] {
        let mut ada = traced_client(&node, "/echo", flags).await?;
        for _ in 0..1_001 {
            echo(&mut ada, "x").await?;
        }
        // Those that have arrived together are one turn, as for all others.
        for number in 0..20 {
            ada.feed(text(&number.to_string())).await?;
        }
        ada.flush().await?;
        for number in 0..20 {
            assert_eq!(ada.next().await?, text(&number.to_string()));
        }
        ada.leave().await?;
    }
    let stopped = node.stop().await?;
    let sent = ["spans_sent", "spans_dropped"].map(|name| stopped.counters.get(name));
    assert_eq!(sent.map(Result::unwrap_or_default), [0, 0]);
    assert!(stopped.counters.get("turns")? > 0);
    Ok(())
}

#[tokio::test]
async fn a_share_of_the_clients_has_spans() -> Result<()> {
    let (collector, node) = start("echo", "sample_ratio = 0.3").await?;
    for _ in 0..200 {
        node.client("/echo").await?.leave().await?;
    }
    node.stop().await?;
    let clients = named(&collector.so_far(), "client").len();
    // Beyond four standard deviations, in one of 16,000 runs.
    assert!((34..=86).contains(&clients), "{clients} of 200");
    Ok(())
}

#[tokio::test]
async fn a_context_that_is_no_context_is_none() -> Result<()> {
    let (_collector, node) = start("echo", FOLLOW).await?;
    let long = format!("{}-{}", traceparent("01"), "a".repeat(10_000));
    let zero = format!("00-{}-{SPAN}-01", "0".repeat(32));
    for wrong in ["", "00", &long, &zero, "00-xyz-abc-01", "ff-0-0-0"] {
        let mut ada = node.client_with("/echo", &[("traceparent", wrong)]).await?;
        echo(&mut ada, "x").await?;
        ada.leave().await?;
    }
    let both = [traceparent("01"), traceparent("01")];
    let both = both.each_ref().map(|value| ("traceparent", &**value));
    node.client_with("/echo", &both).await?.leave().await?;
    let stopped = node.stop().await?;
    assert_eq!(stopped.counters.get("spans_sent")?, 0);
    Ok(())
}

/// A node whose plugin may ask a server, which is to be served.
async fn fetching() -> Result<(Collector, Node, TcpListener)> {
    let collector = Collector::start().await?;
    let web = TcpListener::bind("127.0.0.1:0").await?;
    let allow = format!("[http]\nallow = [\"{}\"]", origin(&web)?);
    let node = Node::builder().alone().plugin("fetcher");
    let node = node.manifest("fetcher", &allow);
    let node = node.config(&collector.config(FOLLOW)).start().await?;
    Ok((collector, node, web))
}

fn origin(web: &TcpListener) -> Result<String> {
    Ok(format!("http://{}", web.local_addr()?))
}

/// A server that is asked once, and the head of what it was asked.
async fn asked_once(listener: TcpListener) -> Result<String> {
    let (mut stream, _) = listener.accept().await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let answer = b"HTTP/1.1 418 Teapot\r\ncontent-length: 0\r\n\r\n";
    stream.write_all(answer).await?;
    Ok(String::from_utf8(head)?)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

#[tokio::test]
async fn a_request_of_the_plugin_goes_on_with_the_trace() -> Result<()> {
    let (collector, node, web) = fetching().await?;
    let origin = origin(&web)?;
    let state = "vendor=state";
    let parent = traceparent("01");
    let headers = [("traceparent", &*parent), ("tracestate", state)];
    let mut ada = node.client_with("/fetcher", &headers).await?;
    let asking = format!("GET {origin}/secret?token=secret");
    ada.say(text(&asking)).await?;
    let head = within("a request", asked_once(web)).await?;
    assert_eq!(ada.next().await?, text("418 "));
    ada.leave().await?;
    let spans = until_the_client_has_ended(&collector).await?;
    let (message, request) = (the(&spans, "on-message"), the(&spans, "GET"));
    assert_eq!((&request.parent, request.kind), (&message.id, CLIENT));
    assert_eq!(request.get("http.response.status_code"), "418");
    assert_eq!(request.get("server.address"), "127.0.0.1");
    let expected = format!("00-{TRACE}-{}-01", request.id);
    assert_eq!(header(&head, "traceparent"), Some(&*expected));
    assert_eq!(header(&head, "tracestate"), Some(state));
    // Whoever reads spans need not know what stands in requests.
    assert!(!format!("{spans:?}").contains("secret"));
    Ok(())
}

#[tokio::test]
async fn a_context_goes_on_also_if_nothing_is_recorded() -> Result<()> {
    let (_collector, node, web) = fetching().await?;
    let origin = origin(&web)?;
    let mut ada = traced_client(&node, "/fetcher", "00").await?;
    ada.say(text(&format!("GET {origin}/"))).await?;
    let head = within("a request", asked_once(web)).await?;
    let sent = header(&head, "traceparent").unwrap_or_default();
    assert!(sent.starts_with(&format!("00-{TRACE}-")), "{sent}");
    assert!(sent.ends_with("-00"), "{sent}");
    ada.leave().await?;
    let stopped = node.stop().await?;
    assert_eq!(stopped.counters.get("spans_sent")?, 0);
    Ok(())
}

#[tokio::test]
async fn a_call_of_the_api_and_what_it_calls_are_in_its_trace() -> Result<()> {
    let collector = Collector::start().await?;
    let node = Node::builder()
        .alone()
        .plugin("console")
        .plugin_from("other", "console")
        .manifest("other", "[calls]\nallow = [\"console\"]")
        .config(&collector.config(NONE))
        .start()
        .await?;
    let payload = json!({ "do": "call", "plugin": "other", "method": "echo", "payload": "x" });
    let payload = payload.to_string();
    let call = |context: &str| {
        format!(
            "POST /v1/plugins/console/call/do HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\
             {context}content-length: {}\r\n\r\n{payload}",
            payload.len()
        )
    };
    let context = format!("traceparent: {}\r\n", traceparent("01"));
    // One without, and a probe and the metrics with it, have no spans.
    let probe =
        format!("GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n{context}\r\n");
    for request in [call(""), probe, call(&context)] {
        let mut raw = Raw::connect(node.api_address()).await?;
        raw.write(request.as_bytes()).await?;
        assert_eq!(raw.response().await?.status, 200);
    }
    let name = "POST /v1/plugins/{plugin}/call/{method}";
    let spans = collector
        .wait_for("the call's span", |spans| !named(spans, name).is_empty())
        .await?;
    let request = the(&spans, name);
    assert_eq!((&*request.parent, &*request.trace), (SPAN, TRACE));
    assert_eq!(request.get("http.response.status_code"), "200");
    let calls = named(&spans, "on-call");
    let of = |plugin: &str| {
        let found = calls
            .iter()
            .find(|span| span.get("jackfield.plugin") == plugin);
        found.copied().expect("a call")
    };
    assert_eq!(of("console").parent, request.id);
    assert_eq!(of("console").get("jackfield.method"), "do");
    assert_eq!(of("other").parent, of("console").id);
    assert_eq!(spans.len(), 3);
    Ok(())
}

#[tokio::test]
async fn a_call_over_grpc_and_a_timer_have_spans() -> Result<()> {
    let (collector, node) = start("console", ALL).await?;
    let api = node.calls(Protocol::Grpc)?;
    let set = json!({ "do": "set-timer", "name": "t", "after_ms": 10 }).to_string();
    let set = BASE64_STANDARD.encode(set);
    let request = json!({ "method": "do", "payload": set });
    assert!(api.call("console", "call", request).await?.is_ok());
    let call = collector.span("jackfield.api.v1.Api/Call").await?;
    assert_eq!(collector.span("on-call").await?.parent, call.id);
    let timer = collector.span("on-timer").await?;
    assert_eq!(timer.parent, "");
    assert_ne!(timer.trace, call.trace);
    assert_eq!(timer.get("jackfield.plugin"), "console");
    assert_eq!(timer.get("jackfield.generation"), "1");
    Ok(())
}

/// The plugin's own waiting is in the span: it says where the time went.
#[tokio::test]
async fn a_span_lasts_as_long_as_its_event() -> Result<()> {
    let (collector, node, web) = fetching().await?;
    let origin = origin(&web)?;
    let mut ada = traced_client(&node, "/fetcher", "01").await?;
    ada.say(text(&format!("GET {origin}/"))).await?;
    let (waiting, _) = within("a request", web.accept()).await?;
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_millis(20) {
        tokio::task::yield_now().await;
    }
    drop(waiting);
    ada.next().await?;
    ada.leave().await?;
    let spans = until_the_client_has_ended(&collector).await?;
    let (message, request) = (the(&spans, "on-message"), the(&spans, "GET"));
    assert!(message.duration >= request.duration);
    assert!(request.duration >= Duration::from_millis(20), "{request:?}");
    assert!(request.failure.is_some());
    Ok(())
}
