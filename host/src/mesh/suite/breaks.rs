//! Links that break and stall: nothing is lost or doubled, and the order stays, until a bound or
//! `gone_after` says otherwise.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, interval, timeout};

use super::network::{Network, WireState};
use super::test_node::{TestNode, heard};
use super::{eventually, scenarios};
use crate::limits::{Limits, PEER_MESSAGE_BYTES_MIN};
use crate::registry::Kind;

scenarios!(
    a_cut_link_loses_nothing,
    a_stalled_link_loses_nothing,
    a_link_without_acknowledgements_doubles_nothing,
    a_link_that_is_cut_again_and_again_loses_and_doubles_nothing,
    a_full_link_drops_counts_and_goes_on,
    a_full_link_tells_again_what_the_node_holds,
    a_snapshot_that_is_cut_is_sent_again,
    a_frame_that_is_too_large_for_the_peer_is_dropped,
);

/// How long each link is broken. This is longer than a connection may be silent, and shorter than
/// `suspect_after`.
const BROKEN: Duration = Duration::from_millis(2500);

/// How often a message is sent.
const PACE: Duration = Duration::from_millis(10);

/// Sends messages to a group on the other node, before `breaks`, for `BROKEN`, and after `heals`.
/// Each of them must arrive once and in order.
async fn loses_nothing(
    network: &Arc<Network>,
    breaks: impl Fn(&TestNode, &TestNode),
    meanwhile: impl Fn(&TestNode, &TestNode),
    heals: impl Fn(&TestNode, &TestNode),
) {
    let [here, there] = TestNode::group(network, &Limits::default()).await;
    let bob = there.member("g");
    here.sees(Kind::Group, "g", 1).await;
    let sent = Cell::new(0);
    let say = || {
        let forwarded = here.sends("g", &sent.get().to_string());
        assert_eq!((forwarded.clients, forwarded.missing), (1, vec![]));
        sent.set(sent.get() + 1);
    };
    let mut pace = interval(PACE);
    for _ in 0..20 {
        pace.tick().await;
        say();
    }
    breaks(&here, &there);
    let broken = Instant::now();
    while broken.elapsed() < BROKEN {
        pace.tick().await;
        meanwhile(&here, &there);
        say();
    }
    heals(&here, &there);
    for _ in 0..20 {
        pace.tick().await;
        say();
    }
    hears(&bob, (0..sent.get()).map(|number: u64| number.to_string())).await;
    let is_empty = || here.mesh.peers()[0].waiting() == (0, 0);
    eventually("the link to be empty", is_empty).await;
    assert_eq!(heard(&bob), [""; 0]);
    assert_eq!(here.dropped(), 0);
}

/// Waits until the client has heard these messages, and in this order.
async fn hears(client: &crate::registry::Client, texts: impl Iterator<Item = String>) {
    let expected: Vec<String> = texts.collect();
    let all = std::cell::RefCell::new(Vec::new());
    let has_heard = || {
        all.borrow_mut().extend(heard(client));
        all.borrow().len() >= expected.len()
    };
    eventually("all messages to arrive", has_heard).await;
    assert_eq!(all.into_inner(), expected);
}

fn nothing(_: &TestNode, _: &TestNode) {}

fn up(here: &TestNode, there: &TestNode) {
    here.wires(there, WireState::Up);
}

async fn a_cut_link_loses_nothing(network: &Arc<Network>) {
    let cut = |here: &TestNode, there: &TestNode| here.wires(there, WireState::Broken);
    loses_nothing(network, cut, nothing, up).await;
}

async fn a_stalled_link_loses_nothing(network: &Arc<Network>) {
    let stall = |here: &TestNode, there: &TestNode| here.wires(there, WireState::Stalled);
    loses_nothing(network, stall, nothing, up).await;
}

async fn a_link_without_acknowledgements_doubles_nothing(network: &Arc<Network>) {
    let stall = |here: &TestNode, there: &TestNode| there.wire_to(here, WireState::Stalled);
    loses_nothing(network, stall, nothing, up).await;
}

async fn a_link_that_is_cut_again_and_again_loses_and_doubles_nothing(network: &Arc<Network>) {
    let rounds = Cell::new(0_u32);
    // A new connection lives for some tens of milliseconds.
    let flap = |here: &TestNode, there: &TestNode| {
        rounds.set(rounds.get() + 1);
        match rounds.get() % 40 {
            0 => here.wires(there, WireState::Broken),
            5 => here.wires(there, WireState::Up),
            _ => {}
        }
    };
    loses_nothing(network, nothing, flap, up).await;
}

/// Limits under which a link is full soon.
fn narrow() -> Limits {
    Limits {
        link_bytes: 64 << 10,
        ..Limits::default()
    }
}

