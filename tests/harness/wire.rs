//! A wire between places, each with a network of its own, that does to IP packets what real
//! wires do: it loses, delays, doubles and reorders them, or lets none through.
//!
//! Nodes and registers start at a place ([`NodeBuilder::at`](crate::NodeBuilder::at)) and
//! speak real TCP. The test itself is at one more place, which nothing ever fails for. The
//! packets go through the test's own process, from one TUN device to another, on threads
//! that come before others: a busy machine does not make a wire slow. Each way from one place
//! to another has its own faults, and room for some packets: what is beyond is lost. Chance
//! has a seed, which a failed test shows and `JACKFIELD_TESTS_SEED` sets.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::setpriority_process;
use tempfile::NamedTempFile;
use tokio::process::Command;

use crate::apart::run_apart;
use crate::namespace::{Device, MTU, Namespace};
use crate::process::Process;

/// Packets under way from one place to another.
const ROOM: usize = 1000;

/// How nice the wire's threads are to others.
const NICE: i32 = -15;

/// How often they look whether there is still a wire.
const LOOK: Duration = Duration::from_millis(100);

/// What the tests' own calls carry.
pub(crate) const TOKEN: &str = "the tests";

/// The digest is that of `TOKEN`.
const TOKENS: &str = "[[token]]
name = 'tests'
scopes = ['read', 'send', 'manage']
sha256 = '9a6d35b6981441d8384c4d90fd972eced43e0c89a5c88bde9b7bed2ae975e550'
";

/// A wire, for as long as its test runs.
#[derive(Debug)]
pub struct Wire {
    places: Vec<Place>,
    ways: Arc<Mutex<Ways>>,
    _secret: NamedTempFile,
    _tokens: NamedTempFile,
}

/// Where nodes and registers are that share an address.
#[derive(Clone, Debug)]
pub struct Place {
    number: usize,
    namespace: Arc<Namespace>,
    address: IpAddr,
    secret: PathBuf,
    tokens: PathBuf,
}

/// What happens to packets that go one way.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// None comes through, and nobody is told.
    pub is_cut: bool,
    /// Each takes so long.
    pub delay: Duration,
    /// Up to so much more or less, which does not change their order.
    pub jitter: Duration,
    /// The share, of 1, that is lost.
    pub lost: f64,
    /// The share that comes twice.
    pub doubled: f64,
    /// The share that others overtake ...
    pub reordered: f64,
    /// ... because it takes so much longer.
    pub reordered_by: Duration,
}

/// How many packets it happened to, one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// They came: all of them, once or twice, late or not.
    pub came: u64,
    /// The wire was cut.
    pub cut: u64,
    /// They were lost by chance.
    pub lost: u64,
    /// They found no room.
    pub beyond: u64,
    /// They were delayed.
    pub delayed: u64,
    /// They came twice.
    pub doubled: u64,
    /// They were overtaken, or could have been.
    pub reordered: u64,
}

/// Runs a test on a wire between so many places, on a thread of its own: its network is not
/// that of other tests. Where there can be no such network, the test says so and ends well;
/// but not in CI.
pub fn on_wire(
    places: usize,
    test: impl AsyncFnOnce(&Wire) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    run_apart("wire", move || Wire::new(places), test)
}

