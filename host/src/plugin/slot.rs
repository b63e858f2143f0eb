//! The slot of a plugin: the generation that it holds, and what is done with the clients.
//!
//! A slot is a plain state with its transitions. It does nothing to its generations. The module `handle` keeps a slot under a lock, and
//! reports its changes to others.

use std::sync::Arc;

use super::generation::Generation;

/// A plugin's slot on this node, for generations of the type `G`.
#[derive(Debug, Default)]
pub(super) enum Slot<G> {
    /// The node has no generation. The plugin may run at other nodes, for clients of this one.
    #[default]
    Empty,
    /// The generations handle events, and clients may come in.
    Running(Generations<G>),
    /// The generations handle the last events of their clients, which are being closed.
    Draining(Generations<G>),
    /// The node has no generation, and no other node has one any more. The clients are being
    /// closed.
    DrainingOrphans,
}

/// The generations that handle a plugin's events.
#[derive(Debug)]
pub(super) struct Generations<G> {
    /// The generation for all clients that the canary is not for.
    pub(super) stable: Arc<G>,
    /// The generation for a part of the clients, if there is one.
    pub(super) canary: Option<Arc<G>>,
}

// Written out: a generation need not be `Clone`.
impl<G> Clone for Generations<G> {
    fn clone(&self) -> Generations<G> {
        Generations {
            stable: self.stable.clone(),
            canary: self.canary.clone(),
        }
    }
}

impl<G> Clone for Slot<G> {
    fn clone(&self) -> Slot<G> {
        match self {
            Slot::Empty => Slot::Empty,
            Slot::Running(generations) => Slot::Running(generations.clone()),
            Slot::Draining(generations) => Slot::Draining(generations.clone()),
            Slot::DrainingOrphans => Slot::DrainingOrphans,
        }
    }
}

impl Generations<Generation> {
    /// The greatest number of the generations.
    pub(super) fn newest(&self) -> u64 {
        let canary = self.canary.as_ref().map(|canary| canary.number);
        canary.unwrap_or_default().max(self.stable.number)
    }
}

impl<G> Slot<G> {
    fn generations(&self) -> Option<&Generations<G>> {
        match self {
            Slot::Running(generations) | Slot::Draining(generations) => Some(generations),
            Slot::Empty | Slot::DrainingOrphans => None,
        }
    }

    /// Returns the generation that handles events, if there is one. A generation that drains also
    /// handles events. Beside a canary, it is the one for all clients that the canary is not for.
    pub(super) fn generation(&self) -> Option<&Arc<G>> {
        Some(&self.generations()?.stable)
    }

    /// Returns the generation that handles the events of a part of the clients, if there is one.
    pub(super) fn canary(&self) -> Option<&Arc<G>> {
        self.generations()?.canary.as_ref()
    }

