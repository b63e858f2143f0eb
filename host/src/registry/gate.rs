//! The gate of a client that moves from one node to another.
//!
//! While it moves, both nodes have the client, and every node sends to both. One sender after another
//! switches from the old node to the new one, and tells both (docs/mesh.md). Before, the old node takes
//! its messages and the new one drops them; afterwards, it is the other way round. So each message
//! counts once, and those of one sender stay in order.

use std::collections::BTreeSet;

use crate::id::Incarnation;

/// The side of a move that a node is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveSide {
    /// The client leaves this node.
    Leaving,
    /// The client comes to this node.
    Arriving,
}

/// The senders of which a node takes messages for a client that moves.
#[derive(Debug)]
pub(super) struct Gate {
    side: MoveSide,
    /// The number of the move. Each move of a client has a greater one.
    number: u64,
    /// The nodes that have switched to the new node.
    switched: BTreeSet<Incarnation>,
}

impl Gate {
    pub(super) fn new(side: MoveSide, number: u64) -> Gate {
        Gate {
            side,
            number,
            switched: BTreeSet::new(),
        }
    }

    /// Notes that a node has switched by the move with this number. An earlier move was given up.
    pub(super) fn switch(&mut self, node: Incarnation, number: u64) {
        if number == self.number {
            self.switched.insert(node);
        }
    }

    /// Whether any node has switched.
    pub(super) fn has_any_switched(&self) -> bool {
        !self.switched.is_empty()
    }

    /// Whether all these nodes have switched.
    pub(super) fn have_switched(&self, nodes: &[Incarnation]) -> bool {
        nodes.iter().all(|node| self.switched.contains(node))
    }

    /// Whether this node takes the messages of a sender.
    pub(super) fn takes_from(&self, node: Incarnation) -> bool {
        self.switched.contains(&node) == (self.side == MoveSide::Arriving)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_the_two_nodes_takes_the_messages_of_each_sender() {
        let [ada, bob] = std::array::from_fn(|_| Incarnation::draw().expect("randomness"));
        let sides = [MoveSide::Leaving, MoveSide::Arriving];
        let [mut old, mut new] = sides.map(|side| Gate::new(side, 7));
        assert!(old.takes_from(ada) && !new.takes_from(ada));
        assert!(!old.have_switched(&[ada]) && old.have_switched(&[]));
        for gate in [&mut old, &mut new] {
            gate.switch(ada, 6);
            assert!(!gate.has_any_switched(), "the move before was given up");
            gate.switch(ada, 7);
        }
        assert!(!old.takes_from(ada) && new.takes_from(ada));
        assert!(old.takes_from(bob) && !new.takes_from(bob));
        assert!(old.have_switched(&[ada]) && !old.have_switched(&[ada, bob]));
    }
}
