//! The handshakes under way, and who may have how many of them.
//!
//! A connection is silent until its request has arrived. The node has at most `handshakes` silent
//! connections. Beyond that, the oldest one is cut, of the address that has the most. A flood from
//! one address therefore cuts its own connections, and keeps nobody else out. An IPv6 network of 64
//! bits counts as one address, since one host can have all of it.
//!
//! Apart from these, at most `handshakes` requests are being answered, and a quarter of them for
//! each plugin. So a plugin with a slow `on-connect` does not keep out the clients of the others.
//! The pages of all plugins together count as one plugin. A request beyond that is answered with
//! 503.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::network::network_of;
use crate::log_throttle::LogThrottle;

/// The share of a plugin: one part of so many.
const PARTS: usize = 4;

/// The handshakes under way at the clients' port.
#[derive(Debug)]
pub(super) struct Handshakes {
    most: usize,
    under_way: Mutex<UnderWayHandshakes>,
    cut: LogThrottle,
    refused: LogThrottle,
}

#[derive(Debug, Default)]
struct UnderWayHandshakes {
    next_number: u64,
    silent_total: usize,
    /// The silent connections of each address, the oldest first.
    silent: HashMap<IpAddr, BTreeMap<u64, CancellationToken>>,
    /// The addresses by how many silent connections they have, the most last. Of several with as
    /// many, the one with the oldest connection is the last.
    by_count: BTreeSet<(usize, Reverse<u64>, IpAddr)>,
    answering_total: usize,
    /// The requests that are being answered, for each plugin.
    answering: HashMap<String, usize>,
}

/// The permit of one handshake, which counts until it is dropped.
#[derive(Debug)]
pub(super) struct HandshakePermit {
    handshakes: Arc<Handshakes>,
    address: IpAddr,
    number: u64,
    cut: CancellationToken,
    stage: Mutex<HandshakeStage>,
}

#[derive(Debug, PartialEq, Eq)]
enum HandshakeStage {
    /// The request has not arrived yet.
    Silent,
    /// The request has arrived.
    Read,
    /// The request is being answered by this plugin.
    Answering(String),
}

impl Handshakes {
    /// Allows `most` silent connections, and as many requests that are being answered.
    pub(super) fn new(most: usize) -> Handshakes {
        Handshakes {
            most,
            under_way: Mutex::default(),
            cut: LogThrottle::default(),
            refused: LogThrottle::default(),
        }
    }

    /// Begins the handshake of a new connection. Returns whether another connection is cut for it.
    pub(super) fn begin(self: &Arc<Self>, address: IpAddr) -> (HandshakePermit, bool) {
        let address = network_of(address);
        let cut = CancellationToken::new();
        let mut under_way = self.under_way.lock();
        let number = under_way.next_number;
        under_way.next_number += 1;
        let cuts = under_way.silent_total >= self.most;
        if cuts {
            under_way.cut_oldest();
        }
        under_way.add_silent(address, number, cut.clone());
        drop(under_way);
        if cuts && let Some(unsaid) = self.cut.happened() {
            let most = self.most;
            tracing::warn!(
                most,
                unsaid,
                "too many connections have not sent their request: the oldest is cut, of the \
                 address that has the most"
            );
        }
        let permit = HandshakePermit {
            handshakes: self.clone(),
            address,
            number,
            cut,
            stage: Mutex::new(HandshakeStage::Silent),
        };
        (permit, cuts)
    }
}

impl UnderWayHandshakes {
    fn add_silent(&mut self, address: IpAddr, number: u64, cut: CancellationToken) {
        let of_address = self.silent.entry(address).or_default();
        if let Some(rank) = rank(address, of_address) {
            self.by_count.remove(&rank);
        }
        of_address.insert(number, cut);
        self.by_count.extend(rank(address, of_address));
        self.silent_total += 1;
    }

    fn remove_silent(&mut self, address: IpAddr, number: u64) -> Option<CancellationToken> {
        let of_address = self.silent.get_mut(&address)?;
        let before = rank(address, of_address)?;
        let removed = of_address.remove(&number)?;
        self.by_count.remove(&before);
        match rank(address, of_address) {
            Some(after) => drop(self.by_count.insert(after)),
            None => drop(self.silent.remove(&address)),
        }
        self.silent_total -= 1;
        Some(removed)
    }

    fn cut_oldest(&mut self) {
        let Some((_, Reverse(oldest), address)) = self.by_count.last().copied() else {
            return;
        };
        if let Some(cut) = self.remove_silent(address, oldest) {
            cut.cancel();
        }
    }
}

