//! What goes wrong, or changes, while the clients talk.

use anyhow::Result;

/// One of them in each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// All nodes get the other build of the plugin. Nothing is lost.
    Reload,
    /// All connections of a node's peers to it are reset, or carry nothing for a moment. Nothing
    /// is lost.
    Disconnect,
    /// A node drains and is started again. What it has answered is not lost.
    Drain,
    /// A node is killed and started again.
    Kill,
    /// A node and the others do not reach each other until both have given up.
    Partition,
}

impl Fault {
    pub(crate) const ALL: [Fault; 5] = [
        Fault::Reload,
        Fault::Disconnect,
        Fault::Drain,
        Fault::Kill,
        Fault::Partition,
    ];

    /// Those that a fleet of so many nodes can have: the first node is never ended, so that its
    /// memory is seen for the whole time.
    pub(crate) fn all_of(nodes: usize) -> Vec<Fault> {
        let needs_two = |fault: &Fault| *fault != Fault::Reload;
        let all = Fault::ALL.into_iter();
        all.filter(|fault| nodes > 1 || !needs_two(fault)).collect()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Fault::Reload => "plugin reloads, on all nodes",
            Fault::Disconnect => "links reset or stalled",
            Fault::Drain => "nodes drained",
            Fault::Kill => "nodes killed",
            Fault::Partition => "nodes cut off beyond `gone_after`",
        }
    }
}

/// The faults in rounds of all of them, each round in another order.
#[derive(Debug)]
pub(crate) struct Faults {
    all: Vec<Fault>,
    next: Vec<Fault>,
}

impl Faults {
    pub(crate) fn new(nodes: usize) -> Faults {
        Faults {
            all: Fault::all_of(nodes),
            next: Vec::new(),
        }
    }

    pub(crate) fn next(&mut self, random: &mut fastrand::Rng) -> Result<Fault> {
        if self.next.is_empty() {
            self.next.clone_from(&self.all);
            random.shuffle(&mut self.next);
        }
        self.next.pop().ok_or_else(|| anyhow::anyhow!("no faults"))
    }
}