impl Wire {
    /// One between so many places; the thread goes to one more.
    fn new(places: usize) -> anyhow::Result<Wire> {
        let mut secret = NamedTempFile::new()?;
        writeln!(secret, "a secret that all places know")?;
        let mut tokens = NamedTempFile::new()?;
        tokens.write_all(TOKENS.as_bytes())?;
        let seed = match std::env::var("JACKFIELD_TESTS_SEED") {
            Ok(seed) => seed.parse().context("JACKFIELD_TESTS_SEED")?,
            Err(_) => fastrand::u64(..),
        };
        eprintln!("the wire: JACKFIELD_TESTS_SEED={seed}");
        let home = places;
        let (mut all, mut devices) = (Vec::new(), Vec::new());
        for number in 0..=home {
            let namespace = Arc::new(Namespace::new()?);
            let [four, six] = addresses(number);
            devices.push(namespace.device([format!("{four}/24"), format!("{six}/64")])?);
            all.push(Place {
                number,
                namespace,
                address: four,
                secret: secret.path().to_owned(),
                tokens: tokens.path().to_owned(),
            });
        }
        all[home].namespace.enter()?;
        let ways = Arc::new(Mutex::new(Ways::new(devices.len(), seed)));
        let devices: Arc<[Device]> = devices.into();
        for from in 0..=home {
            let (devices, ways) = (devices.clone(), Arc::downgrade(&ways));
            std::thread::Builder::new().spawn(move || carry(from, &devices, &ways))?;
        }
        all.truncate(places);
        Ok(Wire {
            places: all,
            ways,
            _secret: secret,
            _tokens: tokens,
        })
    }

    /// A place, by its number from 0 on.
    pub fn place(&self, number: usize) -> &Place {
        &self.places[number]
    }

    /// What happens from now on to packets between two places, both ways.
    pub fn between(&self, one: usize, other: usize, faults: Faults) {
        self.from_to(one, other, faults);
        self.from_to(other, one, faults);
    }

    /// The same, one way.
    pub fn from_to(&self, from: usize, to: usize, faults: Faults) {
        ways(&self.ways).way(from, to).faults = faults;
    }

    /// What happens from now on between all places.
    pub fn everywhere(&self, faults: Faults) {
        for one in 0..self.places.len() {
            for other in 0..one {
                self.between(one, other, faults);
            }
        }
    }

    /// What has happened to packets so far, one way.
    pub fn carried(&self, from: usize, to: usize) -> Carried {
        ways(&self.ways).way(from, to).carried
    }
}

impl Place {
    /// The same place, by its IPv6 address.
    pub fn v6(&self) -> Place {
        let [_, address] = addresses(self.number);
        Place {
            address,
            ..self.clone()
        }
    }

    /// The API's tokens there: it is on no loopback address.
    pub(crate) fn tokens(&self) -> &Path {
        &self.tokens
    }

    /// Where to listen: any port.
    pub fn any_port(&self) -> String {
        SocketAddr::new(self.address, 0).to_string()
    }

    /// Starts a node or a register there, with the secret that all places have.
    pub(crate) fn spawn(&self, mut command: Command) -> anyhow::Result<Process> {
        command.arg("--secret-file").arg(&self.secret);
        self.run(|| Process::spawn(command))?
    }

    /// Does this work there: what it starts and the sockets it makes stay there.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> anyhow::Result<T> {
        Ok(self.namespace.run(work)?)
    }
}

impl Faults {
    /// Nothing comes through.
    pub const CUT: Faults = Faults {
        is_cut: true,
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        lost: 0.0,
        doubled: 0.0,
        reordered: 0.0,
        reordered_by: Duration::ZERO,
    };

    /// All is well.
    pub const NONE: Faults = Faults {
        is_cut: false,
        ..Faults::CUT
    };
}

/// A place's addresses.
fn addresses(place: usize) -> [IpAddr; 2] {
    let number = u8::try_from(place + 1).expect("a few places");
    [
        Ipv4Addr::new(10, 77, 0, number).into(),
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into()).into(),
    ]
}

/// The ways from each place to each.
#[derive(Debug)]
struct Ways {
    places: usize,
    ways: Vec<Way>,
    random: fastrand::Rng,
}

#[derive(Debug)]
struct Way {
    faults: Faults,
    carried: Carried,
    under_way: usize,
    /// When the last one comes that keeps its order.
    last: Instant,
}

