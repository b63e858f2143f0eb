//! Publishing: a peer that is new gets a full snapshot of what this node holds, and from then on
//! all peers get the changes.
//!
//! The registry is read and the links are written under one lock, so the last value that a peer
//! gets for a name is the right one. Changes during a snapshot are sent at once, too, since all
//! counts are absolute.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::peer::Peer;
use super::state::Mesh;
use super::{timers, wire};
use crate::id::ClientId;
use crate::registry::{Kind, Namespace};

/// The most names in one frame.
const NAMES_A_FRAME: usize = 1000;

/// How long changes are gathered before they are sent: a group that a thousand clients join then
/// takes one frame and not a thousand.
const GATHER: Duration = Duration::from_millis(1);

impl Mesh {
    /// Tells the peers about changes, for as long as the node runs.
    pub(super) async fn keep_publishing(self: Arc<Self>) {
        let Some(changes) = self.registry.changes() else {
            return;
        };
        loop {
            changes.something().await;
            self.publish();
            tokio::time::sleep(GATHER).await;
        }
    }

    /// Tells all peers about the changes since the last call.
    pub(super) fn publish(&self) {
        let Some(changes) = self
            .registry
            .changes()
            .filter(|changes| changes.is_pending())
        else {
            return;
        };
        let _publishing = self.publishing.lock();
        let mut frames = Vec::new();
        for (plugin, changed) in changes.take() {
            let Some(namespace) = self.registry.namespace(&plugin) else {
                continue;
            };
            let mut told = Telling::new(&namespace, &mut frames);
            if changed.clients {
                told.clients();
            }
            if changed.fires {
                told.fires(self.firing_rank(&namespace));
            }
            if changed.serving {
                told.serving();
            }
            for uid in &changed.uids {
                told.name(Kind::Uid, uid);
            }
            for group in &changed.groups {
                told.name(Kind::Group, group);
            }
            for (client, number) in &changed.adopted {
                told.moved(*client, *number);
            }
            told.end();
            let known = changed
                .timers
                .iter()
                .filter_map(|name| namespace.timers().known(name));
            frames.extend(timers::frames(&plugin, known, self.registry.clock().now()));
        }
        for peer in self.peers() {
            if peer.outbound.is_subscribed() {
                for frame in &frames {
                    self.push_reliable(&peer, frame.clone());
                }
            }
        }
        changes.told();
    }

    /// Sends a peer a full snapshot of what this node holds. From its beginning on, the peer also
    /// gets the changes. If the connection ends during the snapshot, the next connection begins it
    /// again.
    pub(super) async fn push_snapshot(&self, peer: &Peer) {
        let session = peer.outbound.session();
        {
            let _publishing = self.publishing.lock();
            peer.outbound.subscribe();
            self.push_reliable(peer, interest(true, false, Vec::new()));
        }
        self.push_deployments(peer);
        for namespace in self.registry.namespaces() {
            self.push_clients(peer, &namespace);
            self.push_timers(peer, namespace.name());
            for kind in [Kind::Uid, Kind::Group] {
                let mut after = None;
                while let Some(last) = self.push_names(peer, &namespace, kind, after.as_deref()) {
                    after = Some(last);
                    peer.outbound.has_room().await;
                    if peer.outbound.session() != session {
                        // It begins anew, and so does this.
                        return;
                    }
                }
            }
        }
        self.push_reliable(peer, interest(false, true, Vec::new()));
        peer.outbound.set_synced(session);
    }

    fn push_clients(&self, peer: &Peer, namespace: &Namespace) {
        let _publishing = self.publishing.lock();
        let mut frames = Vec::new();
        let mut telling = Telling::new(namespace, &mut frames);
        telling.clients();
        telling.fires(self.firing_rank(namespace));
        telling.serving();
        for (client, number) in namespace.adopted() {
            telling.moved(client, number);
        }
        telling.end();
        for frame in frames {
            self.push_reliable(peer, frame);
        }
    }

    /// Sends a page of names to a peer, and returns the last name, if there was any.
    fn push_names(
        &self,
        peer: &Peer,
        namespace: &Namespace,
        kind: Kind,
        after: Option<&str>,
    ) -> Option<Arc<str>> {
        let publishing = self.publishing.lock();
        let names = namespace.names_after(kind, after, NAMES_A_FRAME);
        let mut frames = Vec::new();
        let mut telling = Telling::new(namespace, &mut frames);
        for name in &names {
            telling.name(kind, name);
        }
        telling.end();
        for frame in frames {
            self.push_reliable(peer, frame);
        }
        drop(publishing);
        if kind == Kind::Uid {
            self.claim_again(peer, namespace, &names);
        }
        names.last().cloned()
    }
}

/// A builder of the frames that describe one plugin.
struct Telling<'a> {
    namespace: &'a Namespace,
    holding: wire::Holding,
    names: usize,
    frames: &'a mut Vec<Bytes>,
}

impl<'a> Telling<'a> {
    fn new(namespace: &'a Namespace, frames: &'a mut Vec<Bytes>) -> Telling<'a> {
        Telling {
            namespace,
            holding: wire::Holding::default(),
            names: 0,
            frames,
        }
    }

    fn clients(&mut self) {
        self.holding.clients = Some(self.namespace.client_count());
    }

    fn fires(&mut self, surely: u32) {
        self.holding.fires = Some(surely);
    }

    fn serving(&mut self) {
        self.holding.serving = Some(Mesh::told_serving(self.namespace));
    }

    fn name(&mut self, kind: Kind, name: &str) {
        let held = wire::HeldName {
            name: name.to_owned(),
            clients: self.namespace.count(kind, name),
        };
        match kind {
            Kind::Uid => self.holding.uids.push(held),
            Kind::Group => self.holding.groups.push(held),
        }
        self.count_name();
    }

    /// Tells whether this node has a client to which another one has given its id.
    fn moved(&mut self, client: ClientId, number: u64) {
        self.holding.moved.push(wire::MovedClient {
            client: wire::client_bytes(client),
            number,
            is_here: self.namespace.has_adopted(client),
        });
        self.count_name();
    }

    fn count_name(&mut self) {
        self.names += 1;
        if self.names == NAMES_A_FRAME {
            self.end();
        }
    }

    fn end(&mut self) {
        let mut holding = std::mem::take(&mut self.holding);
        self.names = 0;
        if holding != wire::Holding::default() {
            self.namespace.name().clone_into(&mut holding.plugin);
            self.frames.push(interest(false, false, vec![holding]));
        }
    }
}

fn interest(first: bool, last: bool, holdings: Vec<wire::Holding>) -> Bytes {
    wire::encode(wire::frame::Frame::Interest(wire::Interest {
        first,
        last,
        holdings,
    }))
}
