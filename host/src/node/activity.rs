//! What a node has done and does now, for a test that must know when it has done everything.
//!
//! Nothing is counted for this alone: whoever asks reads what is counted anyway.

use crate::id::Incarnation;
use crate::mesh::{Mesh, PeerState};
use crate::plugin::Plugins;
use crate::registry::Registry;

/// What a node has done, and what it does now. Two looks that are equal, and not busy, mean that nothing
/// is under way, if nobody has sent anything since the first one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Whether an event or an end of a generation is under way, a timer is due, or other nodes have not
    /// got everything yet.
    pub is_busy: bool,
    /// The number of clients whose `on-close` has not ended.
    pub sessions: usize,
    /// The number of frames that were sent to the clients that are here, or wait for them.
    pub frames: u64,
    /// The other nodes that this one knows, in order.
    pub peers: Vec<(Incarnation, PeerState)>,
    /// Whether the node fires its share of the timers of the cluster.
    pub fires_its_share: bool,
    /// The values of all counters. As long as they stay, nothing has happened.
    pub counts: Vec<u64>,
}

impl Activity {
    /// Looks at what the parts of a node do.
    pub(super) fn of(registry: &Registry, mesh: Option<&Mesh>, plugins: &Plugins) -> Activity {
        let has_changes = registry
            .changes()
            .is_some_and(|changes| changes.is_pending());
        let peers = mesh.map(Mesh::peers).unwrap_or_default();
        let waits_for_peers = peers.iter().any(|peer| peer.waiting().0 > 0);
        let known = peers
            .iter()
            .filter_map(|peer| Some((peer.incarnation(), peer.state()?)));
        let counts = registry.counters().snapshot();
        Activity {
            is_busy: has_changes || waits_for_peers || plugins.is_busy(),
            sessions: plugins.session_count(),
            frames: plugins.frame_count(),
            peers: known.collect(),
            fires_its_share: mesh.is_none_or(Mesh::fires_its_share),
            counts: counts.into_iter().map(|(.., count)| count).collect(),
        }
    }
}
