//! The handshakes under way, and who may have how many of them.
//!
//! A connection is silent until its request has arrived. The node has at most `handshakes` silent
//! connections. Beyond that, the oldest one is cut, of the address that has the most. A flood from
//! one address therefore cuts its own connections, and keeps nobody else out. An IPv6 network of 64
//! bits counts as one address, since one host can have all of it.
//!
//! Apart from these, at most `handshakes` requests are being answered, and a quarter of them for
//! each plugin. So a plugin with a slow `on-connect` does not keep out the clients of the others.
//! The pages of all plugins together count as one plugin. A request beyond that takes the place of
//! the oldest one of the address that has the most, if its own address has fewer. Otherwise, it is
//! answered with 503. So an address that takes many pages and does not read them keeps nobody else
//! out either.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::address_share::share_of;
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
    silent: ByAddress,
    answering_total: usize,
    /// The requests that are being answered, for each plugin.
    answering: HashMap<String, ByAddress>,
}

/// Connections by their addresses.
#[derive(Debug, Default)]
struct ByAddress {
    total: usize,
    /// The connections of each address, the oldest first.
    connections: HashMap<IpAddr, BTreeMap<u64, CancellationToken>>,
    /// The addresses by how many connections they have, the most last. Of several with as many,
    /// the one with the oldest connection is the last.
    by_count: BTreeSet<(usize, Reverse<u64>, IpAddr)>,
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
    /// The request of a client at this address is being answered by this plugin.
    Answering(String, IpAddr),
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
        let address = share_of(address);
        let cut = CancellationToken::new();
        let mut under_way = self.under_way.lock();
        let number = under_way.next_number;
        under_way.next_number += 1;
        let cuts = under_way.silent.total >= self.most;
        if cuts {
            under_way.silent.cut_oldest();
        }
        under_way.silent.add(address, number, cut.clone());
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
    /// Takes a place for a request of this address, which the plugin is to answer.
    fn take_place(&mut self, plugin: &str, address: IpAddr, most: usize) -> AnswerPlace {
        let share = (most / PARTS).max(1);
        let of_plugin = self.answering.get(plugin).map_or(0, |of| of.total);
        if of_plugin >= share {
            self.cut_for(plugin, address)
        } else if self.answering_total >= most {
            let largest = self.answering.iter().max_by_key(|(_, of)| of.total);
            let largest = largest.map(|(plugin, _)| plugin.clone());
            self.cut_for(&largest.unwrap_or_default(), address)
        } else {
            AnswerPlace::Free
        }
    }

    /// Cuts the oldest request of the plugin, of the address that has the most, if it has more than
    /// `address` would have.
    fn cut_for(&mut self, plugin: &str, address: IpAddr) -> AnswerPlace {
        let Some(of_plugin) = self.answering.get_mut(plugin) else {
            return AnswerPlace::None;
        };
        if of_plugin.count(address) + 1 >= of_plugin.most() {
            return AnswerPlace::None;
        }
        of_plugin.cut_oldest();
        self.answering_total -= 1;
        AnswerPlace::OfAnother
    }

    fn add_answering(
        &mut self,
        plugin: &str,
        address: IpAddr,
        number: u64,
        cut: CancellationToken,
    ) {
        let of_plugin = self.answering.entry(plugin.to_owned()).or_default();
        of_plugin.add(address, number, cut);
        self.answering_total += 1;
    }

    fn remove_answering(&mut self, plugin: &str, address: IpAddr, number: u64) {
        let Some(of_plugin) = self.answering.get_mut(plugin) else {
            return;
        };
        // One that was cut has been removed already.
        if of_plugin.remove(address, number).is_some() {
            self.answering_total -= 1;
        }
        if of_plugin.total == 0 {
            self.answering.remove(plugin);
        }
    }
}

/// A place for a request that is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerPlace {
    /// There was a free place.
    Free,
    /// Another request has been cut for it.
    OfAnother,
    /// There is no place.
    None,
}

impl ByAddress {
    fn add(&mut self, address: IpAddr, number: u64, cut: CancellationToken) {
        let of_address = self.connections.entry(address).or_default();
        if let Some(rank) = rank(address, of_address) {
            self.by_count.remove(&rank);
        }
        of_address.insert(number, cut);
        self.by_count.extend(rank(address, of_address));
        self.total += 1;
    }

