//! Other nodes that are listed at the address of this one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::source::Source;

/// How long the former run of a node may stay listed after the new run has started.
const FORMER_RUN: Duration = Duration::from_secs(7);

/// The nodes that are listed at the address of this one, each with the time since when.
#[derive(Default)]
pub(super) struct ListedHere(Mutex<BTreeMap<(Source, String), Instant>>);

impl ListedHere {
    /// Notes that `source` lists exactly these nodes at the address of this one.
    pub(super) fn note(&self, source: &Source, nodes: BTreeSet<String>) {
        let mut listed = self.0.lock();
        listed.retain(|(lists, node), _| lists != source || nodes.contains(node));
        for node in nodes {
            listed
                .entry((source.clone(), node))
                .or_insert_with(Instant::now);
        }
    }

    /// A node that has been listed for longer than a former run of this node would be, if there is
    /// one.
    pub(super) fn lasting(&self) -> Option<String> {
        let listed = self.0.lock();
        let mut lasting = listed
            .iter()
            .filter(|(_, since)| since.elapsed() > FORMER_RUN);
        lasting.next().map(|((_, node), _)| node.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_listed_for_long_is_no_former_run() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let [register, etcd] = ["register", "etcd"].map(|name| Source::Register(name.to_owned()));
        let listed = ListedHere::default();
        listed.note(&register, names(&["a", "b"]));
        assert_eq!(listed.lasting(), None);
        for since in listed.0.lock().values_mut() {
            *since -= FORMER_RUN;
        }
        listed.note(&etcd, names(&[]));
        listed.note(&register, names(&["b", "c"]));
        assert_eq!(listed.lasting().as_deref(), Some("b"));
        listed.note(&register, names(&["c"]));
        assert_eq!(listed.lasting(), None, "c has come only now");
    }
}
