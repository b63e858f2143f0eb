//! The phase of a peer: from the first word about it until it is gone.

/// The phase of a peer, as one value: how much it has told, whether it is silent, and
/// whether it leaves.
///
/// Only these transitions change it:
///
/// | transition | from | to |
/// |---|---|---|
/// | `begin_snapshot` | `Here`, `Leaving` | the same, with `Knowledge::Outdated` in the place of `Knowledge::Everything` |
/// | `complete_snapshot` | `Here`, `Leaving` | the same, with `Knowledge::Everything` |
/// | `set_silent` | `Here`, `Leaving` | the same, silent or not |
/// | `leave` | `Here` | `Leaving` |
/// | `end` | `Here`, `Leaving` | `Gone`, for ever |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The peer takes part in the mesh.
    Here(Contact),
    /// The peer has said that it drains.
    Leaving(Contact),
    /// The peer was removed. If its node comes back, a new `Peer` is made for it.
    Gone,
}

/// What a peer that is not gone has told, and whether it is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Contact {
    /// How much of what the peer holds it has told.
    pub(super) knowledge: Knowledge,
    /// Whether the peer has said nothing for `suspect_after`.
    pub(super) is_silent: bool,
}

/// How much of what a peer holds this node has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Knowledge {
    /// No snapshot of the peer was ever complete, so nobody has been told that the peer has come.
    Nothing,
    /// The last snapshot of the peer is complete.
    Everything,
    /// A snapshot was complete once, and the peer now sends another one.
    Outdated,
}

/// The state of a peer, as operators see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// The peer has not yet said completely what it holds.
    New,
    /// The peer sends something often enough.
    Alive,
    /// The peer has been silent for `suspect_after`.
    Suspect,
    /// The peer has said that it drains.
    Leaving,
}

impl PeerState {
    /// All states of a peer, in order.
    pub const ALL: [PeerState; 4] = [
        PeerState::New,
        PeerState::Alive,
        PeerState::Suspect,
        PeerState::Leaving,
    ];

    /// The name of the state.
    pub fn as_str(self) -> &'static str {
        match self {
            PeerState::New => "new",
            PeerState::Alive => "alive",
            PeerState::Suspect => "suspect",
            PeerState::Leaving => "leaving",
        }
    }
}

impl Phase {
    /// The phase of a peer that has not said anything yet.
    pub(super) const NEW: Phase = Phase::Here(Contact {
        knowledge: Knowledge::Nothing,
        is_silent: false,
    });

    /// Returns the state that operators see, or nothing once the peer is gone.
    pub(super) fn state(self) -> Option<PeerState> {
        match self {
            Phase::Here(contact) if contact.is_silent => Some(PeerState::Suspect),
            Phase::Here(contact) if contact.knowledge == Knowledge::Everything => {
                Some(PeerState::Alive)
            }
            Phase::Here(_) => Some(PeerState::New),
            Phase::Leaving(_) => Some(PeerState::Leaving),
            Phase::Gone => None,
        }
    }

    /// Returns what the peer has told and whether it is silent, or nothing once the peer is gone.
    pub(super) fn contact(self) -> Option<Contact> {
        match self {
            Phase::Here(contact) | Phase::Leaving(contact) => Some(contact),
            Phase::Gone => None,
        }
    }

    /// Returns whether events may be sent to the peer, and questions are worth their wait.
    pub(super) fn takes_events(self) -> bool {
        matches!(self, Phase::Here(contact) if !contact.is_silent)
    }

    /// Returns whether the last snapshot of the peer is complete.
    pub(super) fn is_known(self) -> bool {
        self.contact()
            .is_some_and(|c| c.knowledge == Knowledge::Everything)
    }

    /// Returns whether the peer has been silent for `suspect_after`.
    pub(super) fn is_silent(self) -> bool {
        self.contact().is_some_and(|contact| contact.is_silent)
    }

    /// Returns whether a snapshot of the peer was ever complete.
    pub(super) fn has_come(self) -> bool {
        self.contact()
            .is_some_and(|c| c.knowledge != Knowledge::Nothing)
    }

    /// Records that the peer begins to send a snapshot of what it holds.
    pub(super) fn begin_snapshot(&mut self) {
        self.change(|contact| {
            if contact.knowledge == Knowledge::Everything {
                contact.knowledge = Knowledge::Outdated;
            }
        });
    }

