//! The slot of a plugin: the generation that it holds, and what is done with the clients.
//!
//! A slot is a plain state with its transitions. The module `handle` keeps a slot under a lock, and
//! reports its changes to others.

use std::sync::Arc;

/// A plugin's slot on this node, for generations of the type `G`.
#[derive(Debug, Default)]
pub(super) enum Slot<G> {
    /// The node has no generation. The plugin may run at other nodes, for clients of this one.
    #[default]
    Empty,
    /// The generation handles events, and clients may come in.
    Running(Arc<G>),
    /// The generation handles the last events of its clients, which are being closed.
    Draining(Arc<G>),
    /// The node has no generation, and no other node has one any more. The clients are being
    /// closed.
    DrainingOrphans,
}

// Written out: a generation need not be `Clone`.
impl<G> Clone for Slot<G> {
    fn clone(&self) -> Slot<G> {
        match self {
            Slot::Empty => Slot::Empty,
            Slot::Running(generation) => Slot::Running(generation.clone()),
            Slot::Draining(generation) => Slot::Draining(generation.clone()),
            Slot::DrainingOrphans => Slot::DrainingOrphans,
        }
    }
}

impl<G> Slot<G> {
    /// Returns the generation that handles events, if there is one. A generation that drains also
    /// handles events.
    pub(super) fn generation(&self) -> Option<&Arc<G>> {
        match self {
            Slot::Running(generation) | Slot::Draining(generation) => Some(generation),
            Slot::Empty | Slot::DrainingOrphans => None,
        }
    }

    /// Returns whether the slot holds exactly this generation.
    pub(super) fn holds(&self, generation: &Arc<G>) -> bool {
        let held = self.generation();
        held.is_some_and(|held| Arc::ptr_eq(held, generation))
    }

    /// Lets a new generation take over, whatever the slot held before. Returns the former
    /// generation, if any, which the caller retires.
    pub(super) fn load(&mut self, generation: Arc<G>) -> Option<Arc<G>> {
        match std::mem::replace(self, Slot::Running(generation)) {
            Slot::Running(former) | Slot::Draining(former) => Some(former),
            Slot::Empty | Slot::DrainingOrphans => None,
        }
    }

    /// Stops new clients. Returns the generation whose clients are to be closed, if there is one.
    pub(super) fn stop_accepting(&mut self) -> Option<Arc<G>> {
        let generation = self.generation()?.clone();
        *self = Slot::Draining(generation.clone());
        Some(generation)
    }

    /// Removes a generation whose clients have been closed. Returns whether the generation has left
    /// the slot and is to be retired. If another generation has taken over meanwhile, the answer is
    /// false.
    pub(super) fn take_out(&mut self, generation: &Arc<G>) -> bool {
        let is_held = self.holds(generation);
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

    /// The state of a slot, without its generation.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum State {
        Empty,
        Running,
        Draining,
        DrainingOrphans,
    }

    use State::{Draining, DrainingOrphans, Empty, Running};

    const STATES: [State; 4] = [Empty, Running, Draining, DrainingOrphans];

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Step {
        Load,
        StopAccepting,
        /// Takes out the generation that the slot had at the beginning.
        TakeOut,
        /// Takes out a generation that had been replaced before.
        TakeOutFormer,
        BeginDrainingOrphans,
        EndDrainingOrphans,
    }

    const STEPS: [Step; 6] = [
        Step::Load,
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
            (Running | Draining, Step::Load) => (Running, true),
            (Empty | DrainingOrphans, Step::Load) => (Running, false),
            (Running | Draining, Step::StopAccepting) => (Draining, true),
            (Running | Draining, Step::TakeOut) => (Empty, true),
            (Empty, Step::BeginDrainingOrphans) => (DrainingOrphans, true),
            (DrainingOrphans, Step::EndDrainingOrphans) => (Empty, false),
            (state, _) => (state, false),
        }
    }

    fn state(slot: &Slot<u32>) -> State {
        match slot {
            Slot::Empty => Empty,
            Slot::Running(_) => Running,
            Slot::Draining(_) => Draining,
            Slot::DrainingOrphans => DrainingOrphans,
        }
    }

    fn slot(state: State, generation: &Arc<u32>) -> Slot<u32> {
        match state {
            Empty => Slot::Empty,
            Running => Slot::Running(generation.clone()),
            Draining => Slot::Draining(generation.clone()),
            DrainingOrphans => Slot::DrainingOrphans,
        }
    }

    #[test]
    fn every_step_from_every_state_leads_where_the_model_says() {
        let (former, held, next) = (Arc::new(1), Arc::new(2), Arc::new(3));
        for from in STATES {
            for step in STEPS {
                let mut slot = slot(from, &held);
                let answered = match step {
                    Step::Load => slot.load(next.clone()).map(|retired| {
                        assert!(Arc::ptr_eq(&retired, &held));
                    }),
                    Step::StopAccepting => slot.stop_accepting().map(|closed| {
                        assert!(Arc::ptr_eq(&closed, &held));
                    }),
                    Step::TakeOut => slot.take_out(&held).then_some(()),
                    Step::TakeOutFormer => slot.take_out(&former).then_some(()),
                    Step::BeginDrainingOrphans => slot.begin_draining_orphans().then_some(()),
                    Step::EndDrainingOrphans => {
                        slot.end_draining_orphans();
                        None
                    }
                };
                let (to, answers) = model(from, step);
                assert_eq!(state(&slot), to, "{from:?} {step:?}");
                assert_eq!(answered.is_some(), answers, "{from:?} {step:?}");
                let holds = matches!(to, Running | Draining);
                let expected = if step == Step::Load { &next } else { &held };
                assert_eq!(slot.holds(expected), holds, "{from:?} {step:?}");
                assert_eq!(slot.generation().is_some(), holds, "{from:?} {step:?}");
            }
        }
    }

    /// The slot gives back each loaded generation for its retirement exactly once, or holds it at
    /// the end. The test follows every path of five steps.
    #[test]
    fn no_generation_is_lost_or_retired_twice() {
        let paths = STEPS.len().pow(5);
        for path in 0..paths {
            let mut slot = Slot::Empty;
            let (mut loaded, mut retired) = (Vec::<Arc<u32>>::new(), Vec::new());
            let mut rest = path;
            for number in 0..5 {
                match STEPS[rest % STEPS.len()] {
                    Step::Load => {
                        let generation = Arc::new(number);
                        retired.extend(slot.load(generation.clone()));
                        loaded.push(generation);
                    }
                    Step::StopAccepting => drop(slot.stop_accepting()),
                    step @ (Step::TakeOut | Step::TakeOutFormer) => {
                        let generation = match step {
                            Step::TakeOut => loaded.last(),
                            _ => loaded.first(),
                        };
                        let taken = generation.filter(|generation| slot.take_out(generation));
                        retired.extend(taken.cloned());
                    }
                    Step::BeginDrainingOrphans => drop(slot.begin_draining_orphans()),
                    Step::EndDrainingOrphans => slot.end_draining_orphans(),
                }
                rest /= STEPS.len();
            }
            retired.extend(slot.generation().cloned());
            let mut numbers: Vec<u32> = retired.iter().map(|generation| **generation).collect();
            numbers.sort_unstable();
            let all: Vec<u32> = loaded.iter().map(|generation| **generation).collect();
            assert_eq!(numbers, all, "path {path}");
        }
    }
}
