//! The changes of a canary in a plugin's slot. The task that looks at the folder makes them all.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::canary::{BuildRecord, Canary, Comparison};
use super::generation::Generation;
use super::handle::Plugin;
use super::slot::Slot;
use crate::guest::GuestFunction;
use crate::registry::{EventKind, ServingSource, ServingState, now_ms};
use crate::rollout::Rollout;

impl Generation {
    /// Returns what the generation has done.
    fn record(&self) -> BuildRecord {
        // Before the events: no more of them have failed than there were.
        let failures = self.probation.failures();
        let all = self.pool.context().times.by_function().into_iter();
        let mut record = BuildRecord {
            failures,
            ..BuildRecord::default()
        };
        for (function, _, times) in all {
            match function {
                GuestFunction::Start | GuestFunction::Stop => continue,
                GuestFunction::Message => record.messages.merge(&times),
                _ => {}
            }
            record.events += times.count();
        }
        record
    }
}

impl Plugin {
    /// Lets a generation handle the events of the clients that `rollout` is for. Returns whether it
    /// does: there must be a generation for the others.
    pub(super) fn begin_canary(&self, generation: Arc<Generation>, rollout: Rollout) -> bool {
        let Some(stable) = self.running() else {
            return false;
        };
        let (percent, now_ms) = (rollout.percent(), now_ms());
        let rollout = match rollout.began_ms() {
            0 => rollout.begun_at(now_ms),
            _ => rollout,
        };
        generation.loaded_at_ms.store(now_ms, Ordering::Relaxed);
        generation.canary.store(Some(Arc::new(Canary {
            rollout: Arc::new(rollout),
            since_ms: now_ms,
            before: stable.record(),
            canary_before: BuildRecord::default(),
        })));
        self.show_times(&generation);
        let (limits, events) = (stable.limits(), stable.events());
        generation.probation.begin_canary();
        generation
            .probation
            .follow(&stable.probation, limits, events);
        let (has_begun, left) = self.change_slot(
            |slot| slot.begin_canary(generation.clone()),
            |has_begun| {
                if *has_begun {
                    let canary = EventKind::Canary {
                        generation: generation.number,
                        percent,
                    };
                    self.namespace().emit(|| canary);
                    self.serve(ServingState::Open);
                }
            },
        );
        self.retire(left);
        has_begun
    }

    /// Changes which clients the canary is for. Those that it has been for stay.
    pub(super) fn set_rollout(&self, rollout: &Rollout) {
        let Some((generation, canary)) = self.canary() else {
            return;
        };
        let began_ms = match rollout.began_ms() {
            0 => canary.rollout.began_ms(),
            // The same build was deployed as a canary again.
            began_ms => began_ms,
        };
        let rollout = rollout.clone().begun_at(began_ms);
        if *canary.rollout == rollout {
            return;
        }
        let percent = rollout.percent();
        let changed = Canary {
            rollout: Arc::new(rollout),
            since_ms: canary.since_ms,
            before: canary.before.clone(),
            canary_before: canary.canary_before.clone(),
        };
        let ((), _) = self.change_slot(
            |_| generation.canary.store(Some(Arc::new(changed))),
            |()| self.serve(ServingState::Open),
        );
        let (plugin, number) = (self.name(), generation.number);
        tracing::info!(
            plugin,
            generation = number,
            percent,
            "a canary has another share"
        );
    }

    /// Lets the canary take over for all clients. Returns its number, if there is one.
    pub(super) fn promote(&self) -> Option<u64> {
        let Slot::Running(generations) = Slot::clone(&self.slot()) else {
            return None;
        };
        let generation = generations.canary?;
        let number = generation.number;
        // From now on it has the events of all.
        generation.probation.begin_again(generation.events());
        self.swap(generation, false);
        let plugin = self.name();
        tracing::info!(
            plugin,
            generation = number,
            "a canary has taken over for all clients"
        );
        Some(number)
    }

    /// Ends the canary: its clients have the generation of the others. Returns the one that has ended,
    /// if there was one.
    pub(super) fn end_canary(&self) -> Option<Arc<Generation>> {
        let (generation, _) = self.canary()?;
        let ((), left) = self.change_slot(Slot::end_canary, |()| {
            self.serve(self.namespace().serving().state);
        });
        self.retire(left);
        Some(generation)
    }

    /// Returns the canary, if there is one.
    pub(super) fn canary(&self) -> Option<(Arc<Generation>, Arc<Canary>)> {
        let generation = self.slot().canary()?.clone();
        let canary = generation.canary.load_full()?;
        Some((generation, canary))
    }

    /// Returns the number of the canary on this node, if there is one.
    pub(crate) fn canary_generation(&self) -> Option<u64> {
        Some(self.slot().canary()?.number)
    }

    /// Leaves it to operators to promote the canary.
    pub(super) fn give_up_promotion(&self) {
        if let Some((_, canary)) = self.canary() {
            self.set_rollout(&Rollout::clone(&canary.rollout).by_hand());
        }
    }

    /// Begins to compare the canary with another generation, which has just taken over for the others.
    pub(super) fn compare_anew(&self) {
        if let Some((generation, canary)) = self.canary() {
            generation.canary.store(Some(Arc::new(Canary {
                rollout: canary.rollout.clone(),
                since_ms: now_ms(),
                before: BuildRecord::default(),
                canary_before: generation.record(),
            })));
        }
    }

    /// Compares the canary with the generation of the others.
    pub(super) fn compare(&self, generation: &Generation, canary: &Canary) -> Comparison {
        let stable = self.running().map(|stable| stable.record());
        Comparison {
            stable: stable.unwrap_or_default().since(&canary.before),
            canary: generation.record().since(&canary.canary_before),
        }
    }

    /// Records where the build of the canary comes from now.
    pub(super) fn canary_comes_from(&self, source: ServingSource) {
        if let Some((generation, _)) = self.canary() {
            self.comes_from(&generation, source);
        }
    }
}
