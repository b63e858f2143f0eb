//! Plugins: business logic as components, replaced while the sockets stay open.
//!
//! A plugin is a slot that holds its running generation. An event loads the slot, checks one
//! of the generation's instances out and runs on the task of the client whose event it is. A
//! reload swaps the slot: events under way finish on the old generation, every client's next
//! event goes to the new one, and no client ever goes back.

mod access;
mod call;
mod contract;
mod engine;
mod folder;
mod generation;
mod http;
mod instance;
mod keyvalue;
mod load;
mod log;
mod manifest;
mod routes;
mod services;
mod settings;
mod timer;
mod trap;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use self::access::{Access, Denied, Granted};
use self::contract::types;
use self::generation::{Generation, Lease, NoInstance};
use self::trap::Trapped;
use crate::mesh::Mesh;
use crate::message::Message;
use crate::policy::TrapPolicy;
use crate::registry::{Client, Close, Closer, Departure, Ending, Happened, Namespace, Registry};
use crate::router::Router;

pub use self::call::{CallError, CallErrorCode, Caller};
pub use self::folder::{Checked, Plugins, check};
pub use self::load::{Grant, Interfaces, LoadError};
pub use self::services::Services;

/// Business logic as a component, named by its file.
pub struct Plugin {
    router: Router,
    slot: ArcSwapOption<Generation>,
    loads: AtomicU64,
    draining: AtomicBool,
    sessions: AtomicUsize,
    session_ended: Notify,
    retiring: TaskTracker,
}

/// A client that asks to come in, as its HTTP request said it.
#[derive(Debug, Default)]
pub struct Handshake {
    /// The request's path.
    pub path: String,
    /// The query's names and values.
    pub query: Vec<(String, String)>,
    /// Header names in lower case.
    pub headers: Vec<(String, String)>,
    /// The peer's address and port.
    pub remote_address: String,
    /// The offered subprotocols.
    pub subprotocols: Vec<String>,
}

impl Handshake {
    /// The values of a header, whose name is in lower case.
    fn header(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.headers.iter().filter(move |(found, _)| found == name);
        named.map(|(_, value)| value.as_str())
    }
}

/// Whether a client may come in: what its plugin's manifest or `on-connect` says.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The client comes in.
    Accepted {
        /// One of the subprotocols it offered.
        subprotocol: Option<String>,
        /// When its token expires.
        until: Option<Instant>,
    },
    /// Its token is missing or no good.
    Unauthorized {
        /// The answer's body.
        reason: &'static str,
    },
    /// It is turned away, with an HTTP status and a sentence.
    Refused {
        /// 400 to 599.
        status: u16,
        /// The answer's body.
        reason: String,
    },
}

/// Why an event was not handled. It has been logged and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The guest trapped; this is what its plugin wants done with the client.
    Trapped(TrapPolicy),
    /// No instance was to be had within `call_wait`.
    Overloaded,
    /// The plugin has no generation: its file is gone, or never loaded.
    Absent,
}

impl Failure {
    /// How a client is closed for it; none: it stays.
    pub fn close(self) -> Option<Close> {
        let (code, reason, by) = match self {
            Failure::Trapped(TrapPolicy::Keep) => return None,
            Failure::Trapped(TrapPolicy::Close) => {
                (1011, "the server failed at this message", Closer::Plugin)
            }
            Failure::Overloaded => (1013, "too busy, try again later", Closer::Node),
            Failure::Absent => (1001, "the service has ended", Closer::Node),
        };
        Some(Close {
            code,
            reason: reason.to_owned(),
            by,
        })
    }
}

/// A client's stay with its plugin, up to the end of its `on-close`.
pub struct Session(Arc<Plugin>);

/// A client's turn: its waiting messages go through one instance, one after another.
pub struct Turn<'a> {
    plugin: &'a Plugin,
    lease: Option<Lease>,
    events: u64,
}

impl Plugin {
    fn new(
        name: &str,
        registry: &Arc<Registry>,
        mesh: Option<&Arc<Mesh>>,
        retiring: &TaskTracker,
    ) -> Plugin {
        Plugin {
            router: Router::new(Namespace::new(&name.into(), registry), mesh.cloned()),
            slot: ArcSwapOption::empty(),
            loads: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            sessions: AtomicUsize::new(0),
            session_ended: Notify::new(),
            retiring: retiring.clone(),
        }
    }

    /// Its name: the component's file name without `.wasm`.
    pub fn name(&self) -> &str {
        self.namespace().name()
    }

    /// Its clients.
    pub fn namespace(&self) -> &Arc<Namespace> {
        self.router.namespace()
    }

    /// The way to its clients, here and at other nodes.
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// Which generation runs, if one does.
    pub fn generation(&self) -> Option<u64> {
        self.slot
            .load()
            .as_ref()
            .map(|generation| generation.host.generation)
    }

