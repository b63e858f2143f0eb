//! Spans of several nodes: what goes to other nodes goes on with the trace.

use anyhow::Result;
use jackfield_tests::{Client, Cluster, Collector, Console, Node, Register, text};
use serde_json::json;

use super::{FOLLOW, TRACE, echo, named, the, traceparent};

/// The number of the kinds in OTLP.
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const PRODUCER: i32 = 4;
const CONSUMER: i32 = 5;

#[tokio::test]
async fn the_events_of_a_gateways_client_are_in_its_trace() -> Result<()> {
    let collector = Collector::start().await?;
    let config = collector.config(FOLLOW);
    let register = Register::start().await?;
    let gateway = Node::builder().gateway().config(&config);
    let gateway = gateway.registered_at(&[&register]).start().await?;
    let worker = Node::builder().alone().plugin("echo").config(&config);
    let worker = worker.registered_at(&[&register]).start().await?;
    gateway.wait_for_plugins_of(&worker).await?;
    let headers = [("traceparent", &*traceparent("01"))];
    let mut ada = gateway.client_with("/echo", &headers).await?;
    echo(&mut ada, "x").await?;
    ada.leave().await?;
    let spans = collector
        .wait_for("the spans of both nodes", |spans| {
            !named(spans, "client").is_empty() && named(spans, "on-close").len() == 2
        })
        .await?;
    assert!(spans.iter().all(|span| span.trace == TRACE));
    let client = the(&spans, "client");
    for function in ["on-connect", "on-message", "on-close"] {
        let events = named(&spans, function);
        assert_eq!(events.len(), 2, "{events:#?}");
        let (here, there): (Vec<_>, Vec<_>) = events
            .into_iter()
            .partition(|span| span.node == client.node);
        assert_eq!(here[0].parent, client.id);
        let dispatched = named(&spans, "dispatch");
        let dispatched = dispatched.iter().find(|span| span.id == there[0].parent);
        let dispatched = dispatched.expect("the way to the worker");
        assert_eq!((&dispatched.parent, dispatched.kind), (&here[0].id, CLIENT));
        assert_eq!(there[0].kind, SERVER);
        assert_eq!(there[0].get("jackfield.generation"), "1");
    }
    // What the worker sends to the client goes back as a delivery.
    let sent = named(&spans, "deliver");
    let sent_there = sent.iter().find(|span| span.kind == PRODUCER);
    let taken_here = sent.iter().find(|span| span.kind == CONSUMER);
    let (sent, taken) = (sent_there.expect("sent"), taken_here.expect("taken"));
    assert_eq!(taken.parent, sent.id);
    assert_eq!(
        (taken.node == client.node, sent.node == client.node),
        (true, false)
    );
    Ok(())
}

#[tokio::test]
async fn questions_and_deliveries_to_other_nodes_are_in_the_trace() -> Result<()> {
    let collector = Collector::start().await?;
    let config = collector.config(FOLLOW);
    let cluster = Cluster::start(2, |node| node.plugin("console").config(&config)).await?;
    let (one, other) = (&cluster[0], &cluster[1]);
    let mut bob = other.console(&[("group", "tea")]).await?;
    let headers = [("traceparent", &*traceparent("01"))];
    let ada = Client::connect(one.address(), "/console", &headers).await?;
    let mut ada = Console::greet(ada).await?;
    ada.ok(json!({ "do": "get-info", "client": bob.id() }))
        .await?;
    let send = json!({ "do": "send-to-group", "groups": ["tea"], "text": "x" });
    // Until the node is told of the member, nothing goes to the other one.
    while ada.ok(send.clone()).await?["clients"] == 0 {}
    assert_eq!(bob.next().await?, text("x"));
    ada.leave().await?;
    let spans = collector
        .wait_for("the spans of both nodes", |spans| {
            !named(spans, "client").is_empty()
                && named(spans, "deliver").len() == 2
                && named(spans, "answer").len() == 1
        })
        .await?;
    let messages: Vec<_> = named(&spans, "on-message").iter().map(|s| &s.id).collect();
    let (ask, answer) = (the(&spans, "ask"), the(&spans, "answer"));
    assert!(messages.contains(&&ask.parent));
    assert_eq!((&answer.parent, answer.kind), (&ask.id, SERVER));
    assert_ne!(ask.node, answer.node);
    let deliveries = named(&spans, "deliver");
    let sent = deliveries
        .iter()
        .find(|span| span.kind == PRODUCER)
        .expect("sent");
    let taken = deliveries
        .iter()
        .find(|span| span.kind == CONSUMER)
        .expect("taken");
    assert!(messages.contains(&&sent.parent));
    assert_eq!(sent.get("jackfield.nodes"), "1");
    assert_eq!(taken.parent, sent.id);
    assert!(spans.iter().all(|span| span.trace == TRACE));
    Ok(())
}
