//! Rendezvous hashing: all nodes choose the same node for a timer or a client, without a word.
//!
//! When a node leaves, only what was its own moves to other nodes.

use crate::id::Incarnation;

/// The weight of a node for something with the number `number`; the node with the highest weight
/// gets it. The weight is the finalizer of SplitMix64 over both numbers: the same in every build,
/// and evenly spread.
pub(super) fn weight(number: u64, node: Incarnation) -> u64 {
    let mut mixed = number ^ node.to_u64();
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The number of something with a name: FNV-1a over the name.
pub(super) fn number(name: &str) -> u64 {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325, fnv)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heaviest(name: &str, nodes: &[Incarnation]) -> Incarnation {
        let heaviest = nodes.iter().max_by_key(|node| weight(number(name), **node));
        *heaviest.expect("a node")
    }

    #[test]
    fn names_are_spread_evenly_and_only_those_of_a_node_that_goes_move() {
        let draw = |_| Incarnation::draw().expect("randomness");
        let nodes: Vec<_> = (0..4).map(draw).collect();
        let names: Vec<String> = (0..10_000).map(|number| format!("name {number}")).collect();
        let mut counts = [0; 4];
        for name in &names {
            let node = heaviest(name, &nodes);
            counts[nodes.iter().position(|n| *n == node).expect("one of them")] += 1;
            let after = heaviest(name, &nodes[1..]);
            assert!(node == nodes[0] || after == node, "{name} has moved");
        }
        assert!(
            counts.iter().all(|count| (2_200..2_800).contains(count)),
            "{counts:?}"
        );
    }
}
