//! Peers that are silent: suspect, gone, back again, killed, drained, or replaced.

use std::sync::Arc;
use std::time::Duration;

use super::network::{Network, WireState};
use super::test_node::{CHAT, Setting, TestNode, heard};
use super::{eventually, next_millisecond, scenarios};
use crate::limits::Limits;
use crate::mesh::ask;
use crate::mesh::phase::PeerState;
use crate::mesh::{AskError, Unanswered};
use crate::registry::Kind;

scenarios!(
    a_suspect_peer_is_asked_nothing_and_misses_nothing,
    cut_for_too_long_both_sides_forget_each_other_and_meet_again,
    cut_one_way_both_sides_are_silent_to_each_other,
    taken_for_gone_by_one_side_only_both_agree_on_a_uid,
    a_partition_serves_on_both_sides_and_agrees_afterwards,
    a_killed_node_is_forgotten_and_its_successor_is_another_node,
    a_node_that_drains_is_forgotten_at_once,
);

/// Limits under which a peer is suspect soon, and never gone within a scenario.
fn patient() -> Limits {
    Limits {
        suspect_after: Duration::from_millis(1500),
        gone_after: Duration::from_secs(600),
        ask_timeout: Duration::from_secs(3600),
        ..Limits::default()
    }
}

/// Limits under which a peer is gone soon.
fn impatient() -> Limits {
    Limits {
        suspect_after: Duration::from_millis(700),
        gone_after: Duration::from_millis(1500),
        ..Limits::default()
    }
}

async fn a_suspect_peer_is_asked_nothing_and_misses_nothing(network: &Arc<Network>) {
    let [here, there] = TestNode::group(network, &patient()).await;
    let bob = there.member("g");
    here.sees(Kind::Group, "g", 1).await;
    here.wires(&there, WireState::Stalled);
    let is_suspect = || here.state_of(&there) == Some(PeerState::Suspect);
    eventually("it to be suspect", is_suspect).await;

    // An answer is not waited for: `ask_timeout` is an hour.
    let asked = here.mesh.ask(there.own(), CHAT, ask::uid(bob.id())).await;
    let unreachable = Unanswered::Unreachable(there.own());
    assert!(matches!(asked, Err(AskError::Unanswered(why)) if why == unreachable));
    assert_eq!(here.mesh.unknown(), [there.own()]);
    assert_eq!(here.sends("g", "1").missing, [], "it waits in the link");

    here.wires(&there, WireState::Up);
    here.knows([&there]).await;
    eventually("the message", || heard(&bob) == ["1"]).await;
    assert_eq!(here.mesh.unknown(), []);
    let uid = here.mesh.ask(there.own(), CHAT, ask::uid(bob.id())).await;
    assert_eq!(uid.expect("an answer"), None);
}

async fn cut_for_too_long_both_sides_forget_each_other_and_meet_again(network: &Arc<Network>) {
    let [here, there] = TestNode::group(network, &impatient()).await;
    let ada = here.member("g");
    let bob = there.member("g");
    here.sees(Kind::Group, "g", 1).await;
    there.sees(Kind::Group, "g", 1).await;
    here.wires(&there, WireState::Broken);
    for _ in 0..100 {
        here.sends("g", "it waits, and is lost with the peer");
    }
    here.knows([]).await;
    there.knows([]).await;
    // They, and what the node said of itself since.
    let dropped = here.dropped();
    assert!((100..110).contains(&dropped), "{dropped}");
    assert_eq!(here.elsewhere(Kind::Group, "g"), 0);
    assert_eq!(here.sends("g", "nobody is there").clients, 0);

    // What happens meanwhile the other side is told afterwards.
    there.chat.leave_group(bob.id(), "g").expect("it is here");
    there.chat.join_group(bob.id(), "h").expect("it is here");
    here.wires(&there, WireState::Up);
    here.knows([&there]).await;
    there.knows([&here]).await;
    assert_eq!(here.elsewhere(Kind::Group, "g"), 0);
    here.sends("h", "1");
    there.sends("g", "2");
    eventually("the message there", || heard(&bob) == ["1"]).await;
    eventually("the message here", || heard(&ada) == ["2"]).await;
}

async fn cut_one_way_both_sides_are_silent_to_each_other(network: &Arc<Network>) {
    let [here, there, other] = TestNode::group(network, &patient()).await;
    here.wire_to(&there, WireState::Stalled);
    for (node, silent) in [(&here, &there), (&there, &here)] {
        let is_suspect = || node.state_of(silent) == Some(PeerState::Suspect);
        eventually("it to be suspect", is_suspect).await;
        assert_eq!(node.state_of(&other), Some(PeerState::Alive));
    }
    here.wire_to(&there, WireState::Up);
    here.knows([&there, &other]).await;
    there.knows([&here, &other]).await;
}