    fn remove(&mut self, address: IpAddr, number: u64) -> Option<CancellationToken> {
        let of_address = self.connections.get_mut(&address)?;
        let before = rank(address, of_address)?;
        let removed = of_address.remove(&number)?;
        self.by_count.remove(&before);
        match rank(address, of_address) {
            Some(after) => drop(self.by_count.insert(after)),
            None => drop(self.connections.remove(&address)),
        }
        self.total -= 1;
        Some(removed)
    }

    /// How many connections the address has.
    fn count(&self, address: IpAddr) -> usize {
        self.connections.get(&address).map_or(0, BTreeMap::len)
    }

    /// How many connections the address has that has the most.
    fn most(&self) -> usize {
        self.by_count.last().map_or(0, |(count, ..)| *count)
    }

    /// Cuts the oldest connection of the address that has the most.
    fn cut_oldest(&mut self) {
        let Some((_, Reverse(oldest), address)) = self.by_count.last().copied() else {
            return;
        };
        if let Some(cut) = self.remove(address, oldest) {
            cut.cancel();
        }
    }
}

impl HandshakePermit {
    /// Counts the connection for another address: the one that a proxy has named for it.
    pub(super) fn set_address(&mut self, address: IpAddr) {
        let mut under_way = self.handshakes.under_way.lock();
        let silent = under_way.silent.remove(self.address, self.number);
        self.address = share_of(address);
        // One that is cut meanwhile is not there any more.
        if let Some(cut) = silent {
            under_way.silent.add(self.address, self.number, cut);
        }
    }

    /// Waits until the connection is to be cut.
    pub(super) fn cut(&self) -> impl Future<Output = ()> + use<> {
        self.cut.clone().cancelled_owned()
    }

    /// Records that the request has arrived.
    pub(super) fn has_read(&self) {
        let mut stage = self.stage.lock();
        if *stage == HandshakeStage::Silent {
            *stage = HandshakeStage::Read;
            let mut under_way = self.handshakes.under_way.lock();
            under_way.silent.remove(self.address, self.number);
        }
    }

    /// Takes a place for a plugin that is to answer the request of a client at this address; an empty
    /// name stands for pages.
    pub(super) fn answer(&self, plugin: &str, address: IpAddr) -> AnswerPlace {
        let address = share_of(address);
        let Handshakes {
            most,
            under_way,
            refused,
            ..
        } = &*self.handshakes;
        let place = {
            let mut under_way = under_way.lock();
            let place = under_way.take_place(plugin, address, *most);
            if place != AnswerPlace::None {
                under_way.add_answering(plugin, address, self.number, self.cut.clone());
            }
            place
        };
        if place != AnswerPlace::None {
            *self.stage.lock() = HandshakeStage::Answering(plugin.to_owned(), address);
        }
        if place != AnswerPlace::Free
            && let Some(unsaid) = refused.happened()
        {
            let share = (most / PARTS).max(1);
            tracing::warn!(
                plugin,
                share,
                unsaid,
                "requests are refused or cut, since too many are being answered: its on-connect is \
                 slow, an address does not read its pages, or raise limits.handshakes"
            );
        }
        place
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        let mut under_way = self.handshakes.under_way.lock();
        match self.stage.get_mut() {
            HandshakeStage::Silent => {
                under_way.silent.remove(self.address, self.number);
            }
            HandshakeStage::Read => {}
            HandshakeStage::Answering(plugin, address) => {
                under_way.remove_answering(plugin, *address, self.number);
            }
        }
    }
}

