//! Every limit, on one screen: default, unit, reason, door and outcome.
//!
//! `Limits` are the node's, `PluginLimits` each plugin's: the node's configuration gives the
//! latter's defaults (`[plugin]`), and a plugin's manifest may set its own (`[limits]`).

mod files;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::files::{FileShares, REFUSALS};

/// The node's limits: section `[limits]` of its configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of one message from a client, fragments together. Beyond: close 1009.
    pub message_bytes: usize,
    /// Messages a second from one client, a second's worth at once; 0: off. Beyond: close 1008.
    pub messages_per_second: u32,
    /// Bytes waiting for one client. Beyond: the plugin's `overflow` policy. A message that is
    /// larger by itself: `limit-exceeded`.
    pub outbox_bytes: usize,
    /// Messages waiting for one client. Beyond: the plugin's `overflow` policy.
    pub outbox_messages: usize,
    /// From accept to upgrade, `on-connect` and all. Beyond: 408, cut.
    #[serde(with = "humantime_serde")]
    pub handshake_timeout: Duration,
    /// Handshakes under way; a flood of them must not take all memory. Beyond: cut at accept.
    pub handshakes: usize,
    /// How often it is seen whether a client has been silent; then it is pinged.
    #[serde(with = "humantime_serde")]
    pub ping_every: Duration,
    /// How long it then has for a sign of life. Beyond: cut, 1006.
    #[serde(with = "humantime_serde")]
    pub ping_timeout: Duration,
    /// What a closed client gets to take what is queued and to answer. Beyond: cut.
    #[serde(with = "humantime_serde")]
    pub close_timeout: Duration,
    /// Clients of the node. Beyond: 503. (Each needs an open file: `ulimit -n`.)
    pub clients: usize,
    /// Clients of one IP address; 0: off, since behind a proxy all have the same. Beyond: 429.
    pub clients_per_address: usize,
    /// Handshakes a second, a second's worth at once; 0: off. Beyond: 503.
    pub connects_per_second: u32,
    /// Clients of one uid; 0: off. Beyond: `bind-uid` answers `limit-exceeded`.
    pub clients_per_uid: usize,
    /// Groups of one client. Beyond: `join-group` answers `limit-exceeded`.
    pub groups_per_client: usize,
    /// Bytes of a uid, or of a group's or a timer's name. Beyond: `invalid-argument`.
    pub name_bytes: usize,
    /// Bytes of one client's info, keys and values. Beyond: `limit-exceeded`.
    pub info_bytes: usize,
    /// How long a node that ends, or a plugin that was removed, has for its clients.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
    /// Bytes that wait for one peer, or for its acknowledgement. Beyond: messages to its
    /// clients are dropped, counted, and said once.
    pub link_bytes: usize,
    /// Frames, likewise.
    pub link_frames: usize,
    /// How long a peer may take to answer a question. Beyond: `timed-out`, or `missing`.
    #[serde(with = "humantime_serde")]
    pub ask_timeout: Duration,
    /// Events of other nodes' clients under way here, of one plugin. Beyond: those clients are
    /// answered 503 or closed with 1013.
    pub peer_events: usize,
    /// How long a client's event waits for a node that runs its plugin, where none does.
    /// Beyond: 503, or close 1013.
    #[serde(with = "humantime_serde")]
    pub worker_wait: Duration,
    /// How long a peer may say nothing before nobody waits for it any more.
    #[serde(with = "humantime_serde")]
    pub suspect_after: Duration,
    /// How long before it is gone: its clients are offline, what waited for it is dropped.
    #[serde(with = "humantime_serde")]
    pub gone_after: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            message_bytes: 64 << 10,
            messages_per_second: 0,
            outbox_bytes: 1 << 20,
            outbox_messages: 1024,
            handshake_timeout: Duration::from_secs(10),
            handshakes: 4096,
            ping_every: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(8),
            close_timeout: Duration::from_secs(5),
            clients: 100_000,
            clients_per_address: 0,
            connects_per_second: 10_000,
            clients_per_uid: 1_000,
            groups_per_client: 1_000,
            name_bytes: 256,
            info_bytes: 4096,
            drain_timeout: Duration::from_secs(30),
            link_bytes: 64 << 20,
            link_frames: 1 << 20,
            ask_timeout: Duration::from_secs(2),
            peer_events: 16_384,
            worker_wait: Duration::from_secs(10),
            suspect_after: Duration::from_secs(3),
            gone_after: Duration::from_secs(5),
        }
    }
}

