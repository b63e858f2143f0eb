//! The nodes that run a plugin, as they have said themselves.

use std::sync::Arc;

use tokio::time::Instant;

use super::holdings::cost_of;
use super::snapshot::Snapshot;
use crate::id::Incarnation;
use crate::registry::{Serving, ServingState};

/// The nodes that run one plugin.
#[derive(Debug, Default)]
pub(super) struct Servers {
    pub(super) nodes: Vec<Server>,
    /// The time when the last node that had the plugin was lost without a word, if no node has said
    /// since then that it has the plugin.
    pub(super) orphaned_since: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) node: Incarnation,
    pub(super) serving: Arc<Serving>,
    /// The number of the full snapshot that this entry belongs to, or came after.
    snapshot: u32,
}

impl Server {
    pub(super) fn is_open(&self) -> bool {
        self.serving.state == ServingState::Open
    }

    pub(super) fn is_closing(&self) -> bool {
        self.serving.state == ServingState::Closing
    }
}

impl Servers {
    /// Whether a node that had the plugin was lost without a word, and no node has it now.
    pub(super) fn is_orphaned(&self) -> bool {
        self.orphaned_since.is_some()
    }

    /// What the texts of the node count, if the node has the plugin.
    pub(super) fn text_bytes(&self, node: Incarnation) -> Option<usize> {
        let server = self.nodes.iter().find(|server| server.node == node)?;
        Some(cost_of(server.serving.texts()))
    }

    pub(super) fn note(&mut self, snapshot: Snapshot, serving: Serving) {
        self.nodes.retain(|server| server.node != snapshot.node);
        // Of one that never had it, no word on those that had.
        if serving.state != ServingState::None {
            self.orphaned_since = None;
            self.nodes.push(Server {
                node: snapshot.node,
                serving: Arc::new(serving),
                snapshot: snapshot.number,
            });
        }
    }

    /// Removes what the node of `snapshot` said before that snapshot.
    pub(super) fn drop_older(&mut self, snapshot: Snapshot) {
        let before = self.nodes.len();
        self.nodes
            .retain(|server| server.node != snapshot.node || server.snapshot >= snapshot.number);
        let has_lost = self.nodes.len() < before;
        // Whoever is closing has nothing to say for one that may come back.
        if has_lost && self.nodes.iter().all(Server::is_closing) {
            self.orphaned_since.get_or_insert_with(Instant::now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::{OverflowPolicy, RefusePolicy, UidPolicy};

    fn open() -> Serving {
        Serving {
            state: ServingState::Open,
            routes: vec!["/ws".to_owned()],
            uid: UidPolicy::KickOld,
            overflow: OverflowPolicy::Conflate,
            compression: None,
            resume: None,
            refuse: RefusePolicy::Close,
            build: None,
            canary: None,
            failure: None,
            patience: Duration::from_secs(7),
        }
    }

    #[test]
    fn the_last_word_of_a_node_counts_and_goes_with_its_picture() {
        let mut servers = Servers::default();
        let node = Incarnation::draw().expect("randomness");
        let snapshot = |number| Snapshot { node, number };
        servers.note(snapshot(1), open());
        servers.note(
            snapshot(1),
            Serving {
                state: ServingState::Away,
                ..open()
            },
        );
        assert_eq!(servers.nodes.len(), 1);
        servers.drop_older(snapshot(1));
        assert!(servers.nodes.len() == 1 && !servers.is_orphaned());
        servers.drop_older(snapshot(2));
        assert!(servers.nodes.is_empty() && servers.is_orphaned());
        let node = Incarnation::draw().expect("randomness");
        servers.note(Snapshot { node, number: 2 }, Serving::default());
        assert!(servers.is_orphaned(), "a node that never had it");
        servers.note(snapshot(3), open());
        assert!(!servers.is_orphaned());
        servers.note(snapshot(3), Serving::default());
        assert!(servers.nodes.is_empty() && !servers.is_orphaned());
    }
}