    /// Returns all generations that the slot holds.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<G>> {
        self.generation().into_iter().chain(self.canary())
    }

    /// Returns whether the slot holds exactly this generation.
    pub(super) fn holds(&self, generation: &Arc<G>) -> bool {
        self.all().any(|held| Arc::ptr_eq(held, generation))
    }

    /// Lets a generation take over, whatever the slot held before: for all clients, or for those that
    /// the canary is not for if that one is kept.
    pub(super) fn load(&mut self, generation: Arc<G>, keeps_canary: bool) {
        let canary = self.canary().filter(|canary| {
            let is_other = !Arc::ptr_eq(canary, &generation);
            keeps_canary && is_other && matches!(self, Slot::Running(_))
        });
        *self = Slot::Running(Generations {
            canary: canary.cloned(),
            stable: generation,
        });
    }

    /// Lets a generation take over for a part of the clients, in place of the former canary. Returns
    /// whether it does: there must be a generation for the others, and new clients.
    pub(super) fn begin_canary(&mut self, generation: Arc<G>) -> bool {
        match self {
            Slot::Running(generations) => {
                generations.canary = Some(generation);
                true
            }
            _ => false,
        }
    }

    /// Ends the canary, if there is one: its clients have the generation of the others.
    pub(super) fn end_canary(&mut self) {
        if let Slot::Running(generations) | Slot::Draining(generations) = self {
            generations.canary = None;
        }
    }

    /// Stops new clients. Returns the generations whose clients are to be closed, if there are any.
    pub(super) fn stop_accepting(&mut self) -> Option<Generations<G>> {
        let generations = self.generations()?.clone();
        *self = Slot::Draining(generations.clone());
        Some(generations)
    }

    /// Empties the slot if it holds this generation, whose clients have been closed. Returns whether it
    /// did. If another generation has taken over meanwhile, the answer is false.
    pub(super) fn take_out(&mut self, generation: &Arc<G>) -> bool {
        let held = self.generation();
        let is_held = held.is_some_and(|held| Arc::ptr_eq(held, generation));
        if is_held {
            *self = Slot::Empty;
        }
        is_held
    }

    /// Begins to close the clients when no node has the plugin any more. Returns whether the
    /// clients are to be closed. If a generation is here, or the clients are being closed already,
    /// the answer is false.
    pub(super) fn begin_draining_orphans(&mut self) -> bool {
        let is_empty = matches!(self, Slot::Empty);
        if is_empty {
            *self = Slot::DrainingOrphans;
        }
        is_empty
    }

    /// Ends the state in which clients without any generation are closed.
    pub(super) fn end_draining_orphans(&mut self) {
        if matches!(self, Slot::DrainingOrphans) {
            *self = Slot::Empty;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The state of a slot, without its generations; for each whether there is a canary.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum State {
        Empty,
        Running(bool),
        Draining(bool),
        DrainingOrphans,
    }

    use State::{Draining, DrainingOrphans, Empty, Running};

    const STATES: [State; 6] = [
        Empty,
        Running(false),
        Running(true),
        Draining(false),
        Draining(true),
        DrainingOrphans,
    ];

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Step {
        Load,
        LoadBeside,
        BeginCanary,
        EndCanary,
        StopAccepting,
        /// Takes out the generation that the slot had at the beginning.
        TakeOut,
        /// Takes out a generation that had been replaced before.
        TakeOutFormer,
        BeginDrainingOrphans,
        EndDrainingOrphans,
    }

    const STEPS: [Step; 9] = [
        Step::Load,
        Step::LoadBeside,
        Step::BeginCanary,
        Step::EndCanary,
        Step::StopAccepting,
        Step::TakeOut,
        Step::TakeOutFormer,
        Step::BeginDrainingOrphans,
        Step::EndDrainingOrphans,
    ];

    /// Returns the state that a step leads to, and whether the step returns something to its
    /// caller.
    fn model(state: State, step: Step) -> (State, bool) {
        match (state, step) {
            (Running(canary), Step::LoadBeside) => (Running(canary), true),
            (_, Step::Load | Step::LoadBeside) => (Running(false), true),
            (Running(_), Step::BeginCanary) => (Running(true), true),
            (Running(_), Step::EndCanary) => (Running(false), false),
            (Draining(_), Step::EndCanary) => (Draining(false), false),
            (Running(canary) | Draining(canary), Step::StopAccepting) => (Draining(canary), true),
            (Running(_) | Draining(_), Step::TakeOut) => (Empty, true),
            (Empty, Step::BeginDrainingOrphans) => (DrainingOrphans, true),
            (DrainingOrphans, Step::EndDrainingOrphans) => (Empty, false),
            (state, _) => (state, false),
        }
    }

    fn state(slot: &Slot<u32>) -> State {
        match slot {
            Slot::Empty => Empty,
            Slot::Running(held) => Running(held.canary.is_some()),
            Slot::Draining(held) => Draining(held.canary.is_some()),
            Slot::DrainingOrphans => DrainingOrphans,
        }
    }

    fn slot(state: State, stable: &Arc<u32>, canary: &Arc<u32>) -> Slot<u32> {
        let held = |has_canary: bool| Generations {
            stable: stable.clone(),
            canary: has_canary.then(|| canary.clone()),
        };
        match state {
            Empty => Slot::Empty,
            Running(has_canary) => Slot::Running(held(has_canary)),
            Draining(has_canary) => Slot::Draining(held(has_canary)),
            DrainingOrphans => Slot::DrainingOrphans,
        }
    }

    #[test]
    fn every_step_from_every_state_leads_where_the_model_says() {
        let (former, held, canary, next) = (Arc::new(1), Arc::new(2), Arc::new(3), Arc::new(4));
        for from in STATES {
            for step in STEPS {
                let mut slot = slot(from, &held, &canary);
                let answers = match step {
                    Step::Load | Step::LoadBeside => {
                        slot.load(next.clone(), step == Step::LoadBeside);
                        true
                    }
                    Step::BeginCanary => slot.begin_canary(next.clone()),
                    Step::EndCanary => {
                        slot.end_canary();
                        false
                    }
                    Step::StopAccepting => slot.stop_accepting().is_some(),
                    Step::TakeOut => slot.take_out(&held),
                    Step::TakeOutFormer => slot.take_out(&former),
                    Step::BeginDrainingOrphans => slot.begin_draining_orphans(),
                    Step::EndDrainingOrphans => {
                        slot.end_draining_orphans();
                        false
                    }
                };
                assert_eq!(
                    (state(&slot), answers),
                    model(from, step),
                    "{from:?} {step:?}"
                );
                let has = |to: State| match to {
                    Running(has_canary) | Draining(has_canary) => (true, has_canary),
                    Empty | DrainingOrphans => (false, false),
                };
                let (has_stable, has_canary) = has(state(&slot));
                let is_loaded = matches!(step, Step::Load | Step::LoadBeside);
                let stable = if is_loaded { &next } else { &held };
                let has_begun = answers && step == Step::BeginCanary;
                let new = if has_begun { &next } else { &canary };
                let is = |held: Option<&Arc<u32>>, wanted: &Arc<u32>| {
                    held.is_some_and(|held| Arc::ptr_eq(held, wanted))
                };
                assert_eq!(
                    is(slot.generation(), stable),
                    has_stable,
                    "{from:?} {step:?}"
                );
                assert_eq!(is(slot.canary(), new), has_canary, "{from:?} {step:?}");
                let held = usize::from(has_stable) + usize::from(has_canary);
                assert_eq!(slot.all().count(), held, "{from:?} {step:?}");
            }
        }
    }

    #[test]
    fn a_canary_that_takes_over_for_all_is_none_any_more() {
        let (stable, canary) = (Arc::new(1), Arc::new(2));
        let mut slot = slot(Running(true), &stable, &canary);
        slot.load(canary.clone(), true);
        assert!(slot.holds(&canary) && !slot.holds(&stable));
        assert_eq!((slot.all().count(), state(&slot)), (1, Running(false)));
    }
}