async fn taken_for_gone_by_one_side_only_both_agree_on_a_uid(network: &Arc<Network>) {
    let start = async |limits: Limits| {
        let setting = Setting {
            limits,
            ..Setting::default()
        };
        let node = TestNode::start(network, setting).await;
        node.kicks_old();
        node
    };
    for is_older_forgetful in [true, false] {
        let forgetful = start(impatient()).await;
        let patient = start(patient()).await;
        forgetful.dials(&patient);
        forgetful.knows([&patient]).await;
        patient.knows([&forgetful]).await;
        // Its link has a past.
        let _member = forgetful.member("g");
        patient.sees(Kind::Group, "g", 1).await;
        patient.sends("g", "1");
        forgetful.wires(&patient, WireState::Stalled);
        forgetful.knows([]).await;
        let (older, newer) = match is_older_forgetful {
            true => (&forgetful, &patient),
            false => (&patient, &forgetful),
        };
        let binds = |node: &TestNode| {
            let client = node.client();
            let bound = node.mesh.bind_uid(&node.chat, client.id(), "ada");
            bound.expect("the uid moves");
            client
        };
        let old = binds(older);
        next_millisecond();
        let new = binds(newer);
        forgetful.wires(&patient, WireState::Up);
        forgetful.knows([&patient]).await;
        patient.knows([&forgetful]).await;
        eventually("the older client to be closed", || old.has_left()).await;
        assert!(!new.has_left());
        newer.sees(Kind::Uid, "ada", 0).await;
        older.sees(Kind::Uid, "ada", 1).await;
    }
}

async fn a_partition_serves_on_both_sides_and_agrees_afterwards(network: &Arc<Network>) {
    let [a, b, c] = TestNode::group(network, &impatient()).await;
    for node in [&a, &b, &c] {
        node.kicks_old();
    }
    a.wires(&b, WireState::Broken);
    a.wires(&c, WireState::Broken);
    a.knows([]).await;
    b.knows([&c]).await;
    c.knows([&b]).await;

    let old = a.member("g");
    a.mesh.bind_uid(&a.chat, old.id(), "ada").expect("free");
    next_millisecond();
    let new = b.member("g");
    b.mesh.bind_uid(&b.chat, new.id(), "ada").expect("free");
    let zoe = c.member("g");
    b.sees(Kind::Group, "g", 1).await;
    assert_eq!(b.sends("g", "1").clients, 1);
    eventually("the message", || heard(&zoe) == ["1"]).await;
    assert!(!old.has_left() && !new.has_left());

    a.wires(&b, WireState::Up);
    a.wires(&c, WireState::Up);
    for (node, others) in [(&a, [&b, &c]), (&b, [&a, &c]), (&c, [&a, &b])] {
        node.knows(others).await;
    }
    eventually("the older client to be closed", || old.has_left()).await;
    assert!(!new.has_left());
    c.sees(Kind::Uid, "ada", 1).await;
    c.sees(Kind::Group, "g", 1).await;
    a.sees(Kind::Group, "g", 2).await;
}

async fn a_killed_node_is_forgotten_and_its_successor_is_another_node(network: &Arc<Network>) {
    let [here, there] = TestNode::group(network, &impatient()).await;
    let bob = there.member("g");
    here.sees(Kind::Group, "g", 1).await;
    there.is_killed([&here]).await;
    let successor = Setting {
        limits: impatient(),
        address: Some(there.mesh.address().to_owned()),
        ..Setting::default()
    };
    let successor = TestNode::start(network, successor).await;
    here.knows([&successor]).await;
    successor.knows([&here]).await;
    assert_eq!(here.elsewhere(Kind::Group, "g"), 0);
    let asked = here.mesh.ask(there.own(), CHAT, ask::uid(bob.id())).await;
    let no_node = Unanswered::NoNode(there.own());
    assert!(matches!(asked, Err(AskError::Unanswered(why)) if why == no_node));
    assert_eq!(here.mesh.dialled(), [""; 0], "nobody dials the dead one");
}

async fn a_node_that_drains_is_forgotten_at_once(network: &Arc<Network>) {
    let [here, there] = TestNode::group(network, &patient()).await;
    let bob = there.member("g");
    let ada = here.member("h");
    here.sees(Kind::Group, "g", 1).await;
    there.sees(Kind::Group, "h", 1).await;
    for number in 0..100 {
        assert_eq!(there.sends("h", &number.to_string()).clients, 1);
    }
    there.mesh.leave().await;
    here.knows([]).await;
    // What it sent before it left has come.
    assert_eq!(heard(&ada).len(), 100);
    assert_eq!(here.elsewhere(Kind::Group, "g"), 0);
    assert_eq!(here.dropped(), 0);
    drop(bob);
}
