//! Timers of the cluster: every node that runs the plugin knows them, and one of these nodes fires
//! each timer.
//!
//! Each node computes by rendezvous hashing which node fires a timer. All nodes that know the same
//! nodes agree, and when a node leaves, only its timers move. A node that has just started may not
//! know all others yet, so for `gone_after` it has a lower firing rank than the settled nodes.

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;

use super::peer::Peer;
use super::phase::PeerState;
use super::rendezvous;
use super::state::Mesh;
use super::wire::{self, NotUnderstood};
use crate::id::Incarnation;
use crate::limits::{TIMER_MAX, TIMER_MIN};
use crate::registry::{Namespace, Schedule, TimerRecord, Version, in_ms};

/// The most timers in one frame.
const TIMERS_A_FRAME: usize = 1000;

/// The firing rank of a node that does not know of all other nodes yet.
const NEWCOMER: u32 = 1;
const SETTLED: u32 = 2;

/// How long a node that takes over timers leaves them to the others, after it has announced that.
/// Without this time, a timer that is due before the others have heard the announcement would fire
/// on two nodes.
const HANDOVER: Duration = Duration::from_millis(200);

impl Mesh {
    /// Whether this node is the node that fires a timer of the cluster.
    pub fn fires(&self, namespace: &Namespace, timer: &str) -> bool {
        let number = rendezvous::number(timer);
        let rank = |node, surely: u32| (surely, rendezvous::weight(number, node), node);
        let ours = rank(self.own(), self.own_firing_rank(namespace));
        let space = self.interest.space(namespace.name());
        let others = space.map(|space| space.firing()).unwrap_or_default();
        let is_there = |node| {
            let peer = self.peer(node);
            peer.is_some_and(|peer| peer.state() != Some(PeerState::Leaving))
        };
        let mut others = others.into_iter().filter(|(node, _)| is_there(*node));
        ours.0 > 0 && others.all(|(node, surely)| rank(node, surely) < ours)
    }

    /// The firing rank of this node for the plugin; 0 means that it fires none of its timers.
    pub(super) fn firing_rank(&self, namespace: &Namespace) -> u32 {
        match self.is_settled() {
            _ if !namespace.timers().fires() => 0,
            true => SETTLED,
            false => NEWCOMER,
        }
    }

    /// The firing rank by which this node itself goes. For `HANDOVER`, it is lower than the rank that
    /// the node has just announced.
    fn own_firing_rank(&self, namespace: &Namespace) -> u32 {
        let announced = [
            self.settled.get().copied(),
            namespace.timers().fires_since(),
        ];
        let announced = announced.into_iter().flatten().max();
        let is_new = announced.is_some_and(|announced| announced.elapsed() < HANDOVER);
        match self.firing_rank(namespace) {
            SETTLED if is_new => NEWCOMER,
            rank => rank,
        }
    }

    /// Whether this node is settled, and fires its share of the timers of the cluster.
    pub fn fires_its_share(&self) -> bool {
        let namespaces = self.registry.namespaces();
        let mut firing = namespaces.iter().filter(|space| space.timers().fires());
        self.is_settled() && firing.all(|space| self.own_firing_rank(space) == SETTLED)
    }

    /// Waits for `gone_after`. From then on this node knows of all other nodes.
    pub(super) async fn settle(self: Arc<Self>) {
        let gone_after = self.limits().gone_after;
        tokio::time::sleep(gone_after).await;
        let _ = self.settled.set(tokio::time::Instant::now());
        self.serving_changed.send_replace(());
        for namespace in self.registry.namespaces() {
            namespace.timers().tell_fires();
        }
    }

    /// Tells a peer about all timers of a plugin, if the peer is subscribed to changes.
    pub(super) fn push_timers(&self, peer: &Peer, plugin: &str) {
        let Some(namespace) = self.registry.namespace(plugin) else {
            return;
        };
        let _publishing = self.publishing.lock();
        if peer.outbound.is_subscribed() {
            let known = namespace.timers().all_known();
            for frame in frames(plugin, known, self.registry.clock().now()) {
                self.push_reliable(peer, frame);
            }
        }
    }

