//! Admission: how many clients there may be, of one address, and how fast they may come.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use super::rate_limiter::RateLimiter;
use crate::limits::Limits;

/// Counts clients; what it admits gives its place back when dropped.
#[derive(Debug)]
pub(super) struct Admission {
    clients: usize,
    clients_per_address: usize,
    admitted: Mutex<Admitted>,
}

#[derive(Debug)]
struct Admitted {
    clients: usize,
    by_address: HashMap<IpAddr, usize>,
    rate_limiter: Option<RateLimiter>,
}

/// A client's place.
#[derive(Debug)]
pub(super) struct AdmissionPermit {
    admission: Arc<Admission>,
    address: IpAddr,
    /// The client's connection is an open file.
    _file: Arc<OwnedSemaphorePermit>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// `clients`, or `connects_per_second`.
    Node,
    /// `clients_per_address`.
    Address,
}

impl Admission {
    pub(super) fn new(limits: &Limits) -> Admission {
        Admission {
            clients: limits.clients,
            clients_per_address: limits.clients_per_address,
            admitted: Mutex::new(Admitted {
                clients: 0,
                by_address: HashMap::new(),
                rate_limiter: RateLimiter::new(limits.connects_per_second, Instant::now()),
            }),
        }
    }

    /// A place for one more client of this address, whose connection has this file.
    pub(super) fn admit(
        self: &Arc<Self>,
        address: IpAddr,
        file: Arc<OwnedSemaphorePermit>,
    ) -> Result<AdmissionPermit, Full> {
        let mut admitted = self.admitted.lock();
        let in_pace = admitted
            .rate_limiter
            .as_mut()
            .is_none_or(|rate_limiter| rate_limiter.take(Instant::now()));
        if !in_pace || admitted.clients >= self.clients {
            return Err(Full::Node);
        }
        if self.clients_per_address > 0 {
            let of_address = admitted.by_address.entry(address).or_default();
            if *of_address >= self.clients_per_address {
                return Err(Full::Address);
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
        if let Some(of_address) = admitted.by_address.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                admitted.by_address.remove(&self.address);
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
        let address = |last| IpAddr::from([127, 0, 0, last]);
        let files = Arc::new(Semaphore::new(4));
        let admit = |last| {
            let file = files.clone().try_acquire_owned().expect("a file");
            admission.admit(address(last), Arc::new(file))
        };
        let first = admit(1).expect("a place");
        assert_eq!(admit(1).err(), Some(Full::Address));
        let _second = admit(2).expect("a place");
        assert_eq!(admit(3).err(), Some(Full::Node));
        drop(first);
        assert_eq!(files.available_permits(), 3, "the second has one");
        assert!(admit(1).is_ok());
        assert_eq!(admission.admitted.lock().by_address.len(), 1);
    }
}