    /// Records that the peer has told everything that it holds.
    pub(super) fn complete_snapshot(&mut self) {
        self.change(|contact| contact.knowledge = Knowledge::Everything);
    }

    /// Records whether the peer has been silent for `suspect_after`.
    pub(super) fn set_silent(&mut self, is_silent: bool) {
        self.change(|contact| contact.is_silent = is_silent);
    }

    /// Records that the peer drains.
    pub(super) fn leave(&mut self) {
        if let Phase::Here(contact) = *self {
            *self = Phase::Leaving(contact);
        }
    }

    /// Records that the peer is gone.
    pub(super) fn end(&mut self) {
        *self = Phase::Gone;
    }

    fn change(&mut self, change: impl FnOnce(&mut Contact)) {
        match self {
            Phase::Here(contact) | Phase::Leaving(contact) => change(contact),
            Phase::Gone => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The model: the facts about a peer, each on its own.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    struct Facts {
        has_come: bool,
        is_known: bool,
        is_silent: bool,
        has_left: bool,
        is_gone: bool,
    }

    #[derive(Clone, Copy, Debug)]
    enum Transition {
        Begin,
        Complete,
        Silent,
        Heard,
        Leave,
        End,
    }

    const TRANSITIONS: [Transition; 6] = [
        Transition::Begin,
        Transition::Complete,
        Transition::Silent,
        Transition::Heard,
        Transition::Leave,
        Transition::End,
    ];

    impl Facts {
        fn after(mut self, transition: Transition) -> Facts {
            match transition {
                // A peer that is gone never comes back: another one takes its place.
                _ if self.is_gone => {}
                Transition::Begin => self.is_known = false,
                Transition::Complete => (self.is_known, self.has_come) = (true, true),
                Transition::Silent => self.is_silent = true,
                Transition::Heard => self.is_silent = false,
                Transition::Leave => self.has_left = true,
                Transition::End => {
                    self = Facts {
                        is_gone: true,
                        ..Facts::default()
                    };
                }
            }
            self
        }

        fn state(self) -> Option<PeerState> {
            match self {
                Facts { is_gone: true, .. } => None,
                Facts { has_left: true, .. } => Some(PeerState::Leaving),
                Facts {
                    is_silent: true, ..
                } => Some(PeerState::Suspect),
                Facts { is_known: true, .. } => Some(PeerState::Alive),
                _ => Some(PeerState::New),
            }
        }
    }

    fn after(mut phase: Phase, transition: Transition) -> Phase {
        match transition {
            Transition::Begin => phase.begin_snapshot(),
            Transition::Complete => phase.complete_snapshot(),
            Transition::Silent => phase.set_silent(true),
            Transition::Heard => phase.set_silent(false),
            Transition::Leave => phase.leave(),
            Transition::End => phase.end(),
        }
        phase
    }

    /// Every transition is taken from every phase that can be reached, and each phase says what the
    /// facts say.
    #[test]
    fn every_transition_from_every_phase_agrees_with_the_facts() {
        let mut reached = vec![(Phase::NEW, Facts::default())];
        let mut next = 0;
        while let Some(&(phase, facts)) = reached.get(next) {
            next += 1;
            assert_eq!(phase.state(), facts.state(), "{phase:?}");
            assert_eq!(phase.is_known(), facts.is_known, "{phase:?}");
            assert_eq!(phase.has_come(), facts.has_come, "{phase:?}");
            assert_eq!(phase.is_silent(), facts.is_silent, "{phase:?}");
            assert_eq!(phase == Phase::Gone, facts.is_gone, "{phase:?}");
            let takes = !(facts.is_gone || facts.has_left || facts.is_silent);
            assert_eq!(phase.takes_events(), takes, "{phase:?}");
            for transition in TRANSITIONS {
                let pair = (after(phase, transition), facts.after(transition));
                let same = reached.iter().filter(|(other, _)| *other == pair.0);
                let facts: Vec<Facts> = same.map(|(_, facts)| *facts).collect();
                // One phase never stands for two sets of facts.
                assert!(facts.iter().all(|facts| *facts == pair.1), "{pair:?}");
                if facts.is_empty() {
                    reached.push(pair);
                }
            }
        }
        // Three stages of telling, silent or not, here or leaving; and gone.
        assert_eq!(reached.len(), 3 * 2 * 2 + 1);
    }
}