    /// Whether a route of it is this very path.
    fn has_route(&self, path: &str) -> bool {
        let running = self.slot.load();
        running
            .as_ref()
            .is_some_and(|running| running.routes.has_exact(path))
    }

    /// How much of the path its longest route covers that is a prefix.
    fn longest_prefix(&self, path: &str) -> Option<usize> {
        self.slot.load().as_ref()?.routes.longest_prefix(path)
    }

    /// Whether clients may come in.
    pub fn is_open(&self) -> bool {
        self.slot.load().is_some() && !self.draining.load(Ordering::Relaxed)
    }

    /// A client begins its stay.
    pub fn session(self: &Arc<Self>) -> Session {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        Session(self.clone())
    }

    /// Asks the plugin whether a client may come in, and applies what it accepts with.
    pub async fn on_connect(
        &self,
        client: &Arc<Client>,
        handshake: &Handshake,
    ) -> Result<Answer, Failure> {
        let (mut lease, granted) = loop {
            let generation = self.slot.load_full().ok_or(Failure::Absent)?;
            let granted = match self.check_access(&generation.access, handshake) {
                Ok(granted) => granted,
                Err(answer) => return Ok(answer),
            };
            let lease = self.lease().await?;
            // Who is asked goes by its own manifest, and not by one that was just replaced.
            if Arc::ptr_eq(lease.generation(), &generation) {
                break (lease, granted);
            }
        };
        let (query, headers) = (pairs(&handshake.query), pairs(&handshake.headers));
        let subprotocols: Vec<_> = handshake.subprotocols.iter().map(String::as_str).collect();
        let asked = types::Handshake {
            path: &handshake.path,
            query: &query,
            headers: &headers,
            remote_address: &handshake.remote_address,
            subprotocols: &subprotocols,
            uid: granted.uid.as_deref(),
        };
        match lease.on_connect(client, asked).await {
            Ok(Ok(mut acceptance)) => {
                let access = &lease.generation().access;
                if acceptance.subprotocol.is_none() {
                    acceptance.subprotocol = access.subprotocol(&handshake.subprotocols);
                }
                Ok(self.admit(client, acceptance, handshake, granted).await)
            }
            Ok(Err(types::Refusal { status, reason })) => {
                let status = if (400..=599).contains(&status) {
                    status
                } else {
                    403
                };
                Ok(Answer::Refused { status, reason })
            }
            Err(trapped) => Err(failed(&lease, "on-connect", client, &trapped)),
        }
    }

    /// Tells the plugin that a client has left. Waits for an instance longer than other
    /// events do: this one is owed.
    pub async fn on_close(&self, client: &Arc<Client>, departure: &Departure) {
        let registry = self.namespace().registry();
        let patience = registry.limits().drain_timeout;
        let why = match tokio::time::timeout(patience, self.lease_patiently()).await {
            Ok(Some(lease)) => return tell_on_close(lease, client, departure).await,
            Ok(None) => "the plugin has no generation",
            Err(_) => "no instance was to be had within drain_timeout",
        };
        registry.counters().on_close_lost.add_one();
        let (plugin, client) = (self.name(), client.id());
        tracing::error!(plugin, %client, "an on-close is lost: {why}");
    }

