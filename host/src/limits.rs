//! Every limit, on one screen: default, unit, reason, door and outcome.
//!
//! `Limits` are the node's, `PluginLimits` each plugin's: the node's configuration gives the
//! latter's defaults (`[plugin]`), and a plugin's manifest may set its own (`[limits]`).

mod files;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::files::{FileShares, REFUSALS, open_files};

/// Connections that the kernel holds for us. All nodes come back to a register at once; whom
/// it has no room for waits a second for the next attempt.
pub(crate) const NODE_BACKLOG: u32 = 1024;

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
            check_range(name, value, u32::MAX as usize)?;
        }
        check_range("name_bytes", self.name_bytes, NAME_BYTES_MAX)?;
        let echo = self.message_bytes.saturating_add(FRAME_HEAD_BYTES);
        if self.outbox_bytes < echo {
            let (outbox, message) = (self.outbox_bytes, self.message_bytes);
            return Err(WrongLimit {
                name: "outbox_bytes",
                why: format!(
                    "is {outbox}, but must hold a message of message_bytes ({message}) with the \
                     head of its frame: {echo} at least, or a smaller message_bytes"
                ),
            });
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

    /// The largest request of the API: an outbox's message fits into it, also where JSON has
    /// made it longer.
    pub fn request_bytes(&self) -> usize {
        REQUEST_BYTES_MIN.max(self.outbox_bytes.saturating_mul(2))
    }

    /// The largest message that this node takes from another: a batch whose one frame may be a
    /// message for a client, or the event of a client that is connected there.
    pub fn peer_message_bytes(&self) -> usize {
        PEER_MESSAGE_BYTES_MIN.max(self.outbox_bytes.saturating_mul(2))
    }

    /// How long a handshake waits for a node that runs its plugin: its 503 comes before its 408.
    pub fn handshake_worker_wait(&self) -> Duration {
        self.worker_wait.min(self.handshake_timeout * 3 / 4)
    }
}

