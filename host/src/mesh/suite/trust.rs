//! Who takes part: nodes that prove that they know the mesh's secret, each at an address of its
//! own.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::network::Network;
use super::scenarios;
use super::test_node::{Setting, TestNode};
use crate::limits::Limits;

scenarios!(
    nodes_with_one_secret_meet,
    nodes_with_different_secrets_do_not_meet,
    a_node_that_dials_itself_is_no_peer,
    a_node_that_is_not_reached_at_its_address_is_refused,
);

const BLUE: &str = "blue blue blue blue";
const GREEN: &str = "green green green green";

/// How long it is watched that nothing happens. Nodes try four times a second.
const WATCHED: Duration = Duration::from_millis(1200);

async fn start(network: &Arc<Network>, secret: &'static str) -> TestNode {
    let setting = Setting {
        secret,
        ..Setting::default()
    };
    TestNode::start(network, setting).await
}

async fn nodes_with_one_secret_meet(network: &Arc<Network>) {
    let (here, there) = (start(network, BLUE).await, start(network, BLUE).await);
    here.dials(&there);
    here.knows([&there]).await;
    there.knows([&here]).await;
}

async fn nodes_with_different_secrets_do_not_meet(network: &Arc<Network>) {
    for (one, other) in [(BLUE, GREEN), (BLUE, ""), ("", BLUE)] {
        let (here, there) = (start(network, one).await, start(network, other).await);
        here.dials(&there);
        there.dials(&here);
        let meeting = async {
            tokio::join!(here.knows([&there]), there.knows([&here]));
        };
        assert!(timeout(WATCHED, meeting).await.is_err(), "they have met");
        for node in [&here, &there] {
            assert!(node.mesh.peers().is_empty());
            let untrusted = node.registry.counters().mesh_untrusted.get();
            assert!(untrusted > 0, "it counts the stranger");
        }
    }
}

async fn a_node_that_dials_itself_is_no_peer(network: &Arc<Network>) {
    let [here, there] = TestNode::group(network, &Limits::default()).await;
    here.dials(&here);
    let lasting = timeout(WATCHED, here.mesh.peers()[0].gone()).await;
    assert!(lasting.is_err(), "the other peer stays");
    here.knows([&there]).await;
}

async fn a_node_that_is_not_reached_at_its_address_is_refused(network: &Arc<Network>) {
    let here = start(network, "").await;
    let there = start(network, "").await;
    // From there to here all is well, but here cannot dial back.
    network.set(
        here.mesh.address(),
        there.mesh.address(),
        super::network::WireState::Broken,
    );
    there.dials(&here);
    let meeting = timeout(WATCHED, there.knows([&here])).await;
    assert!(meeting.is_err(), "they have met");
    assert!(here.mesh.peers().is_empty());
}