    /// Begins a client's turn.
    pub fn turn(&self) -> Turn<'_> {
        Turn {
            plugin: self,
            lease: None,
            events: 0,
        }
    }

    /// Lets `generation` take over.
    fn swap(&self, generation: Arc<Generation>) {
        self.namespace().set_policies(generation.policies);
        let (limit, fires) = (
            generation.host.limits.timers,
            generation.optional.timer_handler,
        );
        let number = generation.host.generation;
        let former = self.slot.swap(Some(generation));
        self.namespace().happen(|| Happened::Loaded(number));
        self.draining.store(false, Ordering::Relaxed);
        self.namespace().timers().open(limit, fires);
        if let Some(former) = former {
            self.retiring.spawn(former.retire());
        }
    }

    /// No clients come in and no timer fires from here on; what `drain` needs to go on.
    fn close_door(&self) -> Option<Arc<Generation>> {
        self.draining.store(true, Ordering::Relaxed);
        let generation = self.slot.load_full()?;
        self.namespace().timers().end(generation.host.generation);
        Some(generation)
    }

    /// Closes all clients of `generation`, waits until they have gone, and frees it; unless
    /// another one takes over meanwhile.
    async fn drain(&self, generation: Arc<Generation>, farewell: Farewell) {
        // The rest of it is the generation's: its last events, and `on-stop`.
        let timeout = self.namespace().registry().limits().drain_timeout * 3 / 4;
        let gone = self.empty(&generation, farewell);
        if tokio::time::timeout(timeout, gone).await.is_err() {
            let (plugin, left) = (self.name(), self.sessions.load(Ordering::Relaxed));
            tracing::warn!(
                plugin,
                left,
                "clients did not leave in time, the plugin ends without them (drain_timeout)"
            );
        }
        let current = Some(generation.clone());
        let taken = self.slot.compare_and_swap(&current, None);
        // Whoever takes it out of the slot retires it: once.
        if taken
            .as_ref()
            .is_some_and(|taken| Arc::ptr_eq(taken, &generation))
        {
            generation.retire().await;
        }
    }

    async fn empty(&self, generation: &Arc<Generation>, farewell: Farewell) {
        while self.runs(generation) {
            let all = self.namespace().clients();
            for clients in all.chunks(DRAIN_BATCH) {
                for client in clients {
                    self.namespace()
                        .end(client, &farewell.to(client, all.len()));
                }
                tokio::task::yield_now().await;
            }
            // Ended sessions wake the wait; a client that came in through the closing door is
            // found by the next round.
            if self.sessions.load(Ordering::Relaxed) == 0 {
                return;
            }
            let _ = tokio::time::timeout(DRAIN_ROUND, self.session_ended.notified()).await;
        }
    }

    fn runs(&self, generation: &Arc<Generation>) -> bool {
        let now = self.slot.load();
        now.as_ref().is_some_and(|now| Arc::ptr_eq(now, generation))
    }

    /// Frees the instances that were not needed of late.
    async fn trim(&self) {
        if let Some(generation) = self.slot.load_full() {
            generation.trim().await;
        }
    }

    /// An instance, however long it takes; none when there is no generation.
    async fn lease_patiently(&self) -> Option<Lease> {
        loop {
            match self.lease().await {
                Ok(lease) => return Some(lease),
                Err(Failure::Absent) => return None,
                Err(_) => tokio::time::sleep(LEASE_RETRY).await,
            }
        }
    }

    async fn lease(&self) -> Result<Lease, Failure> {
        loop {
            let generation = self.slot.load_full().ok_or(Failure::Absent)?;
            match generation.lease().await {
                Ok(lease) => return Ok(lease),
                // Replaced between the look at the slot and now: look again.
                Err(NoInstance::Retired) => tokio::task::yield_now().await,
                Err(NoInstance::Overloaded) => return Err(Failure::Overloaded),
            }
        }
    }

    /// What the manifest has to say, before the plugin is asked.
    fn check_access(&self, access: &Access, handshake: &Handshake) -> Result<Granted, Answer> {
        let refused = |status, reason: &str| Answer::Refused {
            status,
            reason: format!("{reason}\n"),
        };
        let granted = access.check(handshake).map_err(|denied| match denied {
            Denied::Origin => refused(403, "pages of this origin may not connect"),
            Denied::Incomplete(what) => refused(400, &what),
            Denied::Token(rejected) => {
                let (plugin, address) = (self.name(), &handshake.remote_address);
                tracing::info!(plugin, address, "a token was rejected: {}", rejected.why());
                let reason = rejected.reason();
                Answer::Unauthorized { reason }
            }
        })?;
        if let Some(uid) = &granted.uid {
            self.router
                .check_name("uid", uid)
                .map_err(|error| refused(400, &error.to_string()))?;
        }
        Ok(granted)
    }

    async fn admit(
        &self,
        client: &Client,
        mut acceptance: types::Acceptance,
        handshake: &Handshake,
        granted: Granted,
    ) -> Answer {
        // The plugin's word counts, be it an answer or a call: it knows more of who that is.
        if acceptance.uid.is_none() && self.namespace().uid(client.id()) == Ok(None) {
            acceptance.uid = granted.uid;
        }
        let subprotocol = acceptance.subprotocol.take();
        let admitted = match &subprotocol {
            Some(chosen) if !handshake.subprotocols.contains(chosen) => Err((
                500,
                format!("on-connect chose the subprotocol {chosen:?}, not one offered"),
            )),
            _ => {
                let admitted = contract::admit(&self.router, client.id(), acceptance).await;
                admitted.map_err(|error| {
                    let taken = error.code == types::ErrorCode::Taken;
                    (if taken { 409 } else { 500 }, error.message)
                })
            }
        };
        match admitted {
            Ok(()) => Answer::Accepted {
                subprotocol,
                until: granted.until,
            },
            Err((409, reason)) => Answer::Refused {
                status: 409,
                reason,
            },
            Err((status, error)) => {
                tracing::error!(
                    plugin = self.name(),
                    client = %client.id(),
                    error, "on-connect's answer is wrong");
                Answer::Refused {
                    status,
                    reason: "the server failed".to_owned(),
                }
            }
        }
    }
}

/// How often an `on-close` asks again for an instance.
const LEASE_RETRY: Duration = Duration::from_millis(50);