async fn a_full_link_drops_counts_and_goes_on(network: &Arc<Network>) {
    let [here, there] = TestNode::group(network, &narrow()).await;
    let bob = there.member("g");
    here.sees(Kind::Group, "g", 1).await;
    here.wires(&there, WireState::Broken);
    let filler = "m".repeat(1000);
    let mut taken = 0;
    while here.sends("g", &filler).missing.is_empty() {
        taken += 1;
    }
    assert!((40..70).contains(&taken), "{taken} messages in 64 KiB");
    for _ in 0..9 {
        assert_eq!(here.sends("g", &filler).missing, [there.own()]);
    }
    assert_eq!(here.dropped(), 10);
    assert_eq!(here.mesh.peers()[0].dropped(), 10);
    here.wires(&there, WireState::Up);
    let has_room = || here.mesh.peers()[0].waiting() == (0, 0);
    eventually("the link to be empty", has_room).await;
    assert_eq!(here.sends("g", "last").missing, []);
    let last = std::iter::once("last".to_owned());
    hears(&bob, std::iter::repeat_n(filler, taken).chain(last)).await;
}

async fn a_full_link_tells_again_what_the_node_holds(network: &Arc<Network>) {
    let [here, there] = TestNode::group(network, &narrow()).await;
    let ada = here.member("old");
    let _bob = there.member("g");
    here.sees(Kind::Group, "g", 1).await;
    there.sees(Kind::Group, "old", 1).await;
    here.wires(&there, WireState::Broken);
    while here.sends("g", &"m".repeat(1000)).missing.is_empty() {}
    // More changes than the link has room for, and they must not be missed.
    here.chat.leave_group(ada.id(), "old").expect("it is here");
    for number in 0..10_000 {
        let client = here.member(&format!("group {number}"));
        here.chat
            .bind_uid(client.id(), &format!("uid {number}"), 0)
            .expect("it is free");
    }
    here.mesh.publish();
    here.wires(&there, WireState::Up);
    there.sees(Kind::Group, "old", 0).await;
    there.sees(Kind::Group, "group 9999", 1).await;
    there.sees(Kind::Uid, "uid 9999", 1).await;
    there.knows([&here]).await;
    let sizes = there.mesh.interest().sizes(here.own());
    assert_eq!(
        (sizes.uids, sizes.groups, sizes.clients),
        (10_000, 10_000, 10_001)
    );
    assert!(here.dropped() > 40, "{}", here.dropped());
}

async fn a_snapshot_that_is_cut_is_sent_again(network: &Arc<Network>) {
    // The link has room for one page of names at a time, so a snapshot takes many round trips.
    let limits = Limits {
        link_bytes: 20_000,
        groups_per_client: 10_000,
        ..Limits::default()
    };
    let [here, there] = TestNode::group(network, &limits).await;
    let ada = here.client();
    here.wires(&there, WireState::Broken);
    eventually("the link to break", || {
        !here.mesh.peers()[0].outbound.is_dialled()
    })
    .await;
    for number in 0..10_000 {
        let group = format!("group {number:05}");
        let joined = here.chat.join_group(ada.id(), &group);
        joined.expect("room for the group");
    }
    let known = || there.mesh.interest().sizes(here.own()).groups;
    for part in [1, 3_000, 6_000] {
        here.wires(&there, WireState::Up);
        eventually("a part of the snapshot", || known() >= part).await;
        here.wires(&there, WireState::Broken);
        let peer = || there.mesh.peer(here.own());
        eventually("the link to break", || {
            peer().is_none_or(|p| !p.outbound.is_dialled())
        })
        .await;
    }
    here.wires(&there, WireState::Up);
    there.knows([&here]).await;
    eventually("all groups", || known() == 10_000).await;
    there.sees(Kind::Group, "group 09999", 1).await;
}

async fn a_frame_that_is_too_large_for_the_peer_is_dropped(network: &Arc<Network>) {
    let limits = Limits {
        outbox_bytes: PEER_MESSAGE_BYTES_MIN,
        ..Limits::default()
    };
    let [here, there] = TestNode::group(network, &limits).await;
    let bob = there.member("g");
    here.sees(Kind::Group, "g", 1).await;
    let linked = || here.mesh.peers()[0].outbound.is_dialled();
    eventually("the link", linked).await;
    let largest = here.mesh.peers()[0].outbound.largest_frame();
    assert_eq!(here.sends("g", &"m".repeat(largest)).missing, [there.own()]);
    assert_eq!(here.sends("g", "small").missing, []);
    hears(&bob, std::iter::once("small".to_owned())).await;
    assert_eq!(here.dropped(), 1);
    let linked = timeout(Duration::from_millis(100), here.mesh.peers()[0].gone()).await;
    assert!(linked.is_err(), "the link goes on");
}
