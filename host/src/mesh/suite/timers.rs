//! Timers of the cluster: all nodes know them, and exactly one node fires each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::network::{Network, WireState};
use super::test_node::{CHAT, Setting, TestNode};
use super::{eventually, scenarios};
use crate::limits::Limits;
use crate::registry::{Schedule, Scope};

scenarios!(
    every_node_knows_a_timer_and_one_fires_it,
    a_newcomer_fires_nothing_before_it_knows_all_others,
    when_the_node_that_fires_is_gone_another_one_does,
);

fn limits() -> Limits {
    Limits {
        suspect_after: Duration::from_millis(700),
        gone_after: Duration::from_millis(1500),
        ..Limits::default()
    }
}

/// The largest number of timers of the plugin.
const MOST: usize = 1000;

fn names() -> impl Iterator<Item = String> {
    (0..100).map(|number| format!("timer {number}"))
}

fn sets(node: &TestNode) {
    let at = Instant::now() + Duration::from_secs(3600);
    let schedule = Schedule { at, every: None };
    for name in names() {
        let set = node
            .chat
            .timers()
            .set(1, Scope::Cluster, &name, schedule, MOST);
        set.expect("room for the timer");
    }
}

/// Waits until each node fires more than ten of the hundred timers. A node that has just settled
/// leaves them to the others for a moment.
async fn each_has_its_share(nodes: &[&TestNode]) {
    let share = |node: &TestNode| {
        let fired = names().filter(|name| node.mesh.fires(&node.chat, name));
        fired.count()
    };
    let is_so = || nodes.iter().all(|node| share(node) > 10);
    eventually("each node to have its share", is_so).await;
}

/// Waits until all nodes agree on the one node that fires each timer.
async fn one_fires_each(nodes: &[&TestNode]) {
    let firing = |name: &str| {
        let fires = |node: &&&TestNode| node.mesh.fires(&node.chat, name);
        nodes.iter().filter(fires).count()
    };
    let is_so = || names().all(|name| firing(&name) == 1);
    eventually("one node to fire each timer", is_so).await;
}

async fn every_node_knows_a_timer_and_one_fires_it(network: &Arc<Network>) {
    let [a, b, c] = TestNode::group(network, &limits()).await;
    for node in [&a, &b, &c] {
        node.chat.timers().open(MOST, true);
    }
    sets(&a);
    for node in [&a, &b, &c] {
        let known = || node.chat.timers().all_known().len() == 100;
        eventually("the timers to be known", known).await;
        node.mesh.settled().await;
    }
    each_has_its_share(&[&a, &b, &c]).await;
    one_fires_each(&[&a, &b, &c]).await;
    assert!(b.chat.timers().cancel(Scope::Cluster, "timer 7"));
    for node in [&a, &c] {
        let is_ended = || {
            let known = node.chat.timers().known("timer 7");
            known.is_some_and(|timer| timer.schedule.is_none())
        };
        eventually("the end of the timer to be known", is_ended).await;
    }
}

async fn a_newcomer_fires_nothing_before_it_knows_all_others(network: &Arc<Network>) {
    let [here] = TestNode::group(network, &limits()).await;
    here.chat.timers().open(MOST, true);
    here.mesh.settled().await;
    sets(&here);
    let setting = Setting {
        limits: limits(),
        ..Setting::default()
    };
    let newcomer = TestNode::start(network, setting).await;
    newcomer.chat.timers().open(MOST, true);
    newcomer.dials(&here);
    newcomer.knows([&here]).await;
    here.knows([&newcomer]).await;
    eventually("the timers to be known", || {
        newcomer.chat.timers().all_known().len() == 100
    })
    .await;
    // The other node has settled just before, and has taken over what there was.
    let fires_all = || names().all(|name| here.mesh.fires(&here.chat, &name));
    let has_taken_over = || fires_all() || newcomer.mesh.is_settled();
    eventually("the settled node to fire all timers", has_taken_over).await;
    // Over gRPC the time goes on meanwhile, and may have been enough for the newcomer.
    assert!(network.is_grpc || !newcomer.mesh.is_settled());
    if !newcomer.mesh.is_settled() {
        assert!(!names().any(|name| newcomer.mesh.fires(&newcomer.chat, &name)));
    }
    newcomer.mesh.settled().await;
    each_has_its_share(&[&here, &newcomer]).await;
    one_fires_each(&[&here, &newcomer]).await;
}

async fn when_the_node_that_fires_is_gone_another_one_does(network: &Arc<Network>) {
    let [a, b, c] = TestNode::group(network, &limits()).await;
    for node in [&a, &b, &c] {
        node.chat.timers().open(MOST, true);
        node.mesh.settled().await;
    }
    sets(&c);
    one_fires_each(&[&a, &b, &c]).await;
    for node in [&a, &b] {
        let known = || node.chat.timers().all_known().len() == 100;
        eventually("the timers to be known", known).await;
        node.wires(&c, WireState::Broken);
    }
    a.knows([&b]).await;
    b.knows([&a]).await;
    one_fires_each(&[&a, &b]).await;
    assert!(a.mesh.interest().space(CHAT).is_some());
}
