//! Rollouts: which clients of a plugin a new build is for, while it runs beside the build before.
//!
//! A client has a place from 0 to 9,999, which never changes. A rollout for 5 % of the clients is for
//! the places below 500, so a larger share has all clients of a smaller one. A client whose handshake
//! says its uid has the place of the uid: whoever comes back, or comes with two devices, meets the same
//! build on every node. Other clients have places that follow from the number of their connection, so
//! that the share is exact.

use std::collections::BTreeSet;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::id::ClientId;
use crate::invalid_value::InvalidValue;

/// The number of places.
const PLACES: u32 = 10_000;

/// The places of one percent of the clients.
const PLACES_A_PERCENT: f64 = 100.0;

/// The most uids that a rollout names.
const UIDS: usize = 1_000;

/// The most bytes of all uids that a rollout names: each node tells them to all others.
const UIDS_BYTES: usize = 64 << 10;

/// The longest time after which a canary takes over by itself.
const PROMOTE_AFTER_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The largest ratio of two percentiles.
const MAX_P99_RATIO: f64 = 1_000.0;

/// Which clients a new build is for, and what becomes of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rollout {
    /// The places that it is for: those below this number.
    places: u32,
    /// The uids that it is for in any case.
    uids: BTreeSet<String>,
    /// The time after which the build takes over for all clients; none: when somebody says so.
    promote_after: Option<Duration>,
    /// How many times as long as those of the build before its messages may take at the 99th
    /// percentile; none: that is no matter.
    max_p99_ratio: Option<f64>,
    /// When it began, in milliseconds since 1970; 0: it has not begun.
    began_ms: u64,
}

/// A rollout as a manifest, a request or a peer has it, before it is checked.
#[derive(Clone, Debug, Default)]
pub struct WrittenRollout {
    /// The share of the clients, in percent.
    pub percent: f64,
    /// The uids that it is for in any case.
    pub uids: Vec<String>,
    /// The time after which the build takes over by itself.
    pub promote_after: Option<Duration>,
    /// The most that the 99th percentile may be, as a multiple.
    pub max_p99_ratio: Option<f64>,
}

/// The place of a client among all clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientPlace(u32);

impl Rollout {
    /// Checks a rollout that somebody has written.
    ///
    /// # Errors
    ///
    /// It is for nobody, or a value is not permitted.
    pub fn check(written: WrittenRollout) -> Result<Rollout, InvalidValue> {
        let WrittenRollout {
            percent,
            uids,
            promote_after,
            max_p99_ratio,
        } = written;
        let wrong = |key, why: String| Err(InvalidValue::new(key, why));
        if !(0.0..=100.0).contains(&percent) {
            return wrong("rollout.percent", format!("{percent} is not from 0 to 100"));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is from 0 to 10,000"
        )]
        let places = (percent * PLACES_A_PERCENT).round() as u32;
        if percent > 0.0 && places == 0 {
            let why = format!("{percent} is less than 0.01, the smallest share");
            return wrong("rollout.percent", why);
        }
        if places == 0 && uids.is_empty() {
            let why = "it is for nobody: give a percent, or uids".to_owned();
            return wrong("rollout", why);
        }
        let bytes: usize = uids.iter().map(String::len).sum();
        if uids.len() > UIDS || bytes > UIDS_BYTES {
            let why = format!("has more than {UIDS} uids or {UIDS_BYTES} bytes");
            return wrong("rollout.uids", why);
        }
        if uids.iter().any(String::is_empty) {
            return wrong("rollout.uids", "has an empty uid".to_owned());
        }
        if promote_after.is_some_and(|after| after.is_zero() || after > PROMOTE_AFTER_MAX) {
            let why = "is not from 1ms to 30 days".to_owned();
            return wrong("rollout.promote_after", why);
        }
        if max_p99_ratio
            .is_some_and(|ratio| !ratio.is_finite() || ratio <= 1.0 || ratio > MAX_P99_RATIO)
        {
            let why = format!("is not more than 1, and at most {MAX_P99_RATIO}");
            return wrong("rollout.max_p99_ratio", why);
        }
        Ok(Rollout {
            places,
            uids: uids.into_iter().collect(),
            promote_after,
            max_p99_ratio,
            began_ms: 0,
        })
    }

    /// Says when it began, in milliseconds since 1970.
    #[must_use]
    pub fn begun_at(self, began_ms: u64) -> Rollout {
        Rollout { began_ms, ..self }
    }

    /// Says that somebody promotes it.
    #[must_use]
    pub fn by_hand(self) -> Rollout {
        Rollout {
            promote_after: None,
            ..self
        }
    }

    /// When it began, in milliseconds since 1970; 0: it has not begun.
    pub fn began_ms(&self) -> u64 {
        self.began_ms
    }

    /// The share of the clients, in percent.
    pub fn percent(&self) -> f64 {
        f64::from(self.places) / PLACES_A_PERCENT
    }

    /// The uids that it is for in any case.
    pub fn uids(&self) -> &BTreeSet<String> {
        &self.uids
    }

    /// The time after which the build takes over for all clients; none: when somebody says so.
    pub fn promote_after(&self) -> Option<Duration> {
        self.promote_after
    }

    /// How many times as long as before messages may take at the 99th percentile, if that matters.
    pub fn max_p99_ratio(&self) -> Option<f64> {
        self.max_p99_ratio
    }

    /// Whether it is for a client of this place.
    pub fn has_place(&self, place: ClientPlace) -> bool {
        place.0 < self.places
    }

    /// Whether it is for this uid, wherever its place is.
    pub fn names(&self, uid: &str) -> bool {
        self.uids.contains(uid)
    }
}

