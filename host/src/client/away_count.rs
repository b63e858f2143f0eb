//! The count of clients that are away, for the node and for each address.
//!
//! A client that is away has no place among the clients of the node, so that it cannot keep its own next
//! connection out. As many may be away as may be connected.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::address_share::share_of;
use crate::limits::Limits;

/// The clients that are away.
#[derive(Debug, Default)]
pub(super) struct AwayCount(Mutex<AwayNumbers>);

#[derive(Debug, Default)]
struct AwayNumbers {
    clients: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The permit of a client that is away, which counts it until the permit is dropped.
#[derive(Debug)]
pub(super) struct AwayPermit {
    count: Arc<AwayCount>,
    address: Option<IpAddr>,
}

impl AwayCount {
    /// Counts one more client of this address, within `clients` and `clients_per_address`.
    pub(super) fn take(
        self: &Arc<Self>,
        limits: &Limits,
        address: Option<IpAddr>,
    ) -> Option<AwayPermit> {
        let address = address.map(share_of);
        let mut counted = self.0.lock();
        let of_address = address.and_then(|address| counted.by_address.get(&address));
        let most = limits.clients_per_address;
        let is_full = most > 0 && of_address.is_some_and(|clients| *clients >= most);
        if is_full || counted.clients >= limits.clients {
            return None;
        }
        counted.clients += 1;
        if let Some(address) = address {
            *counted.by_address.entry(address).or_default() += 1;
        }
        Some(AwayPermit {
            count: self.clone(),
            address,
        })
    }
}

impl Drop for AwayPermit {
    fn drop(&mut self) {
        let mut counted = self.count.0.lock();
        counted.clients -= 1;
        let Some(address) = self.address else { return };
        if let Some(of_address) = counted.by_address.get_mut(&address) {
            *of_address -= 1;
            if *of_address == 0 {
                counted.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_take_the_permits_of_all() {
        let limits = Limits {
            clients: 3,
            clients_per_address: 2,
            ..Limits::default()
        };
        let count = Arc::new(AwayCount::default());
        let take = |last| count.take(&limits, Some(IpAddr::from([127, 0, 0, last])));
        let first = take(1).expect("a permit");
        let _second = take(1).expect("a permit");
        assert!(take(1).is_none());
        let _third = take(2).expect("a permit");
        assert!(take(3).is_none(), "three are away");
        drop(first);
        assert!(take(1).is_some());
        assert_eq!(count.0.lock().by_address.len(), 2);
    }
}