impl HandshakePermit {
    /// Waits until the connection is to be cut.
    pub(super) async fn cut(&self) {
        self.cut.cancelled().await;
    }

    /// Records that the request has arrived.
    pub(super) fn has_read(&self) {
        let mut stage = self.stage.lock();
        if *stage == HandshakeStage::Silent {
            *stage = HandshakeStage::Read;
            let mut under_way = self.handshakes.under_way.lock();
            under_way.remove_silent(self.address, self.number);
        }
    }

    /// Takes a place for a plugin that is to answer the request; an empty name stands for pages.
    /// Returns whether there was one.
    pub(super) fn answer(&self, plugin: &str) -> bool {
        let Handshakes {
            most,
            under_way,
            refused,
            ..
        } = &*self.handshakes;
        let share = (most / PARTS).max(1);
        let has_place = {
            let mut under_way = under_way.lock();
            let of_plugin = under_way.answering.get(plugin).copied().unwrap_or_default();
            let has_place = of_plugin < share && under_way.answering_total < *most;
            if has_place {
                under_way.answering.insert(plugin.to_owned(), of_plugin + 1);
                under_way.answering_total += 1;
            }
            has_place
        };
        if has_place {
            *self.stage.lock() = HandshakeStage::Answering(plugin.to_owned());
        } else if let Some(unsaid) = refused.happened() {
            tracing::warn!(
                plugin,
                share,
                unsaid,
                "requests are refused, since too many are being answered: its on-connect is slow, \
                 or raise limits.handshakes"
            );
        }
        has_place
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        let mut under_way = self.handshakes.under_way.lock();
        match self.stage.get_mut() {
            HandshakeStage::Silent => {
                under_way.remove_silent(self.address, self.number);
            }
            HandshakeStage::Read => {}
            HandshakeStage::Answering(plugin) => {
                under_way.answering_total -= 1;
                let left = under_way.answering.get_mut(plugin).map(|of_plugin| {
                    *of_plugin -= 1;
                    *of_plugin
                });
                if left == Some(0) {
                    under_way.answering.remove(plugin);
                }
            }
        }
    }
}

/// The rank of an address with these silent connections, if it has any.
fn rank(
    address: IpAddr,
    silent: &BTreeMap<u64, CancellationToken>,
) -> Option<(usize, Reverse<u64>, IpAddr)> {
    let oldest = silent.keys().next()?;
    Some((silent.len(), Reverse(*oldest), address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_oldest_of_the_address_with_the_most_is_cut() {
        let handshakes = Arc::new(Handshakes::new(4));
        let begin = |from| handshakes.begin(address(from)).0;
        let lonely = begin("10.0.0.1");
        let flood: Vec<_> = (0..3).map(|_| begin("10.0.0.2")).collect();
        let newcomer = handshakes.begin(address("10.0.0.3"));
        assert!(newcomer.1);
        let is_cut = |permit: &HandshakePermit| permit.cut.is_cancelled();
        assert!(is_cut(&flood[0]) && !is_cut(&flood[1]) && !is_cut(&lonely));
        // What was read is not silent.
        flood[1].has_read();
        let another = handshakes.begin(address("10.0.0.4"));
        assert!(!another.1);
        drop((lonely, flood, newcomer, another));
        let under_way = handshakes.under_way.lock();
        assert_eq!(under_way.silent_total, 0);
        assert!(under_way.silent.is_empty() && under_way.by_count.is_empty());
    }

    #[test]
    fn of_addresses_with_as_many_the_oldest_connection_is_cut() {
        let handshakes = Arc::new(Handshakes::new(2));
        let begin = |from| handshakes.begin(address(from)).0;
        let permits = ["10.0.0.1", "2001:db8::1", "10.0.0.2"].map(begin);
        let cut = permits.each_ref().map(|permit| permit.cut.is_cancelled());
        assert_eq!(cut, [true, false, false]);
    }

    #[test]
    fn a_plugin_has_a_quarter() {
        let handshakes = Arc::new(Handshakes::new(8));
        let read = || {
            let permit = handshakes.begin(address("10.0.0.1")).0;
            permit.has_read();
            permit
        };
        let slow: Vec<_> = (0..3).map(|_| read()).collect();
        let answered = slow.iter().map(|permit| permit.answer("slow"));
        assert_eq!(answered.collect::<Vec<_>>(), [true, true, false]);
        assert!(read().answer("chat"));
        drop(slow);
        assert!(read().answer("slow"));
        assert!(handshakes.under_way.lock().answering.is_empty());
        assert_eq!(handshakes.under_way.lock().answering_total, 0);
    }
}
