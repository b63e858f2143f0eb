//! Admission: the limits on the number of clients, on the clients of one address, and on the rate
//! of new clients.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use crate::limits::Limits;
use crate::rate_limiter::RateLimiter;

/// Counts the clients and admits new ones. A permit gives its slot back when it is dropped.
#[derive(Debug)]
pub(super) struct Admission {
    admitted: Mutex<Admitted>,
}

#[derive(Debug)]
struct Admitted {
    clients: usize,
    by_address: HashMap<IpAddr, usize>,
    /// The limiter of new clients, and the rate that it allows.
    rate_limiter: Option<RateLimiter>,
    connects_per_second: u32,
}

/// The permit of an admitted client, which counts the client until the permit is dropped.
#[derive(Debug)]
pub(super) struct AdmissionPermit {
    admission: Arc<Admission>,
    address: Option<IpAddr>,
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
}

impl Admission {
    pub(super) fn new(limits: &Limits) -> Admission {
        Admission {
            admitted: Mutex::new(Admitted {
                clients: 0,
                by_address: HashMap::new(),
                rate_limiter: RateLimiter::new(limits.connects_per_second, Instant::now()),
                connects_per_second: limits.connects_per_second,
            }),
        }
    }

    /// Admits one more client of this address, within the current limits. A client of a Unix socket has none. `file` is the permit for the file of its connection.
    pub(super) fn admit(
        self: &Arc<Self>,
        limits: &Limits,
        address: Option<IpAddr>,
        file: Arc<OwnedSemaphorePermit>,
    ) -> Result<AdmissionPermit, AdmissionRefused> {
        let mut admitted = self.admitted.lock();
        if admitted.connects_per_second != limits.connects_per_second {
            admitted.connects_per_second = limits.connects_per_second;
            admitted.rate_limiter = RateLimiter::new(limits.connects_per_second, Instant::now());
        }
        let in_pace = admitted
            .rate_limiter
            .as_mut()
            .is_none_or(|rate_limiter| rate_limiter.take(Instant::now()));
        if !in_pace || admitted.clients >= limits.clients {
            return Err(AdmissionRefused::Node);
        }
        if limits.clients_per_address > 0
            && let Some(address) = address
        {
            let of_address = admitted.by_address.entry(address).or_default();
            if *of_address >= limits.clients_per_address {
                return Err(AdmissionRefused::Address);
            }
            *of_address += 1;
        }
        admitted.clients += 1;
        Ok(AdmissionPermit {
            admission: self.clone(),
            address,
            _file: file,
        })
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
}