    /// Takes what a peer says about timers.
    ///
    /// # Errors
    ///
    /// A timer of them can be no timer.
    pub(super) fn note_timers(&self, told: &wire::Timers) -> Result<(), NotUnderstood> {
        let latest = latest_version();
        let now = self.registry.clock().now();
        let known = told.timers.iter().map(|timer| known(timer, latest, now));
        let known = known.collect::<Option<Vec<TimerRecord>>>();
        let known = known.ok_or(NotUnderstood)?;
        // Where the plugin does not run, nobody fires them.
        let Some(namespace) = self.registry.namespace(&told.plugin) else {
            return Ok(());
        };
        for known in known {
            // A plugin here could not name it, and so never cancel it.
            let is_name = (1..=self.limits().name_bytes).contains(&known.name.len());
            if !is_name || !namespace.timers().note(known) {
                self.registry.counters().timers_refused.add_one();
            }
        }
        Ok(())
    }
}

/// The frames that tell about these timers of a plugin.
pub(super) fn frames(
    plugin: &str,
    known: impl IntoIterator<Item = TimerRecord>,
    now: Instant,
) -> Vec<Bytes> {
    let timers: Vec<_> = known.into_iter().map(|known| timer(known, now)).collect();
    let frame = |timers: &[wire::Timer]| {
        wire::encode(wire::frame::Frame::Timers(wire::Timers {
            plugin: plugin.to_owned(),
            timers: timers.to_vec(),
        }))
    };
    timers.chunks(TIMERS_A_FRAME).map(frame).collect()
}

fn timer(known: TimerRecord, now: Instant) -> wire::Timer {
    let after = known
        .schedule
        .map(|schedule| schedule.at.saturating_duration_since(now));
    let every = known.schedule.and_then(|schedule| schedule.every);
    wire::Timer {
        name: known.name.as_ref().to_owned(),
        changed_at_ms: known.version.at_ms,
        changed_by: known.version.node.to_u64(),
        after_ms: after.map(in_ms),
        every_ms: every.map(in_ms),
    }
}

/// The latest time of a change that a peer may tell, in milliseconds since 1970. The newest change
/// of a timer counts, and after a change at the end of all times there would be no newer one.
fn latest_version() -> u64 {
    let now = UNIX_EPOCH.elapsed().unwrap_or_default();
    in_ms(now + TIMER_MAX)
}

/// Reads what a peer says about a timer; `None` means that no timer can be so. No change is later
/// than `latest`.
fn known(timer: &wire::Timer, latest: u64, now: Instant) -> Option<TimerRecord> {
    if timer.changed_at_ms > latest {
        return None;
    }
    let every = match timer.every_ms {
        Some(ms) => Some(checked(ms).filter(|every| *every >= TIMER_MIN)?),
        None => None,
    };
    let schedule = match timer.after_ms {
        Some(ms) => Some(Schedule {
            at: now + checked(ms)?,
            every,
        }),
        None => None,
    };
    Some(TimerRecord {
        name: timer.name.as_str().into(),
        version: Version {
            at_ms: timer.changed_at_ms,
            node: Incarnation::from_u64(timer.changed_by)?,
        },
        schedule,
    })
}

fn checked(ms: u64) -> Option<Duration> {
    Some(Duration::from_millis(ms)).filter(|time| *time <= TIMER_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_a_timer_is_what_is_heard() {
        let now = Instant::now();
        let version = Version {
            at_ms: 7,
            node: Incarnation::draw().expect("randomness"),
        };
        let schedule = |every| Schedule {
            at: now + Duration::from_secs(3600),
            every,
        };
        let minute = Duration::from_secs(60);
        for schedule in [None, Some(schedule(None)), Some(schedule(Some(minute)))] {
            let name = "tea".into();
            let told = timer(
                TimerRecord {
                    name,
                    version,
                    schedule,
                },
                now,
            );
            let heard = known(&told, latest_version(), now).expect("a timer");
            assert_eq!((&*heard.name, heard.version), ("tea", version));
            let every = |schedule: Option<Schedule>| schedule.map(|schedule| schedule.every);
            assert_eq!(every(heard.schedule), every(schedule));
        }
    }

    #[test]
    fn what_no_timer_can_be_is_not_understood() {
        let good = wire::Timer {
            name: "tea".to_owned(),
            after_ms: Some(0),
            every_ms: Some(10),
            ..wire::Timer::default()
        };
        let known = |timer: &wire::Timer| known(timer, latest_version(), Instant::now());
        assert!(known(&good).is_some());
        for bad in [
            wire::Timer {
                every_ms: Some(9),
                ..good.clone()
            },
            wire::Timer {
                after_ms: Some(u64::MAX),
                ..good.clone()
            },
            wire::Timer {
                changed_at_ms: latest_version() + 10_000,
                ..good.clone()
            },
            wire::Timer {
                changed_by: u64::MAX,
                ..good
            },
        ] {
            assert!(known(&bad).is_none(), "{bad:?}");
        }
    }
}