/// One plugin's limits: `[plugin]` of the node's configuration, `[limits]` of the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PluginLimits {
    /// Memory of one instance. Beyond: growing fails, and most guests then trap.
    pub memory_bytes: usize,
    /// How long one event may run, waiting not counted. Beyond: trap `deadline`.
    #[serde(with = "humantime_serde")]
    pub event_timeout: Duration,
    /// How long one event may take, waiting and all. Beyond: trap `wait`.
    #[serde(with = "humantime_serde")]
    pub wait_timeout: Duration,
    /// Instances of one generation, thus events under way at once. Beyond: events queue.
    pub instances: usize,
    /// How long an event may queue for an instance. Beyond: 503, or close 1013.
    #[serde(with = "humantime_serde")]
    pub call_wait: Duration,
    /// Events after which an instance is replaced: some languages' runtimes leak.
    pub recycle_after_events: u32,
    /// Memory beyond which an instance is replaced after its event: what one large message
    /// took would otherwise stay taken.
    pub recycle_above_bytes: usize,
    /// Calls that send, in one event. Beyond: `limit-exceeded`.
    pub sends_per_event: u32,
    /// Bytes of one call to it, the method's name and the payload together, and of the answer.
    /// Beyond: `limit-exceeded`.
    pub call_bytes: usize,
    /// Timers of the plugin. Beyond: `limit-exceeded`.
    pub timers: usize,
    /// Bytes of a key in its key-value buckets. Beyond: an error value.
    pub keyvalue_key_bytes: usize,
    /// Bytes of a value there: a call's values pass through memory. Beyond: an error value.
    pub keyvalue_value_bytes: usize,
    /// Bytes of all its keys and values, in memory or in the node's file, with
    /// `KEYVALUE_ENTRY_BYTES` for each. Beyond: an error value. A server has its own limit.
    pub keyvalue_bytes: u64,
    /// How long one call of a bucket may take. Beyond: an error value.
    #[serde(with = "humantime_serde")]
    pub keyvalue_timeout: Duration,
    /// Requests of one generation under way at once. Beyond: an error value.
    pub http_requests: usize,
    /// Bytes of a request's body. Beyond: an error value.
    pub http_request_bytes: usize,
    /// Bytes of an answer's body. Beyond: it breaks off with an error value.
    pub http_response_bytes: usize,
    /// How long a request may take, from its beginning to the end of its answer. Beyond: an
    /// error value.
    #[serde(with = "humantime_serde")]
    pub http_timeout: Duration,
    /// Lines on stdout, stderr and `log`, in one event. Beyond: cut, counted.
    pub log_lines_per_event: u32,
    /// How long a replaced generation's events may go on. Beyond: cut.
    #[serde(with = "humantime_serde")]
    pub retire_timeout: Duration,
}

impl Default for PluginLimits {
    fn default() -> PluginLimits {
        PluginLimits {
            memory_bytes: 64 << 20,
            event_timeout: Duration::from_secs(1),
            wait_timeout: Duration::from_secs(5),
            instances: 256,
            call_wait: Duration::from_secs(2),
            recycle_after_events: 100_000,
            recycle_above_bytes: 16 << 20,
            sends_per_event: 10_000,
            call_bytes: 1 << 20,
            timers: 1_000,
            keyvalue_key_bytes: 256,
            keyvalue_value_bytes: 64 << 10,
            keyvalue_bytes: 64 << 20,
            // Less than `wait_timeout`, which would be a trap.
            keyvalue_timeout: Duration::from_secs(1),
            http_requests: 64,
            http_request_bytes: 1 << 20,
            http_response_bytes: 1 << 20,
            http_timeout: Duration::from_secs(4),
            log_lines_per_event: 100,
            retire_timeout: Duration::from_secs(10),
        }
    }
}