/// Why all clients of a plugin are closed.
#[derive(Clone, Copy, Debug)]
enum Farewell {
    /// Its file is gone.
    Removed,
    /// The node ends, and another one, or the next run of it, takes its clients.
    Restart,
}

impl Farewell {
    /// What one of so many clients is told.
    fn to(self, client: &Client, clients: usize) -> Ending {
        let (code, reason) = match self {
            Farewell::Removed => (1001, "the service has ended".to_owned()),
            Farewell::Restart => {
                let after = return_after(client.id().counter(), clients);
                (
                    1012,
                    format!("the node restarts, retry-after-ms={}", after.as_millis()),
                )
            }
        };
        let by = Closer::Node;
        Ending::new(Close { code, reason, by }, None)
    }
}

/// When a client should come back: spread, so that the nodes that take them over see a
/// thousand a second of them and not all at once.
fn return_after(counter: u64, clients: usize) -> Duration {
    let window = RETURN_MIN + Duration::from_millis(clients as u64);
    let window = window.min(RETURN_MAX).as_nanos();
    // Multiples of the golden ratio's fraction fall evenly, however many there are.
    let fraction = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let after = (window * u128::from(fraction)) >> 32;
    Duration::from_nanos(u64::try_from(after).unwrap_or_default())
}

const RETURN_MIN: Duration = Duration::from_secs(1);
const RETURN_MAX: Duration = Duration::from_secs(30);

/// Clients closed before others get their turn.
const DRAIN_BATCH: usize = 256;

/// How often a drain looks for clients that came in through the closing door.
const DRAIN_ROUND: Duration = Duration::from_millis(50);

impl Turn<'_> {
    /// Handles one message, on the generation that runs now.
    pub async fn on_message(
        &mut self,
        client: &Arc<Client>,
        message: Message<'_>,
    ) -> Result<(), Failure> {
        #[cfg(feature = "bench-native")]
        if self.plugin.name() == "native" {
            let frame = crate::message::Frame::message(message);
            let _ = self.plugin.namespace().send_to(client, frame);
            return Ok(());
        }
        self.events += 1;
        let is_current = |lease: &Lease| lease.is_usable() && self.plugin.runs(lease.generation());
        if !self.lease.as_ref().is_some_and(is_current) {
            self.lease = None;
            self.lease = Some(self.plugin.lease().await?);
        }
        let Some(lease) = &mut self.lease else {
            return Err(Failure::Absent);
        };
        match lease.on_message(client, message.into()).await {
            Ok(()) => Ok(()),
            Err(trapped) => Err(failed(lease, "on-message", client, &trapped)),
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let counters = self.plugin.namespace().registry().counters();
        counters.messages_in.add(self.events);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
        self.0.session_ended.notify_one();
    }
}

fn pairs(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

async fn tell_on_close(mut lease: Lease, client: &Arc<Client>, departure: &Departure) {
    let groups: Vec<_> = departure.groups.iter().map(|group| &**group).collect();
    let info: Vec<_> = departure
        .info
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    let told = types::Departure {
        code: departure.close.code,
        reason: &departure.close.reason,
        by: departure.close.by.into(),
        uid: departure.uid.as_deref(),
        groups: &groups,
        info: &info,
    };
    if let Err(trapped) = lease.on_close(client, told).await {
        failed(&lease, "on-close", client, &trapped);
    }
}

/// Logs and counts a trap of a client's event, and says what is to be done with the client.
fn failed(lease: &Lease, function: &str, client: &Client, trapped: &Trapped) -> Failure {
    log_trap(lease, function, Some(client), trapped);
    Failure::Trapped(lease.generation().policies.on_trap)
}

/// Logs and counts a trap, once.
fn log_trap(lease: &Lease, function: &str, client: Option<&Client>, trapped: &Trapped) {
    let generation = lease.generation();
    trapped
        .kind
        .counter(generation.host.namespace().registry().counters())
        .add_one();
    tracing::error!(
        plugin = generation.host.plugin(),
        generation = generation.host.generation,
        function,
        client = client.map(|client| tracing::field::display(client.id())),
        kind = trapped.kind.as_str(),
        said = trapped.said,
        backtrace = trapped.backtrace,
        "an event trapped: {}",
        trapped.cause,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_come_back_evenly_and_no_later_than_they_should() {
        for (clients, window) in [(10, 1_010), (5_000, 6_000), (1_000_000, 30_000)] {
            let counters = 1..=clients.min(5_000) as u64;
            let mut tenths = [0_usize; 10];
            for counter in counters.clone() {
                let after = return_after(counter, clients).as_millis();
                assert!(after < window, "{after} of {window}");
                tenths[usize::try_from(after * 10 / window).expect("a tenth")] += 1;
            }
            let expected = counters.count() / 10;
            for tenth in tenths {
                assert!(tenth.abs_diff(expected) <= 1 + expected / 20, "{tenths:?}");
            }
        }
    }
}
