//! Plugins: business logic as components, replaced while the sockets stay open.
//!
//! A plugin is a slot that holds its running generation. An event loads the slot, checks one
//! of the generation's instances out and runs on the task of the client whose event it is. A
//! reload swaps the slot: events under way finish on the old generation, every client's next
//! event goes to the new one, and no client ever goes back.

mod access;
mod authorities;
mod cache;
mod call;
mod contract;
mod engine;
mod file;
mod folder;
mod gateway;
mod generation;
mod http;
mod instance;
mod keyvalue;
mod load;
mod log;
mod look;
mod manifest;
mod routes;
mod rules;
mod services;
mod session;
mod settings;
mod ticker;
mod timer;
mod trap;
mod watch;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use self::access::{Access, Denied, Granted};
use self::contract::types;
use self::generation::{Generation, Lease, NoInstance};
use self::instance::Whose;
use self::rules::FormerRules;
use self::trap::Trapped;
use self::worker::PeerEvents;
use crate::id::ClientId;
use crate::mesh::{Elsewhere, Mesh};
use crate::policy::{RefusePolicy, TrapPolicy};
use crate::registry::{
    Client, Close, Closer, Ending, Happened, Namespace, Registry, Serving, ServingState,
};
use crate::router::Router;

pub use self::access::{carries_token, is_token};
pub use self::call::{CallError, CallErrorCode, Caller};
pub use self::folder::{Checked, Plugins, check};
pub use self::load::{Advice, Grant, Interfaces, LoadError};
pub use self::services::Services;
pub use self::session::{Session, Turn};

/// Business logic as a component, named by its file.
pub struct Plugin {
    router: Router,
    mesh: Option<Arc<Mesh>>,
    slot: ArcSwapOption<Generation>,
    loads: AtomicU64,
    draining: AtomicBool,
    sessions: AtomicUsize,
    session_ended: Notify,
    /// Its clients are being closed, since no node has it any more.
    seen_off: AtomicBool,
    /// Held while the slot and what is told of it change together.
    turning: Mutex<()>,
    /// What the manifest of its last generation, running or removed, demanded of who comes in.
    former_rules: Mutex<Option<FormerRules>>,
    /// Of other nodes' clients.
    peer_events: PeerEvents,
    /// Calls that went to other nodes.
    calls: AtomicU64,
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
        reason: String,
    },
    /// It is a page of an origin that may not connect.
    OriginDenied {
        /// The answer's body.
        reason: String,
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
    /// Another node had the event, and went while it was at it.
    Lost,
    /// Another node was to have the event, and it is larger than a link takes.
    TooLarge,
}

impl Failure {
    /// How a client is closed for it; none: it stays.
    pub fn close(self) -> Option<Close> {
        let (code, reason, by) = match self {
            Failure::Trapped(TrapPolicy::Keep) | Failure::Lost => return None,
            Failure::Trapped(TrapPolicy::Close) => {
                (1011, "the server failed at this message", Closer::Plugin)
            }
            Failure::Overloaded => (1013, "too busy, try again later", Closer::Node),
            Failure::Absent => (1001, "the service has ended", Closer::Node),
            Failure::TooLarge => (1009, "too large to go to another node", Closer::Node),
        };
        Some(Close {
            code,
            reason: reason.to_owned(),
            by,
        })
    }
}