impl Ways {
    fn new(places: usize, seed: u64) -> Ways {
        let way = || Way {
            faults: Faults::NONE,
            carried: Carried::default(),
            under_way: 0,
            last: Instant::now(),
        };
        Ways {
            places,
            ways: std::iter::repeat_with(way).take(places * places).collect(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    fn way(&mut self, from: usize, to: usize) -> &mut Way {
        &mut self.ways[from * self.places + to]
    }

    /// When a packet comes that is sent now: never, once, or twice.
    fn send(&mut self, from: usize, to: usize) -> Vec<Instant> {
        let mut random = self.random.fork();
        self.way(from, to).send(Instant::now(), &mut random)
    }
}

impl Way {
    fn send(&mut self, now: Instant, random: &mut fastrand::Rng) -> Vec<Instant> {
        let (faults, carried) = (self.faults, &mut self.carried);
        let mut happens = |share: f64| random.f64() < share;
        if faults.is_cut {
            carried.cut += 1;
            return Vec::new();
        }
        if happens(faults.lost) {
            carried.lost += 1;
            return Vec::new();
        }
        if self.under_way >= ROOM {
            carried.beyond += 1;
            return Vec::new();
        }
        let (is_doubled, is_reordered) = (happens(faults.doubled), happens(faults.reordered));
        let jitter = faults.jitter.mul_f64(2.0 * random.f64());
        let takes = (faults.delay + jitter).saturating_sub(faults.jitter);
        let mut comes = self.last.max(now + takes);
        match is_reordered {
            true => comes += faults.reordered_by,
            false => self.last = comes,
        }
        carried.delayed += u64::from(comes > now);
        carried.doubled += u64::from(is_doubled);
        carried.reordered += u64::from(is_reordered);
        let times = 1 + usize::from(is_doubled);
        self.under_way += times;
        vec![comes; times]
    }
}

fn ways(ways: &Mutex<Ways>) -> MutexGuard<'_, Ways> {
    ways.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A packet under way.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    comes: Instant,
    /// Of two that come at the same time, the first one first.
    number: u64,
    to: usize,
    bytes: Vec<u8>,
}

/// Takes all packets from a place to where they go, for as long as there is a wire. No task of
/// a runtime: those also collect what child processes leave, and that can take seconds.
fn carry(from: usize, devices: &[Device], all: &Weak<Mutex<Ways>>) {
    // Of this thread only. Who may make networks may do this, too.
    let _ = setpriority_process(None, NICE);
    let mut under_way: BinaryHeap<Reverse<Packet>> = BinaryHeap::new();
    let (mut buffer, mut number) = ([0; MTU], 0);
    while let Some(all) = all.upgrade() {
        let next = under_way.peek().map(|Reverse(packet)| packet.comes);
        let time = next.map_or(LOOK, |comes| {
            comes.saturating_duration_since(Instant::now())
        });
        let bytes = match devices[from].read(&mut buffer, time.min(LOOK)) {
            Ok(length) => &buffer[..length.unwrap_or(0)],
            Err(error) => return eprintln!("the wire from {from} has ended: {error}"),
        };
        if let Some(to) = destination(bytes).filter(|to| *to < devices.len()) {
            for comes in ways(&all).send(from, to) {
                number += 1;
                let bytes = bytes.to_vec();
                under_way.push(Reverse(Packet {
                    comes,
                    number,
                    to,
                    bytes,
                }));
            }
        }
        let now = Instant::now();
        while let Some(Reverse(packet)) = under_way.pop() {
            if packet.comes > now {
                under_way.push(Reverse(packet));
                break;
            }
            let taken = devices[packet.to].write(&packet.bytes).is_ok();
            let mut ways = ways(&all);
            let way = ways.way(from, packet.to);
            way.under_way -= 1;
            match taken {
                true => way.carried.came += 1,
                false => way.carried.beyond += 1,
            }
        }
    }
}

/// The place that a packet goes to. (None: it is for all who listen, such as IPv6 sends by
/// itself.)
fn destination(packet: &[u8]) -> Option<usize> {
    let (address, number): (IpAddr, u8) = match packet.first()? >> 4 {
        4 => (packet[16..20].first_chunk::<4>()).map(|a| ((*a).into(), a[3]))?,
        6 => (packet[24..40].first_chunk::<16>()).map(|a| ((*a).into(), a[15]))?,
        _ => return None,
    };
    let place = usize::from(number).checked_sub(1)?;
    addresses(place).contains(&address).then_some(place)
}
