//! Admission: the limits on the number of clients and on the rate of new clients, both for the node
//! and for one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use super::sending_rates::SendingRates;
use crate::address_share::share_of;
use crate::limits::Limits;
use crate::log_throttle::LogThrottle;
use crate::rate_limiter::{RateLimiter, Rates, SharedRates};

/// Counts the clients and admits new ones. A permit gives its slot back when it is dropped.
#[derive(Debug)]
pub(super) struct Admission {
    connects: RateLimiter,
    address_rates: SharedRates<IpAddr>,
    /// The throttle of the log line about clients that are closed for what others have sent, too.
    closed: Arc<LogThrottle>,
    admitted: Mutex<Admitted>,
}

#[derive(Debug)]
struct Admitted {
    clients: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The permit of an admitted client, which counts the client until the permit is dropped.
#[derive(Debug)]
pub(super) struct AdmissionPermit {
    admission: Arc<Admission>,
    address: Option<IpAddr>,
    /// The rates of the address, if they have limits.
    rates: Option<Arc<Rates>>,
    /// The permit for the open file of the client's connection.
    _file: Arc<OwnedSemaphorePermit>,
}

/// The limit that keeps a client from being admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AdmissionRefused {
    /// The limit `clients` or `connects_per_second` is reached.
    Node,
    /// The limit `clients_per_address` is reached.
    Address,
    /// The limit `connects_per_second_per_address` is reached.
    AddressTooFast,
}

impl Admission {
    pub(super) fn new(limits: &Limits) -> Admission {
        Admission {
            connects: RateLimiter::new(limits.connects_per_second, Instant::now()),
            address_rates: SharedRates::new(limits.address_rates()),
            closed: Arc::default(),
            admitted: Mutex::new(Admitted {
                clients: 0,
                by_address: HashMap::new(),
            }),
        }
    }

    /// Admits one more client of this address, within the current limits. A client of a Unix socket
    /// has none. `file` is the permit for the file of its connection.
    pub(super) fn admit(
        self: &Arc<Self>,
        limits: &Limits,
        address: Option<IpAddr>,
        file: Arc<OwnedSemaphorePermit>,
    ) -> Result<AdmissionPermit, AdmissionRefused> {
        let (address, now) = (address.map(share_of), Instant::now());
        // Its own limits come first: what one address has too much of takes nothing from others.
        let rates = address.and_then(|address| self.address_rates.of(address, now));
        if rates.as_ref().is_some_and(|rates| !rates.take_connect(now)) {
            return Err(AdmissionRefused::AddressTooFast);
        }
        let mut admitted = self.admitted.lock();
        // They are counted without a limit, too: one may be set while the node runs.
        let of_address = address.and_then(|address| admitted.by_address.get(&address));
        let of_address = of_address.copied().unwrap_or_default();
        if limits.clients_per_address > 0 && of_address >= limits.clients_per_address {
            return Err(AdmissionRefused::Address);
        }
        self.connects.set(limits.connects_per_second);
        let in_pace = self.connects.take(1, now).is_ok();
        if !in_pace || admitted.clients >= limits.clients {
            return Err(AdmissionRefused::Node);
        }
        if let Some(address) = address {
            *admitted.by_address.entry(address).or_default() += 1;
        }
        admitted.clients += 1;
        Ok(AdmissionPermit {
            admission: self.clone(),
            address,
            rates,
            _file: file,
        })
    }
}

impl AdmissionPermit {
    /// The rates at which the client may send, if there are limits.
    pub(super) fn sending_rates(&self, limits: &Limits) -> Option<Box<SendingRates>> {
        let (address, rates) = (self.address, self.rates.as_ref());
        SendingRates::new(limits, address, rates, &self.admission.closed)
    }
}

impl Drop for AdmissionPermit {
    fn drop(&mut self) {
        let mut admitted = self.admission.admitted.lock();
        admitted.clients -= 1;
        let Some(address) = self.address else { return };
        if let Some(of_address) = admitted.by_address.get_mut(&address) {
            *of_address -= 1;
            if *of_address == 0 {
                admitted.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    #[test]
    fn a_place_is_given_back_when_dropped() {
        let limits = Limits {
            clients: 2,
            clients_per_address: 1,
            ..Limits::default()
        };
        let admission = Arc::new(Admission::new(&limits));
        let address = |last| Some(IpAddr::from([127, 0, 0, last]));
        let files = Arc::new(Semaphore::new(4));
        let admit = |last| {
            let file = files.clone().try_acquire_owned().expect("a file");
            admission.admit(&limits, address(last), Arc::new(file))
        };
        let first = admit(1).expect("a place");
        assert_eq!(admit(1).err(), Some(AdmissionRefused::Address));
        let _second = admit(2).expect("a place");
        assert_eq!(admit(3).err(), Some(AdmissionRefused::Node));
        drop(first);
        assert_eq!(files.available_permits(), 3, "the second has one");
        assert!(admit(1).is_ok());
        assert_eq!(admission.admitted.lock().by_address.len(), 1);
    }

    #[test]
    fn a_limit_that_is_set_later_counts_who_is_there() {
        let mut limits = Limits::default();
        let admission = Arc::new(Admission::new(&limits));
        let files = Arc::new(Semaphore::new(10));
        let admit = |limits: &Limits| {
            let file = files.clone().try_acquire_owned().expect("a file");
            let address = IpAddr::from([127, 0, 0, 1]);
            admission.admit(limits, Some(address), Arc::new(file))
        };
        let before = admit(&limits).expect("no limit");
        limits.clients_per_address = 2;
        let second = admit(&limits).expect("one is there");
        let refused = Some(AdmissionRefused::Address);
        assert_eq!(admit(&limits).err(), refused);
        drop(before);
        let _third = admit(&limits).expect("one has left");
        assert_eq!(admit(&limits).err(), refused);
        drop(second);
    }

    #[test]
    fn an_address_that_comes_too_fast_takes_nothing_from_others() {
        let limits = Limits {
            connects_per_second: 3,
            connects_per_second_per_address: 2,
            ..Limits::default()
        };
        let admission = Arc::new(Admission::new(&limits));
        let files = Arc::new(Semaphore::new(100));
        let admit = |address: &str| {
            let address = address.parse().expect("an address");
            let file = files.clone().try_acquire_owned().expect("a file");
            admission
                .admit(&limits, Some(address), Arc::new(file))
                .err()
        };
        let flood = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4"];
        let too_fast = Some(AdmissionRefused::AddressTooFast);
        assert_eq!(flood.map(admit), [None, None, too_fast, too_fast]);
        // What came too fast has taken nothing of the node's.
        assert_eq!(admit("2001:db8:0:1::1"), None);
        assert_eq!(admit("10.0.0.1"), Some(AdmissionRefused::Node));
    }
}
