//! Frames that no node sends. Whatever a peer sends, a node counts what it does not understand, and
//! goes on.

use bytes::Bytes;
use prost::Message as _;

use super::eventually;
use super::network::Network;
use super::test_node::{Setting, TestNode, heard};
use crate::fuzzing::fuzz;
use crate::limits::Limits;
use crate::mesh::wire;

#[tokio::test(start_paused = true)]
async fn whatever_a_peer_sends_a_node_goes_on() {
    let network = Network::over_channels();
    let [node, peer] = TestNode::group(&network, &Limits::default()).await;
    let _member = node.member("g");
    let sender = node.mesh.peer(peer.own()).expect("a peer");
    let (mut understood, mut not_understood) = (0, 0);
    fuzz("mesh-frames", 5_000, |bytes| {
        let decoded = wire::Frame::decode(bytes);
        if let Ok(decoded) = &decoded {
            let again = wire::Frame::decode(&*decoded.encode_to_vec());
            assert_eq!(again.as_ref(), Ok(decoded));
        }
        let counted = || node.registry.counters().mesh_not_understood.get();
        let before = counted();
        node.mesh.receive(&sender, Bytes::copy_from_slice(bytes));
        let is_counted = counted() > before;
        // An empty frame was taken back before it went out.
        let is_nothing = decoded.is_err() && !bytes.is_empty();
        assert!(is_counted || !is_nothing);
        match is_counted {
            true => not_understood += 1,
            false => understood += 1,
        }
    });
    assert!(
        understood > 500 && not_understood > 500,
        "{understood} and {not_understood}"
    );

    let other = TestNode::start(&network, Setting::default()).await;
    other.dials(&node);
    let member = node.member("still here");
    let is_heard = || {
        other.sends("still here", "hello");
        heard(&member).iter().any(|text| text == "hello")
    };
    eventually("a message from another node", is_heard).await;
}