/// Whether a client may come in, before it does.
enum Decision {
    /// With this, where it can be had.
    Accepted(types::Acceptance, Granted),
    /// It may not.
    TurnedAway(Answer),
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
            mesh: mesh.cloned(),
            seen_off: AtomicBool::new(false),
            turning: Mutex::default(),
            former_rules: Mutex::default(),
            peer_events: PeerEvents::default(),
            calls: AtomicU64::new(0),
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
        match &*self.slot.load() {
            Some(running) => running.routes.has_exact(path),
            None => self.routes_elsewhere().has_exact(path),
        }
    }

    /// How much of the path its longest route covers that is a prefix.
    fn longest_prefix(&self, path: &str) -> Option<usize> {
        match &*self.slot.load() {
            Some(running) => running.routes.longest_prefix(path),
            None => self.routes_elsewhere().longest_prefix(path),
        }
    }

    /// Whether clients may come in: it runs here, or at another node.
    pub fn is_open(&self) -> bool {
        match self.runs() {
            true => !self.draining.load(Ordering::Relaxed),
            false => self.elsewhere() == Elsewhere::Open,
        }
    }

    /// How its clients are refused.
    pub fn refuse_policy(&self) -> RefusePolicy {
        if let Some(mesh) = self.mesh.as_ref().filter(|_| !self.runs()) {
            mesh.follow_policies(self.namespace());
        }
        self.namespace().policies().refuse
    }

    /// Whether anybody has it, be it that he can't run it now.
    pub fn is_known(&self) -> bool {
        self.namespace().serving().state != ServingState::None
            || self.elsewhere() != Elsewhere::Nobody
    }

    /// Whether it was taken from all nodes that had it.
    fn is_nowhere(&self) -> bool {
        matches!(self.elsewhere(), Elsewhere::Closing | Elsewhere::Nobody)
    }

    /// Whether it has a generation here.
    fn runs(&self) -> bool {
        self.slot.load().is_some()
    }

    /// It is run like this here, as other nodes are told.
    fn serve(&self, state: ServingState) {
        let serving = match &*self.slot.load() {
            Some(running) => running.serving(state),
            None => Serving {
                state,
                ..Serving::default()
            },
        };
        self.namespace().serve(serving);
    }

    /// Asks the generation that runs here whether a client may come in.
    async fn decide(
        &self,
        client: Whose<&Arc<Client>>,
        handshake: &Handshake,
    ) -> Result<Decision, Failure> {
        let (mut lease, granted) = loop {
            let generation = self.slot.load_full().ok_or(Failure::Absent)?;
            let granted = match self.check_access(&generation.access, handshake) {
                Ok(granted) => granted,
                Err(answer) => return Ok(Decision::TurnedAway(answer)),
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
                Ok(Decision::Accepted(acceptance, granted))
            }
            Ok(Err(types::Refusal { status, reason })) => {
                let status = if (400..=599).contains(&status) {
                    status
                } else {
                    403
                };
                Ok(Decision::TurnedAway(Answer::Refused { status, reason }))
            }
            Err(trapped) => Err(failed(&lease, "on-connect", client.id(), &trapped)),
        }
    }

    /// Lets `generation` take over.
    fn swap(&self, generation: Arc<Generation>) {
        if let Some(keys) = generation.access.keys_passed_over() {
            tracing::info!(plugin = self.name(), "keys are passed over: {keys}");
        }
        self.namespace().set_policies(generation.policies);
        let (limit, fires) = (
            generation.host.limits.timers,
            generation.optional.timer_handler,
        );
        let number = generation.host.generation;
        *self.former_rules.lock() = Some(FormerRules {
            generation: number,
            rules: generation.rules.clone(),
        });
        let turning = self.turning.lock();
        let former = self.slot.swap(Some(generation));
        self.namespace().happen(|| Happened::Loaded(number));
        self.draining.store(false, Ordering::Relaxed);
        self.serve(ServingState::Open);
        drop(turning);
        self.namespace().timers().open(limit, fires);
        if let Some(former) = former {
            self.retiring.spawn(former.retire());
        }
    }

    /// No clients come in and no timer fires from here on; what `drain` needs to go on.
    fn close_door(&self, farewell: Farewell) -> Option<Arc<Generation>> {
        self.draining.store(true, Ordering::Relaxed);
        let generation = self.slot.load_full()?;
        self.serve(match farewell {
            Farewell::Removed => ServingState::Closing,
            Farewell::Restart => ServingState::Away,
        });
        self.namespace().timers().end(generation.host.generation);
        Some(generation)
    }

    /// Closes all clients of `generation`, waits until they have gone, and frees it; unless
    /// another one takes over meanwhile. None: those of a plugin that runs at other nodes.
    async fn drain(&self, generation: Option<Arc<Generation>>, farewell: Farewell) {
        // The rest of it is the generation's: its last events, and `on-stop`.
        let timeout = self.namespace().registry().limits().drain_timeout * 3 / 4;
        let gone = self.empty(generation.as_ref(), farewell);
        if tokio::time::timeout(timeout, gone).await.is_err() {
            let (plugin, left) = (self.name(), self.sessions.load(Ordering::Relaxed));
            tracing::warn!(
                plugin,
                left,
                "clients did not leave in time, the plugin ends without them (drain_timeout)"
            );
        }
        let Some(generation) = generation else { return };
        // Whoever takes it out of the slot retires it: once.
        if self.take_out(&generation, farewell) {
            generation.retire().await;
        }
    }

    /// Empties the slot, if it has this generation.
    fn take_out(&self, generation: &Arc<Generation>, farewell: Farewell) -> bool {
        let _turning = self.turning.lock();
        let taken = self.is_current(generation);
        if taken {
            self.slot.store(None);
            self.draining.store(false, Ordering::Relaxed);
            if matches!(farewell, Farewell::Removed) {
                self.serve(ServingState::None);
            }
        }
        taken
    }

    async fn empty(&self, generation: Option<&Arc<Generation>>, farewell: Farewell) {
        let goes_on = || match generation {
            Some(generation) => self.is_current(generation),
            // Unless it is back, here or elsewhere.
            None => match farewell {
                Farewell::Restart => !self.runs(),
                Farewell::Removed => !self.runs() && self.is_nowhere(),
            },
        };
        while goes_on() {
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
            let is_awaited = match farewell {
                _ if generation.is_none() => false,
                Farewell::Removed => self.is_awaited(),
                // What was sent before its node heard that this one ends may still come.
                Farewell::Restart => !self.peer_events.is_quiet(),
            };
            if self.sessions.load(Ordering::Relaxed) == 0 && !is_awaited {
                return;
            }
            let _ = tokio::time::timeout(DRAIN_ROUND, self.session_ended.notified()).await;
        }
    }

    fn is_current(&self, generation: &Arc<Generation>) -> bool {
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
            Denied::Origin => {
                let reason = match handshake.header("origin").next() {
                    None => "only pages may connect, and they say their Origin",
                    Some(_) => "pages of this origin may not connect",
                };
                let reason = reason.to_owned();
                Answer::OriginDenied { reason }
            }
            Denied::Incomplete(what) => refused(400, &what),
            Denied::Token(rejected) => {
                let (plugin, address) = (self.name(), &handshake.remote_address);
                tracing::info!(plugin, address, "a token was rejected: {}", rejected.why());
                let reason = rejected.reason().to_owned();
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
        if let Some(chosen) = &subprotocol
            && !handshake.subprotocols.contains(chosen)
        {
            let error = format!("on-connect chose the subprotocol {chosen:?}, not one offered");
            return self.cannot_have(client, &error);
        }
        let Err(error) = contract::admit(&self.router, client.id(), acceptance).await else {
            return Answer::Accepted {
                subprotocol,
                until: granted.until,
            };
        };
        let status = match error.code {
            types::ErrorCode::Taken => 409,
            // A name that nobody can have, empty or too long, is mostly one that the client gave.
            types::ErrorCode::InvalidArgument => 400,
            _ => return self.cannot_have(client, &error.message),
        };
        Answer::Refused {
            status,
            reason: error.message,
        }
    }

    /// An answer of `on-connect` is the plugin's mistake: its client hears no more than that.
    fn cannot_have(&self, client: &Client, error: &str) -> Answer {
        tracing::error!(
            plugin = self.name(),
            client = %client.id(),
            error, "on-connect's answer is wrong");
        Answer::Refused {
            status: 500,
            reason: "the server failed".to_owned(),
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

fn pairs(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

/// Logs and counts a trap of a client's event, and says what is to be done with the client.
fn failed(lease: &Lease, function: &str, client: ClientId, trapped: &Trapped) -> Failure {
    log_trap(lease, function, Some(client), trapped);
    Failure::Trapped(lease.generation().policies.on_trap)
}

/// Logs and counts a trap, once.
fn log_trap(lease: &Lease, function: &str, client: Option<ClientId>, trapped: &Trapped) {
    let generation = lease.generation();
    trapped
        .kind
        .counter(generation.host.namespace().registry().counters())
        .add_one();
    tracing::error!(
        plugin = generation.host.plugin(),
        generation = generation.host.generation,
        function,
        client = client.map(tracing::field::display),
        kind = trapped.kind.as_str(),
        said = %trapped.said,
        backtrace = %trapped.backtrace,
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