/// The rank of an address with these connections, if it has any.
fn rank(
    address: IpAddr,
    connections: &BTreeMap<u64, CancellationToken>,
) -> Option<(usize, Reverse<u64>, IpAddr)> {
    let oldest = connections.keys().next()?;
    Some((connections.len(), Reverse(*oldest), address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn answer(permit: &HandshakePermit, plugin: &str) -> AnswerPlace {
        permit.answer(plugin, permit.address)
    }

    fn is_cut(permit: &HandshakePermit) -> bool {
        permit.cut.is_cancelled()
    }

    #[test]
    fn the_oldest_of_the_address_with_the_most_is_cut() {
        let handshakes = Arc::new(Handshakes::new(4));
        let begin = |from| handshakes.begin(address(from)).0;
        let lonely = begin("10.0.0.1");
        let flood: Vec<_> = (0..3).map(|_| begin("10.0.0.2")).collect();
        let newcomer = handshakes.begin(address("10.0.0.3"));
        assert!(newcomer.1);
        assert!(is_cut(&flood[0]) && !is_cut(&flood[1]) && !is_cut(&lonely));
        // What was read is not silent.
        flood[1].has_read();
        let another = handshakes.begin(address("10.0.0.4"));
        assert!(!another.1);
        drop((lonely, flood, newcomer, another));
        let under_way = handshakes.under_way.lock();
        let silent = &under_way.silent;
        assert_eq!(silent.total, 0);
        assert!(silent.connections.is_empty() && silent.by_count.is_empty());
    }

    #[test]
    fn a_proxy_s_connections_count_for_its_clients() {
        let handshakes = Arc::new(Handshakes::new(3));
        let begin = |client| {
            let mut permit = handshakes.begin(address("10.0.0.1")).0;
            permit.set_address(address(client));
            permit
        };
        let lonely = begin("192.0.2.1");
        let flood = [begin("192.0.2.2"), begin("192.0.2.2"), begin("192.0.2.2")];
        assert_eq!(flood.each_ref().map(is_cut), [true, false, false]);
        assert!(!is_cut(&lonely));
        drop((lonely, flood));
        assert_eq!(handshakes.under_way.lock().silent.total, 0);
    }

    #[test]
    fn of_addresses_with_as_many_the_oldest_connection_is_cut() {
        let handshakes = Arc::new(Handshakes::new(2));
        let begin = |from| handshakes.begin(address(from)).0;
        let permits = ["10.0.0.1", "2001:db8::1", "10.0.0.2"].map(begin);
        assert_eq!(permits.each_ref().map(is_cut), [true, false, false]);
    }

    /// Begins a handshake and reads its request.
    fn read(handshakes: &Arc<Handshakes>, from: &str) -> HandshakePermit {
        let permit = handshakes.begin(address(from)).0;
        permit.has_read();
        permit
    }

    fn is_at_rest(handshakes: &Handshakes) -> bool {
        let under_way = handshakes.under_way.lock();
        under_way.answering.is_empty() && under_way.answering_total == 0
    }

    #[test]
    fn a_plugin_has_a_quarter() {
        let handshakes = Arc::new(Handshakes::new(8));
        let read = || read(&handshakes, "10.0.0.1");
        let slow: Vec<_> = (0..3).map(|_| read()).collect();
        let answered = slow.iter().map(|permit| answer(permit, "slow"));
        assert_eq!(
            answered.collect::<Vec<_>>(),
            [AnswerPlace::Free, AnswerPlace::Free, AnswerPlace::None]
        );
        assert_eq!(answer(&read(), "chat"), AnswerPlace::Free);
        drop(slow);
        assert_eq!(answer(&read(), "slow"), AnswerPlace::Free);
        assert!(is_at_rest(&handshakes));
    }

    #[test]
    fn an_address_with_many_answers_gives_way_to_others() {
        let handshakes = Arc::new(Handshakes::new(16));
        let read = |from| read(&handshakes, from);
        let flood: Vec<_> = (0..4).map(|_| read("10.0.0.1")).collect();
        for permit in &flood {
            assert_eq!(answer(permit, "pages"), AnswerPlace::Free);
        }
        // One more of it has no place, and one of another address has its oldest.
        assert_eq!(answer(&read("10.0.0.1"), "pages"), AnswerPlace::None);
        let others = [read("10.0.0.2"), read("10.0.0.3"), read("10.0.0.3")];
        let places = others.each_ref().map(|permit| answer(permit, "pages"));
        assert_eq!(
            places,
            [
                AnswerPlace::OfAnother,
                AnswerPlace::OfAnother,
                // Both addresses would have as many.
                AnswerPlace::None
            ]
        );
        let cut: Vec<_> = flood.iter().map(is_cut).collect();
        assert_eq!(cut, [true, true, false, false]);
        assert!(!others.iter().any(is_cut));
        drop((flood, others));
        assert!(is_at_rest(&handshakes));
    }

    #[test]
    fn when_all_places_are_taken_the_plugin_with_the_most_gives_way() {
        let handshakes = Arc::new(Handshakes::new(8));
        let read = |from| read(&handshakes, from);
        let mut taken = Vec::new();
        for plugin in ["a", "a", "b", "b", "c", "c", "d", "d"] {
            let permit = read("10.0.0.1");
            assert_eq!(answer(&permit, plugin), AnswerPlace::Free);
            taken.push(permit);
        }
        assert_eq!(answer(&read("10.0.0.1"), "e"), AnswerPlace::None);
        let newcomer = read("10.0.0.2");
        assert_eq!(answer(&newcomer, "e"), AnswerPlace::OfAnother);
        assert_eq!(taken.iter().filter(|permit| is_cut(permit)).count(), 1);
        drop((taken, newcomer));
        assert!(is_at_rest(&handshakes));
    }
}