impl ClientPlace {
    /// The place of a client whose handshake says this uid, or none.
    pub fn new(client: ClientId, uid: Option<&str>) -> ClientPlace {
        let fraction = match uid {
            Some(uid) => {
                let hash: [u8; 32] = Sha256::digest(uid).into();
                u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
            }
            // Steps of the golden ratio: whichever clients are taken in a row, they are spread evenly.
            None => {
                let [a, b, c, d, ..] = client
                    .counter()
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .to_be_bytes();
                u32::from_be_bytes([a, b, c, d])
            }
        };
        let place = (u64::from(fraction) * u64::from(PLACES)) >> 32;
        ClientPlace(u32::try_from(place).unwrap_or_default())
    }

    /// A number for the place, which is not 0.
    pub fn to_u32(self) -> u32 {
        self.0 + 1
    }

    /// The place that has this number, if one has.
    pub fn from_u32(number: u32) -> Option<ClientPlace> {
        number
            .checked_sub(1)
            .filter(|place| *place < PLACES)
            .map(ClientPlace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Incarnation;

    fn of(percent: f64) -> Rollout {
        let written = WrittenRollout {
            percent,
            ..WrittenRollout::default()
        };
        Rollout::check(written).expect("a good rollout")
    }

    fn clients() -> impl Iterator<Item = ClientId> {
        let node = Incarnation::draw().expect("randomness");
        (1..).map(move |counter| ClientId::new(node, counter, 0))
    }

    #[test]
    fn of_clients_without_a_uid_the_share_is_exact() {
        for percent in [1.0, 5.0, 20.0, 50.0, 99.0] {
            let rollout = of(percent);
            for (from, step) in [(0, 1), (12_345, 1), (0, 2), (7, 3), (0, 10)] {
                let places = clients().skip(from).step_by(step).take(1_000);
                let places = places.map(|client| ClientPlace::new(client, None));
                let taken = places.filter(|place| rollout.has_place(*place)).count();
                let share = 100.0 * taken as f64 / 1_000.0;
                assert!((share - percent).abs() < 0.5, "{share} for {percent}");
            }
        }
    }

    #[test]
    fn of_uids_the_share_is_right_and_the_same_on_each_node() {
        let rollout = of(5.0);
        let (one, other) = (clients().next(), clients().nth(5));
        let (one, other) = (one.expect("a client"), other.expect("a client"));
        let mut taken = 0;
        for number in 0..10_000 {
            let uid = format!("user-{number}");
            let place = ClientPlace::new(one, Some(&uid));
            assert_eq!(place, ClientPlace::new(other, Some(&uid)));
            taken += u32::from(rollout.has_place(place));
        }
        assert!((400..600).contains(&taken), "{taken}");
    }

    #[test]
    fn a_larger_share_has_all_clients_of_a_smaller_one() {
        for client in clients().take(10_000) {
            let place = ClientPlace::new(client, None);
            assert!(!of(5.0).has_place(place) || of(5.01).has_place(place));
            assert!(of(100.0).has_place(place));
            assert_eq!(ClientPlace::from_u32(place.to_u32()), Some(place));
        }
        assert_eq!(ClientPlace::from_u32(0), None);
        assert_eq!(ClientPlace::from_u32(PLACES + 1), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = || WrittenRollout {
            percent: 5.0,
            ..WrittenRollout::default()
        };
        let long = "u".repeat(UIDS_BYTES + 1);
        for (written, named) in [
            (WrittenRollout::default(), "it is for nobody"),
            (
                WrittenRollout {
                    percent: -1.0,
                    ..good()
                },
                "rollout.percent: -1 is not",
            ),
            (
                WrittenRollout {
                    percent: 100.1,
                    ..good()
                },
                "100.1 is not",
            ),
            (
                WrittenRollout {
                    percent: f64::NAN,
                    ..good()
                },
                "NaN is not",
            ),
            (
                WrittenRollout {
                    percent: 0.001,
                    ..good()
                },
                "0.001 is less than 0.01",
            ),
            (
                WrittenRollout {
                    uids: vec![String::new()],
                    ..good()
                },
                "an empty uid",
            ),
            (
                WrittenRollout {
                    uids: vec!["a".to_owned(); UIDS + 1],
                    ..good()
                },
                "1000 uids",
            ),
            (
                WrittenRollout {
                    uids: vec![long],
                    ..good()
                },
                "65536 bytes",
            ),
            (
                WrittenRollout {
                    promote_after: Some(Duration::ZERO),
                    ..good()
                },
                "rollout.promote_after",
            ),
            (
                WrittenRollout {
                    promote_after: Some(PROMOTE_AFTER_MAX + Duration::from_secs(1)),
                    ..good()
                },
                "30 days",
            ),
            (
                WrittenRollout {
                    max_p99_ratio: Some(1.0),
                    ..good()
                },
                "is not more than 1",
            ),
            (
                WrittenRollout {
                    max_p99_ratio: Some(f64::INFINITY),
                    ..good()
                },
                "is not more than 1",
            ),
        ] {
            let error = Rollout::check(written).expect_err(named).to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
