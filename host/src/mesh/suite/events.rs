//! Events that another node handles: each is handled once, or the sender learns what became of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::network::{Network, WireState};
use super::test_node::{CHAT, TestNode};
use super::{eventually, scenarios};
use crate::limits::Limits;
use crate::mesh::Elsewhere;
use crate::mesh::peer_event::{Call, EventRequest, Failed, NotHandled, PeerEvent, not_handled};
use crate::mesh::wire::answer::Answer;
use crate::registry::{Serving, ServingState};

scenarios!(
    an_event_goes_to_a_node_that_runs_the_plugin,
    an_event_that_never_went_out_can_go_to_another_node,
    an_event_under_way_to_a_node_that_is_gone_is_told_so,
    an_event_that_nobody_answers_is_late,
);

/// How long a node may take for an event.
const EVENT: Duration = Duration::from_secs(5);

fn limits() -> Limits {
    Limits {
        suspect_after: Duration::from_millis(700),
        gone_after: Duration::from_millis(1500),
        ..Limits::default()
    }
}

/// Lets the node run the plugin, and returns the events that come for it.
fn serves(node: &TestNode) -> mpsc::Receiver<PeerEvent> {
    node.chat.serve(Serving {
        state: ServingState::Open,
        patience: EVENT,
        ..Serving::default()
    });
    node.mesh
        .peer_events()
        .expect("nobody has taken the events yet")
}

fn call(text: &str) -> EventRequest<Result<bytes::Bytes, crate::mesh::peer_event::CallFailed>> {
    EventRequest::call(Call {
        method: "echo".to_owned(),
        payload: text.as_bytes().to_vec().into(),
        ..Call::default()
    })
}

async fn an_event_goes_to_a_node_that_runs_the_plugin(network: &Arc<Network>) {
    let [gateway, first, second] = TestNode::group(network, &limits()).await;
    assert_eq!(gateway.mesh.elsewhere(CHAT), Elsewhere::Nobody);
    for node in [&first, &second] {
        let mut events = serves(node);
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                event.answer(Answer::Called("answer".into()));
            }
        });
    }
    eventually("both to run it", || {
        let runs = |node: &TestNode| gateway.knows_that_runs(node);
        runs(&first) && runs(&second)
    })
    .await;
    assert_eq!(gateway.mesh.elsewhere(CHAT), Elsewhere::Open);
    let mut by = [0, 0];
    for number in 0..200 {
        let worker = gateway.mesh.worker(CHAT, number, None, false);
        let worker = worker.expect("two run it").node;
        by[usize::from(worker == second.own())] += 1;
        let again = gateway.mesh.worker(CHAT, number + 1, Some(worker), false);
        assert_eq!(again.expect("it goes on").node, worker);
        let answer = gateway.mesh.dispatch(worker, CHAT, call("1"), EVENT).await;
        assert_eq!(answer.expect("handled").expect("called"), "answer");
    }
    assert!(by.iter().all(|events| *events > 50), "{by:?}");
}

async fn an_event_that_never_went_out_can_go_to_another_node(network: &Arc<Network>) {
    let [gateway, worker] = TestNode::group(network, &limits()).await;
    let mut events = serves(&worker);
    let runs = || gateway.knows_that_runs(&worker);
    eventually("the worker to run it", runs).await;
    gateway.wires(&worker, WireState::Broken);
    let peer = gateway.mesh.peer(worker.own()).expect("it is known");
    eventually("the link to break", || !peer.outbound.is_dialled()).await;
    let dispatched = gateway
        .mesh
        .dispatch(worker.own(), CHAT, call("1"), EVENT * 10);
    assert_eq!(dispatched.await.map(drop), Err(Failed::Untold));
    gateway.wires(&worker, WireState::Up);
    gateway.knows([&worker]).await;
    let dispatching = gateway.mesh.dispatch(worker.own(), CHAT, call("2"), EVENT);
    let handling = async {
        let event = events.recv().await.expect("the second event");
        event.answer(not_handled(NotHandled::Trapped));
    };
    let (dispatched, ()) = tokio::join!(dispatching, handling);
    assert_eq!(
        dispatched.map(drop),
        Err(Failed::NotHandled(NotHandled::Trapped))
    );
    assert!(events.try_recv().is_err(), "the first one never comes");
}

async fn an_event_under_way_to_a_node_that_is_gone_is_told_so(network: &Arc<Network>) {
    let [gateway, worker] = TestNode::group(network, &limits()).await;
    let mut events = serves(&worker);
    let runs = || gateway.knows_that_runs(&worker);
    eventually("the worker to run it", runs).await;
    let dispatching = gateway
        .mesh
        .dispatch(worker.own(), CHAT, call("1"), EVENT * 10);
    let dying = async {
        let event = events.recv().await.expect("the event");
        gateway.wires(&worker, WireState::Broken);
        event
    };
    let (dispatched, event) = tokio::join!(dispatching, dying);
    assert_eq!(dispatched.map(drop), Err(Failed::Gone));
    // An answer to a peer that is gone goes nowhere, and harms nobody.
    event.answer(Answer::Called("late".into()));
}

async fn an_event_that_nobody_answers_is_late(network: &Arc<Network>) {
    let [gateway, worker] = TestNode::group(network, &limits()).await;
    let mut events = serves(&worker);
    let runs = || gateway.knows_that_runs(&worker);
    eventually("the worker to run it", runs).await;
    let patience = Duration::from_millis(100);
    let dispatched = gateway
        .mesh
        .dispatch(worker.own(), CHAT, call("1"), patience)
        .await;
    assert_eq!(dispatched.map(drop), Err(Failed::Late));
    let late = events.recv().await.expect("it came");
    late.answer(Answer::Called("late".into()));
    // The late answer is nobody's, and the next one is right.
    let dispatching = gateway.mesh.dispatch(worker.own(), CHAT, call("2"), EVENT);
    let handling = async {
        let event = events.recv().await.expect("the next event");
        event.answer(Answer::Called("in time".into()));
    };
    let (dispatched, ()) = tokio::join!(dispatching, handling);
    assert_eq!(dispatched.expect("handled").expect("called"), "in time");
}
