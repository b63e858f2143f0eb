//! The silence of peers: it shows which peers are suspect, and which are gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::peer::Peer;
use super::state::Mesh;

/// How often the silence of the peers is checked.
const LOOK: Duration = Duration::from_millis(200);

/// How long a peer must have been silent before another node at its address replaces it. Such a
/// peer has been restarted, and this node need not wait for it.
const REPLACED_AFTER: Duration = Duration::from_secs(1);

/// How often plugins are forgotten about which no peer says anything any more.
const PRUNE: Duration = Duration::from_secs(1);

/// How many times `worker_wait` a plugin is remembered whose last node was lost: ten minutes by
/// default. Until then, its clients are told to come back.
const ORPHANED_WAITS: u32 = 60;

impl Mesh {
    /// Watches the peers for as long as the node runs.
    pub(super) async fn watch(self: Arc<Self>) {
        let mut looked = Instant::now();
        let mut pruned = Instant::now();
        loop {
            tokio::time::sleep(LOOK).await;
            let was_stopped = looked.elapsed() > self.limits().suspect_after / 2;
            looked = Instant::now();
            for peer in self.peers() {
                if was_stopped {
                    peer.last_heard.excuse();
                }
                self.look_at(&peer);
            }
            if pruned.elapsed() > PRUNE {
                pruned = Instant::now();
                self.prune_interest();
            }
        }
    }

    fn prune_interest(&self) {
        let lasting = self.limits().worker_wait * ORPHANED_WAITS;
        let has_clients = |plugin: &str| {
            let namespace = self.registry.namespace(plugin);
            namespace.is_some_and(|namespace| namespace.client_count() > 0)
        };
        if self.interest.prune(lasting, has_clients) {
            self.serving_changed.send_replace(());
        }
    }

    fn look_at(&self, peer: &Peer) {
        let silent = peer.last_heard.silent_for();
        if silent > self.limits().gone_after {
            let why = match peer.last_heard.is_one_way() {
                true => "it hears us and does not reach us; is our address right (--advertise)?",
                false => "it has said nothing for gone_after",
            };
            return self.lose(peer, why);
        }
        if silent > REPLACED_AFTER && self.is_replaced(peer) {
            return self.lose(peer, "another node has its address");
        }
        let is_suspect = silent > self.limits().suspect_after;
        let phase = peer.change(|phase| phase.set_silent(is_suspect));
        if is_suspect != phase.is_silent() {
            self.serving_changed.send_replace(());
        }
        if is_suspect {
            // Each time: one may have been asked while this was found out.
            peer.take_back();
        }
        if is_suspect && !phase.is_silent() && phase.has_come() {
            let (peer, address) = (peer.incarnation(), peer.address());
            tracing::warn!(%peer, address, ?silent, "a node is silent");
        }
    }

    /// Whether another node now has the address of this peer, because the peer was restarted there.
    fn is_replaced(&self, peer: &Peer) -> bool {
        let address = peer.address();
        let peers = self.peers();
        peers.iter().any(|other| {
            other.incarnation() != peer.incarnation()
                && other.address() == address
                && other.last_heard.silent_for() < REPLACED_AFTER
        })
    }
}
