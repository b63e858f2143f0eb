//! Timers that fire: their events run in the generation that runs now, or in the canary that has set
//! them.
//!
//! One task for each plugin waits for the next timer that is due. Each event is a task of its own,
//! so a slow event delays no other. Each timer has at most one event at a time, so there are no
//! more events than the plugin's `timers`. A firing waits for an instance as long as necessary. A
//! timer that is due again meanwhile is left out.

use std::sync::{Arc, Weak};
use std::time::Instant;

use super::handle::{Choose, Plugin};
use super::lease::Lease;
use crate::guest::GuestFunction;
use crate::registry::{Firing, Timers};
use crate::tracer::within;

impl Plugin {
    /// Fires the plugin's timers, for as long as the node knows the plugin.
    pub(super) async fn keep_firing(plugin: Weak<Plugin>, timers: Arc<Timers>) {
        let runs = || plugin.upgrade().filter(|plugin| plugin.runs());
        while plugin.strong_count() > 0 {
            // Until there is a generation, a first one's `on-start` may have set some.
            let next = runs().and_then(|_| timers.next_due());
            wait_until(next, &timers).await;
            if let Some(plugin) = runs() {
                let is_ours = |timer: &str| plugin.router.fires(timer);
                for firing in timers.take_due(timers.clock().now(), is_ours) {
                    tokio::spawn(plugin.clone().fire(firing));
                }
            }
        }
    }

    async fn fire(self: Arc<Self>, firing: Firing) {
        let set_by = firing.set_by();
        let choose: Choose<'_> = &|slot| {
            // What a canary sets is for the canary.
            let canary = slot.canary().filter(|canary| canary.number == set_by);
            canary.or(slot.generation())
        };
        let Some(lease) = self.lease_patiently(choose).await else {
            return;
        };
        // The last look: from here on it can't be called off.
        if !firing.begin() {
            return;
        }
        let span = self.namespace().shared().tracer().event("on-timer");
        if let Some(span) = &span {
            span.set("jackfield.plugin", self.name().to_owned());
            lease.show_in(span);
        }
        within(span.as_ref(), self.run_event(lease, &firing)).await;
    }

    /// Runs the event of a timer that has begun.
    async fn run_event(&self, mut lease: Lease, firing: &Firing) {
        let Some(fired) = lease.instance.on_timer(firing.name()).await else {
            if lease.generation.is_first_unheard_timer() {
                let (plugin, generation) = (self.name(), lease.generation.number);
                let timer = firing.name();
                tracing::warn!(
                    plugin,
                    generation,
                    timer,
                    "timers fire and nobody hears it: the plugin exports no timer-handler"
                );
            }
            return;
        };
        let counters = self.namespace().shared().counters();
        counters.timers_fired.add_one();
        if let Err(trapped) = fired {
            lease.log_trap(GuestFunction::Timer, None, &trapped);
        }
    }
}

/// Waits until `time`, or until the plugin's timers have changed.
async fn wait_until(time: Option<Instant>, timers: &Timers) {
    let due = async {
        match time {
            Some(time) => timers.clock().wait_until(time).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = due => {}
        () = timers.changed() => {}
    }
}