/// A limit that can't be kept.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} {why}")]
pub struct WrongLimit {
    /// Which.
    pub name: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl Limits {
    /// Says what of these can't be kept.
    pub fn check(&self) -> Result<(), WrongLimit> {
        for (name, value) in [
            ("message_bytes", self.message_bytes),
            ("outbox_bytes", self.outbox_bytes),
            ("outbox_messages", self.outbox_messages),
            ("handshakes", self.handshakes),
            ("clients", self.clients),
            ("link_bytes", self.link_bytes),
            ("link_frames", self.link_frames),
            ("peer_events", self.peer_events),
        ] {
            if value == 0 || value > u32::MAX as usize {
                let why = format!("is {value}, but must be 1 to {}", u32::MAX);
                return Err(WrongLimit { name, why });
            }
        }
        for (name, value) in [
            ("handshake_timeout", self.handshake_timeout),
            ("ping_every", self.ping_every),
            ("ping_timeout", self.ping_timeout),
            ("ask_timeout", self.ask_timeout),
        ] {
            if value.is_zero() {
                let why = "is 0, but must be some time".to_owned();
                return Err(WrongLimit { name, why });
            }
        }
        // A sign of life comes twice a second, and a stalled connection is given up after two.
        if self.suspect_after < SUSPECT_AFTER_MIN || self.gone_after <= self.suspect_after {
            let (suspect, gone) = (self.suspect_after, self.gone_after);
            return Err(WrongLimit {
                name: "gone_after",
                why: format!(
                    "is {gone:?} and suspect_after {suspect:?}, but a peer is suspect after \
                     {SUSPECT_AFTER_MIN:?} at least, and gone later"
                ),
            });
        }
        Ok(())
    }
}

impl PluginLimits {
    /// Says what of these can't be kept.
    pub fn check(&self) -> Result<(), WrongLimit> {
        let instances = self.instances;
        if instances == 0 || instances > TOTAL_INSTANCES as usize {
            return Err(WrongLimit {
                name: "instances",
                why: format!("is {instances}, but must be 1 to {TOTAL_INSTANCES}"),
            });
        }
        if self.wait_timeout < self.event_timeout {
            let (event, wait) = (self.event_timeout, self.wait_timeout);
            return Err(WrongLimit {
                name: "event_timeout",
                why: format!("is {event:?}, but an event may take {wait:?} in all (wait_timeout)"),
            });
        }
        if self.memory_bytes > MEMORY_BYTES_MAX {
            let bytes = self.memory_bytes;
            return Err(WrongLimit {
                name: "memory_bytes",
                why: format!("is {bytes}, more than the {MEMORY_BYTES_MAX} possible"),
            });
        }
        if self.call_bytes > CALL_BYTES_MAX {
            let bytes = self.call_bytes;
            return Err(WrongLimit {
                name: "call_bytes",
                why: format!("is {bytes}, more than the {CALL_BYTES_MAX} possible"),
            });
        }
        if self.keyvalue_value_bytes > KEYVALUE_VALUE_BYTES_MAX {
            let bytes = self.keyvalue_value_bytes;
            return Err(WrongLimit {
                name: "keyvalue_value_bytes",
                why: format!("is {bytes}, more than the {KEYVALUE_VALUE_BYTES_MAX} possible"),
            });
        }
        if self.http_requests > HTTP_REQUESTS_MAX {
            let requests = self.http_requests;
            return Err(WrongLimit {
                name: "http_requests",
                why: format!("is {requests}, more than the {HTTP_REQUESTS_MAX} possible"),
            });
        }
        for (name, time) in [
            ("keyvalue_timeout", self.keyvalue_timeout),
            ("http_timeout", self.http_timeout),
        ] {
            if time.is_zero() || time > OUTSIDE_TIMEOUT_MAX {
                let why =
                    format!("is {time:?}, but must be some time, {OUTSIDE_TIMEOUT_MAX:?} at most");
                return Err(WrongLimit { name, why });
            }
        }
        Ok(())
    }
}

/// Bytes that tungstenite reads at once from a socket. It zero-fills them at each attempt and
/// keeps them for each client: its own default, 128 KiB, costs 5 µs a message and 138 KB a
/// client.
pub const READ_BUFFER_BYTES: usize = 2 << 10;

/// The shortest `suspect_after`.
pub const SUSPECT_AFTER_MIN: Duration = Duration::from_secs(1);

/// Bytes of a plugin's settings, names and values: a guest's copy of all of them is that large.
/// Beyond: not loaded.
pub const CONFIG_BYTES: usize = 64 << 10;

/// The most `keyvalue_value_bytes` that a plugin can be given: a call may be for
/// `KEYVALUE_KEYS_A_CALL` of them.
pub const KEYVALUE_VALUE_BYTES_MAX: usize = 1 << 20;

/// What an entry costs beside its key and value, about.
pub const KEYVALUE_ENTRY_BYTES: u64 = 64;

/// Keys that one call of a bucket may be about. Beyond: an error value.
pub const KEYVALUE_KEYS_A_CALL: usize = 100;

/// Keys of one page.
pub const KEYVALUE_KEYS_A_PAGE: usize = 1_000;

/// Values that an instance may have seen and not yet swapped: the node keeps them for it.
/// Beyond: an error value.
pub const KEYVALUE_CAS_HANDLES: usize = 16;

/// The most `keyvalue_timeout` and `http_timeout` that a plugin can be given.
pub const OUTSIDE_TIMEOUT_MAX: Duration = Duration::from_secs(60 * 60);

/// The most `http_requests` that a plugin can be given: each has a connection, and an open file.
pub const HTTP_REQUESTS_MAX: usize = 1_024;

/// Bytes of an answer's head. Beyond: an error value.
pub const HTTP_HEAD_BYTES: usize = 64 << 10;

/// Headers of an answer. Beyond: an error value.
pub const HTTP_HEADERS: usize = 128;

/// Bytes of one set of headers that a guest holds, as they are in memory. Beyond: trap. It may
/// hold as many as it has handles.
pub const HTTP_FIELDS_BYTES: usize = 16 << 10;

/// Names looked up at once, of all plugins. Beyond: they wait, for `http_timeout` at most.
pub const HTTP_LOOKUPS: usize = 64;

/// Messages of one client that are handled before others get their turn.
pub const MESSAGES_PER_TURN: usize = 64;

/// Uids, groups or excluded clients that one call may name. Beyond: `limit-exceeded`. A call is
/// not interrupted, so what it may ask for at once has a bound.
pub const TARGETS_A_SEND: usize = 1_000;

/// Calls within calls: how many a chain from plugin to plugin may have, each of which keeps an
/// instance. Beyond: `limit-exceeded`.
pub const CALL_DEPTH: u32 = 4;

/// The shortest time that a timer can be given. Beyond: `invalid-argument`. One that fires at
/// once, again and again, would be an endless loop that no deadline ends.
pub const TIMER_MIN: Duration = Duration::from_millis(10);

/// The longest time that a timer can be given. Beyond: `invalid-argument`.
pub const TIMER_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// The most `call_bytes` that a plugin can be given: half of `HOSTCALL_BYTES`, beyond which a
/// guest traps that calls, or answers.
pub const CALL_BYTES_MAX: usize = HOSTCALL_BYTES / 2;

/// The most that a guest can make the host copy or hold for it within one call. Beyond: trap.
pub const HOSTCALL_BYTES: usize = 16 << 20;

/// Items of a page, at most. Beyond: `invalid-argument`.
pub const PAGE_ITEMS: usize = 1_000;

/// Bytes of one line of a plugin's log. Beyond: cut.
pub const LOG_LINE_BYTES: usize = 8 << 10;

/// What the pooling allocator sets aside, for all plugins and their generations together.
/// Address space only; beyond it an event waits for an instance as beyond `instances`.
pub const TOTAL_INSTANCES: u32 = 2048;

/// The most `memory_bytes` that a plugin can be given: the pool's slots have one size.
pub const MEMORY_BYTES_MAX: usize = 256 << 20;

/// How long a file of the plugins folder must keep its size and time to count as whole.
pub const SETTLE: Duration = Duration::from_millis(200);

/// How long a component must be missing to count as removed: some tools delete first and
/// write then, and removal closes clients.
pub const REMOVAL_SETTLE: Duration = Duration::from_secs(1);

/// What a component file may weigh. Beyond: not loaded. Python's are 18 MB.
pub const COMPONENT_BYTES: u64 = 256 << 20;
