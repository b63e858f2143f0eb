//! Which clients a canary is for.
//!
//! A client that a canary is for once stays with it as long as the canary runs, whatever becomes of the
//! client's uid or of the share. Each client's own node decides this, also where the canary runs at
//! another node.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::id::ClientId;
use crate::registry::ServingCanary;
use crate::rollout::ClientPlace;

/// What a client has to do with canaries.
#[derive(Debug, Default)]
pub(super) struct CanaryMember {
    /// The number of the client's place; 0: it has not been found out.
    place: AtomicU32,
    /// The canary that the client is one for; 0: none.
    joined: AtomicU64,
}

/// The number of clients of a node that the canary is for.
#[derive(Debug, Default)]
pub(super) struct CanaryClients(Mutex<JoinedClients>);

#[derive(Debug, Default)]
struct JoinedClients {
    canary: u64,
    number: usize,
}

impl CanaryMember {
    /// Records the place of a client, whose handshake says this uid or none.
    pub(super) fn set_place(&self, client: ClientId, uid: Option<&str>) {
        let place = ClientPlace::new(client, uid);
        self.place.store(place.to_u32(), Ordering::Relaxed);
    }

    /// Returns the canary that the client was one for last; 0: none.
    pub(super) fn joined(&self) -> u64 {
        self.joined.load(Ordering::Relaxed)
    }

    /// Records that the client is one for this canary.
    pub(super) fn join(&self, canary: u64, clients: &CanaryClients) {
        let former = self.joined.swap(canary, Ordering::Relaxed);
        if former != canary {
            clients.change(former, -1);
            clients.change(canary, 1);
        }
    }

    /// Returns whether the canary is for the client. `uid` returns the client's uid.
    pub(super) fn is_in(
        &self,
        canary: &ServingCanary,
        client: ClientId,
        uid: impl FnOnce() -> Option<String>,
        clients: &CanaryClients,
    ) -> bool {
        let id = canary.id();
        if self.joined() == id {
            return true;
        }
        let rollout = &canary.rollout;
        let place = ClientPlace::from_u32(self.place.load(Ordering::Relaxed));
        // One that came in before this node knew what a place is.
        let place = place.unwrap_or_else(|| ClientPlace::new(client, None));
        let is_named =
            || !rollout.uids().is_empty() && uid().is_some_and(|uid| rollout.names(&uid));
        let is_in = rollout.has_place(place) || is_named();
        if is_in {
            self.join(id, clients);
        }
        is_in
    }
}

impl CanaryClients {
    /// Returns how many clients this canary is for.
    pub(super) fn of(&self, canary: u64) -> usize {
        let joined = self.0.lock();
        if joined.canary == canary {
            joined.number
        } else {
            0
        }
    }

    fn change(&self, canary: u64, by: isize) {
        let mut joined = self.0.lock();
        if by > 0 && joined.canary != canary {
            // Those of the one before count no more.
            *joined = JoinedClients { canary, number: 0 };
        }
        if canary != 0 && joined.canary == canary {
            joined.number = joined.number.saturating_add_signed(by);
        }
    }

    /// Records that a client has left that was one for this canary.
    pub(super) fn left(&self, canary: u64) {
        self.change(canary, -1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::id::Incarnation;
    use crate::registry::ServingBuild;
    use crate::rollout::{Rollout, WrittenRollout};

    fn canary(digest: u8, percent: f64, uids: &[&str]) -> ServingCanary {
        let written = WrittenRollout {
            percent,
            uids: uids.iter().map(|uid| (*uid).to_owned()).collect(),
            ..WrittenRollout::default()
        };
        let build = ServingBuild {
            digest: [digest; 32],
            ..ServingBuild::default()
        };
        let rollout = Arc::new(Rollout::check(written).expect("a rollout"));
        ServingCanary { build, rollout }
    }

    #[test]
    fn whoever_is_in_stays_in_until_there_is_another_canary() {
        let clients = CanaryClients::default();
        let client = ClientId::new(Incarnation::draw().expect("randomness"), 7, 0);
        let member = CanaryMember::default();
        member.set_place(client, Some("ada"));
        let is_in = |canary: &ServingCanary, uid: Option<&str>| {
            member.is_in(canary, client, || uid.map(str::to_owned), &clients)
        };
        let (few, one) = (canary(1, 0.01, &["ada"]), canary(1, 100.0, &[]));
        assert!(!is_in(&few, None), "it has the uid no more");
        assert!(is_in(&few, Some("ada")));
        assert!(is_in(&few, None), "it has been in");
        assert!(is_in(&one, None));
        assert_eq!(clients.of(one.id()), 1);
        let other = canary(2, 0.01, &["bob"]);
        assert!(!is_in(&other, Some("ada")));
        assert!(is_in(&other, Some("bob")));
        let ids = [&one, &other].map(|canary| clients.of(canary.id()));
        assert_eq!(ids, [0, 1]);
        clients.left(member.joined());
        assert_eq!(clients.of(other.id()), 0);
    }
}