impl PluginLimits {
    /// Says what of these can't be kept.
    pub fn check(&self) -> Result<(), WrongLimit> {
        check_range("instances", self.instances, TOTAL_INSTANCES as usize)?;
        if self.event_timeout.is_zero() {
            let why = "is 0, but must be some time".to_owned();
            let name = "event_timeout";
            return Err(WrongLimit { name, why });
        }
        if self.wait_timeout < self.event_timeout {
            let (event, wait) = (self.event_timeout, self.wait_timeout);
            return Err(WrongLimit {
                name: "event_timeout",
                why: format!("is {event:?}, but an event may take {wait:?} in all (wait_timeout)"),
            });
        }
        for (name, value, most) in [
            ("memory_bytes", self.memory_bytes, MEMORY_BYTES_MAX),
            ("call_bytes", self.call_bytes, CALL_BYTES_MAX),
            (
                "keyvalue_value_bytes",
                self.keyvalue_value_bytes,
                KEYVALUE_VALUE_BYTES_MAX,
            ),
            ("http_requests", self.http_requests, HTTP_REQUESTS_MAX),
        ] {
            if value > most {
                let why = format!("is {value}, more than the {most} possible");
                return Err(WrongLimit { name, why });
            }
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

    /// Says whether an instance has the memory for a value as large as another limit lets it be.
    pub fn check_holds(&self, limit: &str, bytes: usize) -> Result<(), WrongLimit> {
        let needed = bytes.saturating_mul(COPIES).saturating_add(MEMORY_AT_REST);
        if self.memory_bytes >= needed {
            return Ok(());
        }
        let memory = self.memory_bytes;
        Err(WrongLimit {
            name: "memory_bytes",
            why: format!(
                "is {memory}, but a guest that handles {limit} ({bytes}) needs {needed}: more \
                 memory_bytes, or less {limit}"
            ),
        })
    }

    /// Says whether a call that waits for something outside ends before its event does: then it
    /// has its error value, and else the event traps.
    pub fn check_waits_for(&self, limit: &str, time: Duration) -> Result<(), WrongLimit> {
        if time < self.wait_timeout {
            return Ok(());
        }
        let wait = self.wait_timeout;
        Err(WrongLimit {
            name: "wait_timeout",
            why: format!(
                "is {wait:?}, but must be longer than {limit} ({time:?}), or the event traps \
                 before its call has an answer"
            ),
        })
    }

    /// The most that a guest can make the node copy or hold for it within one call. Beyond: trap.
    ///
    /// Twice what the largest call needs that the other limits let through: one that is a little
    /// too large has its error value then. A guest holds what it passes, so its memory bounds it,
    /// too.
    pub fn hostcall_bytes(&self, node: &Limits) -> usize {
        // A guest may keep its strings in UTF-16, and then each letter counts twice.
        let text = |bytes: usize| bytes.saturating_mul(2);
        let names = |count: usize, bytes| count.saturating_mul(text(bytes) + LIST_ITEM_BYTES);
        let send = text(node.outbox_bytes)
            .saturating_add(names(TARGETS_A_SEND, node.name_bytes).saturating_mul(2));
        // The shortest entry is a byte in the guest, and one item here.
        let info = node.info_bytes.saturating_mul(2 + LIST_ITEM_BYTES);
        let accept = names(node.groups_per_client, node.name_bytes).saturating_add(info);
        let call = text(self.call_bytes);
        let values = KEYVALUE_KEYS_A_CALL.saturating_mul(self.keyvalue_value_bytes);
        let store = names(KEYVALUE_KEYS_A_CALL, self.keyvalue_key_bytes).saturating_add(values);
        let largest = send.max(accept).max(call).max(store);
        let held = self.memory_bytes.saturating_mul(LIST_ITEM_BYTES / 16);
        largest.saturating_mul(2).min(held).max(HOSTCALL_BYTES_MIN)
    }
}

fn check_range(name: &'static str, value: usize, most: usize) -> Result<(), WrongLimit> {
    if value == 0 || value > most {
        let why = format!("is {value}, but must be 1 to {most}");
        return Err(WrongLimit { name, why });
    }
    Ok(())
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

/// The most `call_bytes` that a plugin can be given: half of what every other node takes, where
/// the call or its answer may have to go.
pub const CALL_BYTES_MAX: usize = PEER_MESSAGE_BYTES_MIN / 2;

/// The least that a guest can make the host copy or hold for it within one call, whatever its
/// limits are.
pub const HOSTCALL_BYTES_MIN: usize = 16 << 20;

/// What an item of a guest's list is in the node: two strings at most. In the guest it is 16
/// bytes.
const LIST_ITEM_BYTES: usize = 48;

/// How often an instance has a message in its memory, at most, measured with the SDK: as it came,
/// and as its handler makes another of it.
const COPIES: usize = 2;

/// What an instance has beside, measured with the SDK: its stack, its data, and a heap that is
/// not without gaps.
const MEMORY_AT_REST: usize = 2 << 20;

/// Bytes before a message's own in its frame, at most.
const FRAME_HEAD_BYTES: usize = 10;

/// The most `name_bytes` that a node can be given: other nodes are told a thousand names at once.
pub const NAME_BYTES_MAX: usize = 4 << 10;

/// Bytes that a request of the API may have, at least. Beyond: TOO_LARGE, and gRPC's
/// OUT_OF_RANGE.
pub const REQUEST_BYTES_MIN: usize = 4 << 20;

/// Bytes that every node takes from another at once, whatever its limits are.
pub const PEER_MESSAGE_BYTES_MIN: usize = 16 << 20;

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

/// What a manifest may weigh. Beyond: not loaded.
pub const MANIFEST_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a limit that leaves another no room: both are named, and what would do.
    fn said<T>(checked: Result<T, WrongLimit>) -> String {
        checked.map(drop).expect_err("it can't be kept").to_string()
    }

    #[test]
    fn an_outbox_holds_the_echo_of_a_message() {
        let mut limits = Limits {
            message_bytes: 16 << 20,
            ..Limits::default()
        };
        let error = said(limits.check());
        for named in [
            "outbox_bytes is 1048576",
            "message_bytes (16777216)",
            "16777226",
        ] {
            assert!(error.contains(named), "{error}");
        }
        limits.outbox_bytes = (16 << 20) + FRAME_HEAD_BYTES - 1;
        assert!(limits.check().is_err());
        limits.outbox_bytes += 1;
        assert_eq!(limits.check(), Ok(()));
    }

    #[test]
    fn an_instance_holds_what_comes_to_it() {
        let limits = PluginLimits::default();
        assert_eq!(limits.check_holds("message_bytes", 16 << 20), Ok(()));
        let error = said(limits.check_holds("message_bytes", 32 << 20));
        for named in ["memory_bytes is 67108864", "message_bytes (33554432)"] {
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn an_event_outlasts_what_it_waits_for() {
        let limits = PluginLimits::default();
        assert_eq!(
            limits.check_waits_for("http_timeout", limits.http_timeout),
            Ok(())
        );
        let error = said(limits.check_waits_for("http_timeout", limits.wait_timeout));
        for named in ["wait_timeout is 5s", "http_timeout (5s)"] {
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn a_call_to_the_host_takes_what_the_other_limits_let_through() {
        let (node, plugin) = (Limits::default(), PluginLimits::default());
        assert_eq!(plugin.hostcall_bytes(&node), HOSTCALL_BYTES_MIN);

        // Each of them alone makes it larger than the least: a text in UTF-16, twice.
        let large = Limits {
            outbox_bytes: 32 << 20,
            ..Limits::default()
        };
        let roomy = PluginLimits {
            memory_bytes: MEMORY_BYTES_MAX,
            ..PluginLimits::default()
        };
        assert!(roomy.hostcall_bytes(&large) > 4 * (32 << 20));
        let calls = PluginLimits {
            call_bytes: CALL_BYTES_MAX,
            ..roomy.clone()
        };
        assert!(calls.hostcall_bytes(&node) >= 4 * CALL_BYTES_MAX);
        let stores = PluginLimits {
            keyvalue_value_bytes: KEYVALUE_VALUE_BYTES_MAX,
            ..roomy.clone()
        };
        let values = KEYVALUE_KEYS_A_CALL * KEYVALUE_VALUE_BYTES_MAX;
        assert!(stores.hostcall_bytes(&node) > 2 * values);
        let informed = Limits {
            info_bytes: 1 << 20,
            ..Limits::default()
        };
        assert!(roomy.hostcall_bytes(&informed) > 50 << 20);
        let joined = Limits {
            groups_per_client: 100_000,
            ..Limits::default()
        };
        assert!(roomy.hostcall_bytes(&joined) > 2 * 100_000 * node.name_bytes);

        // What a guest cannot hold, it cannot pass.
        let small = PluginLimits {
            memory_bytes: 16 << 20,
            ..stores
        };
        assert_eq!(small.hostcall_bytes(&node), 3 * (16 << 20));
    }

    #[test]
    fn what_is_beside_plugins_takes_what_an_outbox_does() {
        let small = Limits::default();
        assert_eq!(small.request_bytes(), REQUEST_BYTES_MIN);
        assert_eq!(small.peer_message_bytes(), PEER_MESSAGE_BYTES_MIN);
        let large = Limits {
            outbox_bytes: 32 << 20,
            ..Limits::default()
        };
        assert_eq!(large.request_bytes(), 64 << 20);
        assert_eq!(large.peer_message_bytes(), 64 << 20);
    }

    #[test]
    fn a_handshake_waits_for_a_worker_no_longer_than_it_may_take() {
        let limits = Limits::default();
        assert!(limits.handshake_worker_wait() < limits.handshake_timeout);
        let short = Limits {
            worker_wait: Duration::from_millis(200),
            ..limits
        };
        assert_eq!(short.handshake_worker_wait(), Duration::from_millis(200));
    }
}
