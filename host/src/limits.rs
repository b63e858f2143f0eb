//! All limits in one place, each with its default, its unit, its reason and its outcome.
//!
//! `Limits` are for the node, and `PluginLimits` are for each plugin. The node's configuration sets
//! the defaults for plugins (`[plugin]`), and a plugin's manifest may set its own values
//! (`[limits]`).
//!
//! Long because it is the one list of all bounds.

mod files;
mod memory;

use std::time::Duration;

use documented::DocumentedFields;
use serde::{Deserialize, Serialize};

use crate::rate_limiter::RateLimits;

pub use self::files::{FileShares, REFUSALS, open_files};

/// The length of the kernel's queue of new connections from nodes. All nodes may return to a
/// register at once, and a node that finds the queue full waits a second for its next attempt.
pub(crate) const NODE_BACKLOG: u32 = 1024;

/// The limits of the node: section `[limits]` of its configuration.
#[derive(Clone, Debug, Serialize, Deserialize, DocumentedFields)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The largest message from a client, in bytes, with all its fragments. A larger message closes
    /// the client with 1009.
    pub message_bytes: usize,
    /// The most messages per second from one client, with a burst of one second's worth. The value
    /// 0 means no limit. A client that sends more is closed with 1008.
    pub messages_per_second: u32,
    /// The most bytes per second in the messages from one client, after they were decompressed, with
    /// a burst of one second's worth. The value 0 means no limit. A client that sends more is closed
    /// with 1008.
    pub bytes_per_second: u32,
    /// The most messages per second from all clients of one uid, on this node. The value 0 means no
    /// limit. The client whose message is beyond the limit is closed with 1008.
    pub messages_per_second_per_uid: u32,
    /// The most bytes per second in the messages from all clients of one uid, on this node. The value
    /// 0 means no limit. The client whose message is beyond the limit is closed with 1008.
    pub bytes_per_second_per_uid: u32,
    /// The most messages per second from all clients of one IP address. The value 0 means no limit.
    /// The client whose message is beyond the limit is closed with 1008.
    pub messages_per_second_per_address: u32,
    /// The most bytes per second in the messages from all clients of one IP address. The value 0
    /// means no limit. The client whose message is beyond the limit is closed with 1008.
    pub bytes_per_second_per_address: u32,
    /// The most bytes that wait for one client. Beyond that, the plugin's policy `overflow`
    /// applies. A single message that is larger fails with `limit-exceeded`.
    pub outbox_bytes: usize,
    /// The most messages that wait for one client. Beyond that, the plugin's policy `overflow`
    /// applies.
    pub outbox_messages: usize,
    /// The most bytes that wait for all clients together, in whole 16 KiB of each. Beyond that, the
    /// clients that do not read and for which most waits are closed with 1013.
    pub outboxes_bytes: usize,
    /// The most memory of all instances of all plugins, in bytes. A plugin has at most as much as it
    /// leaves free of it. Beyond that, growing the memory fails. The value 0 means half of the memory
    /// that the machine or the container has.
    pub plugins_memory_bytes: usize,
    /// The size of the kernel's buffer for what is sent to one client, in bytes. The kernel adds as
    /// much again. The value 0 means that the kernel chooses, up to several megabytes.
    pub send_buffer_bytes: u32,
    /// The time for a handshake, from accept to upgrade, with `on-connect`. After that time, the
    /// client gets 408 and is disconnected.
    #[serde(with = "humantime_serde")]
    pub handshake_timeout: Duration,
    /// The most connections whose request has not arrived yet, since a flood of connections must not
    /// take all memory. Beyond that, the oldest one is cut, of the address that has the most. Apart
    /// from them, as many requests are being answered at most, and a quarter of them for each
    /// plugin. A further request gets 503, or takes the place of the oldest one of the address that
    /// has the most.
    pub handshakes: usize,
    /// The interval at which the node checks whether a client has been silent. A silent client is
    /// sent a ping.
    #[serde(with = "humantime_serde")]
    pub ping_every: Duration,
    /// The time for a sign of life after a ping. A client that stays silent is disconnected, which
    /// counts as the close code 1006.
    #[serde(with = "humantime_serde")]
    pub ping_timeout: Duration,
    /// The time for a closed client to read its queued frames and to answer the close frame. After
    /// that time, the client is disconnected.
    #[serde(with = "humantime_serde")]
    pub close_timeout: Duration,
    /// The most clients of the node. Further clients get 503. Each client needs an open file
    /// (`ulimit -n`).
    pub clients: usize,
    /// The most clients of one IP address. The value 0 means no limit, since all clients behind a
    /// proxy have the same address. Further clients get 429. As for all limits by address, an IPv6
    /// network of 64 bits counts as one address.
    pub clients_per_address: usize,
    /// The most handshakes per second, with a burst of one second's worth. The value 0 means no
    /// limit. Further handshakes get 503.
    pub connects_per_second: u32,
    /// The most handshakes per second of one IP address, with a burst of one second's worth. The
    /// value 0 means no limit. Further handshakes get 429.
    pub connects_per_second_per_address: u32,
    /// The number of TLS handshakes that one IP address may begin in a second at the clients' ports.
    /// The value 0 means no limit.
    pub tls_handshakes_per_second_per_address: u32,
    /// The most clients of one uid. The value 0 means no limit. Beyond that, `bind-uid` answers
    /// `limit-exceeded`.
    pub clients_per_uid: usize,
    /// The most groups of one client. Beyond that, `join-group` answers `limit-exceeded`.
    pub groups_per_client: usize,
    /// The longest uid, group name or timer name, in bytes. A longer name fails with
    /// `invalid-argument`.
    pub name_bytes: usize,
    /// The most bytes of one client's info, with its keys and values. Larger info fails with
    /// `limit-exceeded`.
    pub info_bytes: usize,
    /// The time for a node that ends, or for a removed plugin, to close its clients.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
    /// The most processor time for compiling one component, in whole seconds. A component that
    /// takes longer is not loaded.
    #[serde(with = "humantime_serde")]
    pub compile_timeout: Duration,
    /// The most memory for compiling one component, in bytes. A component that takes more is not
    /// loaded. At most four components are compiled at the same time.
    pub compile_bytes: u64,
    /// The most bytes of the files in the folder for compiled components. Beyond that, the files
    /// that were not used for the longest time are removed.
    pub cache_bytes: u64,
    /// The most bytes that wait for one peer, or for the peer's acknowledgement. Beyond that,
    /// messages to the peer's clients are dropped and counted, and the log says so once.
    pub link_bytes: usize,
    /// The most frames that wait for one peer, or for the peer's acknowledgement. Beyond that,
    /// messages to the peer's clients are dropped, as with `link_bytes`.
    pub link_frames: usize,
    /// The most bytes of the names that one peer holds: of its uids and groups, and of its plugins'
    /// routes, with 128 added for each. What the peer tells beyond that is left out, and
    /// answers list the peer as `missing`.
    pub interest_bytes: usize,
    /// The time for a peer to answer a question. Without an answer, the result is `timed-out`, or
    /// lists the peer as `missing`.
    #[serde(with = "humantime_serde")]
    pub ask_timeout: Duration,
    /// The most events of other nodes' clients in progress here, for each plugin. Beyond that,
    /// those clients get 503 or are closed with 1013.
    pub peer_events: usize,
    /// The time that a client's event waits for a node that runs its plugin, if no node does. After
    /// that time, the client gets 503 or is closed with 1013.
    #[serde(with = "humantime_serde")]
    pub worker_wait: Duration,
    /// The time that a peer may be silent. After that time, no call waits for the peer any more.
    #[serde(with = "humantime_serde")]
    pub suspect_after: Duration,
    /// The time after which a silent peer counts as gone. The peer's clients are then offline, and
    /// the frames that waited for the peer are dropped.
    #[serde(with = "humantime_serde")]
    pub gone_after: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            message_bytes: 64 << 10,
            messages_per_second: 0,
            bytes_per_second: 0,
            messages_per_second_per_uid: 0,
            bytes_per_second_per_uid: 0,
            messages_per_second_per_address: 0,
            bytes_per_second_per_address: 0,
            outbox_bytes: 1 << 20,
            outbox_messages: 1024,
            outboxes_bytes: 256 << 20,
            plugins_memory_bytes: 0,
            send_buffer_bytes: 128 << 10,
            handshake_timeout: Duration::from_secs(10),
            handshakes: 4096,
            ping_every: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(8),
            close_timeout: Duration::from_secs(5),
            clients: 100_000,
            clients_per_address: 0,
            connects_per_second: 10_000,
            connects_per_second_per_address: 0,
            tls_handshakes_per_second_per_address: 0,
            clients_per_uid: 1_000,
            groups_per_client: 1_000,
            name_bytes: 256,
            info_bytes: 4096,
            drain_timeout: Duration::from_secs(30),
            compile_timeout: Duration::from_secs(120),
            compile_bytes: 1 << 30,
            cache_bytes: 1 << 30,
            link_bytes: 64 << 20,
            link_frames: 1 << 20,
            interest_bytes: 256 << 20,
            ask_timeout: Duration::from_secs(2),
            peer_events: 16_384,
            worker_wait: Duration::from_secs(10),
            suspect_after: Duration::from_secs(3),
            gone_after: Duration::from_secs(5),
        }
    }
}

/// The limits of one plugin: section `[plugin]` of the node's configuration, or `[limits]` of the
/// manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(default, deny_unknown_fields)]
pub struct PluginLimits {
    /// The most memory of one instance, in bytes. Beyond that, growing the memory fails, and most
    /// guests then trap.
    pub memory_bytes: usize,
    /// The most memory of all instances of the plugin, those of all its generations, in bytes. Beyond
    /// that, growing the memory fails, and new instances are not made.
    pub total_memory_bytes: usize,
    /// The plugin's share of the processors, in proportion to the weights of the other plugins whose
    /// events want to run. It applies to events that run for more than a moment.
    pub cpu_weight: u32,
    /// The time that one event may run, without its waiting. A longer event traps with `deadline`.
    #[serde(with = "humantime_serde")]
    pub event_timeout: Duration,
    /// The time that one event may take in all, running and waiting. A longer event traps with
    /// `wait`.
    #[serde(with = "humantime_serde")]
    pub wait_timeout: Duration,
    /// The most instances of one generation, and so the most events in progress. Further events
    /// wait in a queue.
    pub instances: usize,
    /// The time that an event may wait for an instance. After that time, the client gets 503 or is
    /// closed with 1013.
    #[serde(with = "humantime_serde")]
    pub call_wait: Duration,
    /// The most waiting messages of one client that are handed to an instance in one call. 1 means
    /// that each message has a call of its own.
    pub messages_per_turn: usize,
    /// The most messages per second from all clients of the plugin, on this node, with a burst of one
    /// second's worth. The value 0 means no limit. Beyond that, the clients' messages wait, and the
    /// clients are not read.
    pub messages_per_second_per_plugin: u32,
    /// The most bytes per second in the messages from all clients of the plugin, on this node. The
    /// value 0 means no limit. Beyond that, the clients' messages wait, and the clients are not read.
    pub bytes_per_second_per_plugin: u32,
    /// The number of events after which an instance is replaced, since the runtimes of some
    /// languages leak memory.
    pub recycle_after_events: u32,
    /// The growth of an instance's memory, in bytes, above which it is replaced after its event.
    /// Otherwise the memory for one large message would never be freed.
    pub recycle_above_bytes: usize,
    /// The most calls that send messages, in one event. A further call fails with `limit-exceeded`.
    pub sends_per_event: u32,
    /// The most bytes of one call to the plugin, the method's name and the payload together, and
    /// the most bytes of its answer. A larger call or answer fails with `limit-exceeded`.
    pub call_bytes: usize,
    /// The most timers of the plugin. A further timer fails with `limit-exceeded`.
    pub timers: usize,
    /// The longest key in the plugin's key-value buckets, in bytes. A longer key gets an error
    /// value.
    pub keyvalue_key_bytes: usize,
    /// The largest value in the plugin's key-value buckets, in bytes, since the values of a call
    /// pass through memory. A larger value gets an error value.
    pub keyvalue_value_bytes: usize,
    /// The most bytes of all keys and values of the plugin, in memory or in the node's file, with
    /// `KEYVALUE_ENTRY_BYTES` added for each. Beyond that, a change gets an error value. A
    /// key-value server has its own limit.
    pub keyvalue_bytes: u64,
    /// The time that one key-value call may take. A slower call gets an error value.
    #[serde(with = "humantime_serde")]
    pub keyvalue_timeout: Duration,
    /// The most HTTP requests of one generation in progress. A further request gets an error value.
    pub http_requests: usize,
    /// The largest body of an HTTP request, in bytes. A larger body gets an error value.
    pub http_request_bytes: usize,
    /// The largest body of an HTTP answer, in bytes. A larger body breaks off with an error value.
    pub http_response_bytes: usize,
    /// The time that an HTTP request may take, from its beginning to the end of its answer. A
    /// slower request gets an error value.
    #[serde(with = "humantime_serde")]
    pub http_timeout: Duration,
    /// The most lines on stdout, stderr and `log` in one event. Further lines are dropped and
    /// counted.
    pub log_lines_per_event: u32,
    /// The most bytes of all log lines of the plugin in a second, its traps included, with a burst of
    /// one second's worth. The value 0 means no limit. Further lines are dropped and counted.
    pub log_bytes_per_second: u32,
    /// The time that events of a replaced generation may still take. After that time, the events
    /// are interrupted.
    #[serde(with = "humantime_serde")]
    pub retire_timeout: Duration,
    /// The time for which a new generation is on probation. If too many of its events fail, the build
    /// before it is put back. The value 0 means that no build is put back.
    #[serde(with = "humantime_serde")]
    pub probation: Duration,
    /// The number of events for which a new generation is on probation, however long they take.
    pub probation_events: u64,
    /// The number of failed events below which no build is put back.
    pub probation_failures: u32,
    /// The share of failed events above which the build before is put back, in percent. The share must
    /// also be more than twice that of the last generation that has passed.
    pub probation_failure_percent: u32,
}

impl Default for PluginLimits {
    fn default() -> PluginLimits {
        PluginLimits {
            memory_bytes: 64 << 20,
            total_memory_bytes: 4 << 30,
            cpu_weight: 100,
            event_timeout: Duration::from_secs(1),
            wait_timeout: Duration::from_secs(5),
            instances: 256,
            call_wait: Duration::from_secs(2),
            messages_per_turn: MESSAGES_PER_TURN,
            messages_per_second_per_plugin: 0,
            bytes_per_second_per_plugin: 0,
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
            log_bytes_per_second: 256 << 10,
            retire_timeout: Duration::from_secs(10),
            probation: Duration::from_secs(60),
            probation_events: 1_000,
            probation_failures: 5,
            probation_failure_percent: 5,
        }
    }
}

/// The error for a limit whose value cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} {why}")]
pub struct WrongLimit {
    /// The name of the limit.
    pub name: &'static str,
    /// The mistake in the value of the limit.
    pub why: String,
}

impl Limits {
    /// Takes the values of the limits that take effect in a node that runs. The others size something
    /// at the start, and stay as they are.
    pub fn take_live(&mut self, new: &Limits) {
        let kept = self.clone();
        *self = Limits {
            bytes_per_second_per_address: kept.bytes_per_second_per_address,
            bytes_per_second_per_uid: kept.bytes_per_second_per_uid,
            cache_bytes: kept.cache_bytes,
            compile_bytes: kept.compile_bytes,
            compile_timeout: kept.compile_timeout,
            connects_per_second_per_address: kept.connects_per_second_per_address,
            tls_handshakes_per_second_per_address: kept.tls_handshakes_per_second_per_address,
            handshakes: kept.handshakes,
            link_bytes: kept.link_bytes,
            link_frames: kept.link_frames,
            messages_per_second_per_address: kept.messages_per_second_per_address,
            messages_per_second_per_uid: kept.messages_per_second_per_uid,
            outbox_bytes: kept.outbox_bytes,
            outboxes_bytes: kept.outboxes_bytes,
            peer_events: kept.peer_events,
            plugins_memory_bytes: kept.plugins_memory_bytes,
            send_buffer_bytes: kept.send_buffer_bytes,
            ..new.clone()
        };
    }

    /// The rates of one client.
    pub(crate) fn client_rates(&self) -> RateLimits {
        RateLimits {
            connects: 0,
            messages: self.messages_per_second,
            bytes: self.bytes_per_second,
        }
    }

    /// The rates of one uid, on this node.
    pub(crate) fn uid_rates(&self) -> RateLimits {
        RateLimits {
            connects: 0,
            messages: self.messages_per_second_per_uid,
            bytes: self.bytes_per_second_per_uid,
        }
    }

    /// The rates of one address.
    pub(crate) fn address_rates(&self) -> RateLimits {
        RateLimits {
            connects: self.connects_per_second_per_address,
            messages: self.messages_per_second_per_address,
            bytes: self.bytes_per_second_per_address,
        }
    }

    /// Checks that the values of all limits can be used.
    ///
    /// # Errors
    ///
    /// Returns an error when the value of a limit is out of range, or does not fit another limit.
    pub fn check(&self) -> Result<(), WrongLimit> {
        for (name, value) in [
            ("message_bytes", self.message_bytes),
            ("outbox_bytes", self.outbox_bytes),
            ("outbox_messages", self.outbox_messages),
            ("handshakes", self.handshakes),
            ("clients", self.clients),
            ("link_bytes", self.link_bytes),
            ("link_frames", self.link_frames),
            ("interest_bytes", self.interest_bytes),
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
        if self.outboxes_bytes < self.outbox_bytes {
            return Err(WrongLimit {
                name: "outboxes_bytes",
                why: format!(
                    "is {} for all clients together, but one client may have {} (outbox_bytes)",
                    self.outboxes_bytes, self.outbox_bytes
                ),
            });
        }
        if self.compile_timeout < COMPILE_TIMEOUT_MIN {
            return Err(WrongLimit {
                name: "compile_timeout",
                why: format!(
                    "is {:?}, but compiling any component may take {COMPILE_TIMEOUT_MIN:?}",
                    self.compile_timeout
                ),
            });
        }
        if self.compile_bytes < COMPILE_BYTES_MIN {
            return Err(WrongLimit {
                name: "compile_bytes",
                why: format!(
                    "is {}, but compiling any component may take {COMPILE_BYTES_MIN}",
                    self.compile_bytes
                ),
            });
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

    /// The largest request of the API, in bytes. A request can hold the largest message of an
    /// outbox, even where JSON makes the message longer.
    pub fn request_bytes(&self) -> usize {
        REQUEST_BYTES_MIN.max(self.outbox_bytes.saturating_mul(2))
    }

    /// The largest message that this node accepts from another node, in bytes. Such a message is a
    /// batch. A single frame of the batch may be a message for a client, or the event of a client
    /// on the other node.
    pub fn peer_message_bytes(&self) -> usize {
        PEER_MESSAGE_BYTES_MIN.max(self.outbox_bytes.saturating_mul(2))
    }

    /// The most memory of all instances of all plugins, in bytes: `plugins_memory_bytes`, or half of
    /// the memory that there is.
    pub fn guest_memory_bytes(&self) -> usize {
        match self.plugins_memory_bytes {
            0 => memory::machine_bytes() / 2,
            bytes => bytes,
        }
    }

    /// The time that a handshake waits for a node that runs its plugin. The answer 503 then comes
    /// before the answer 408.
    pub fn handshake_worker_wait(&self) -> Duration {
        self.worker_wait.min(self.handshake_timeout * 3 / 4)
    }
}

impl PluginLimits {
    /// The rates of all clients of the plugin together, on this node.
    pub(crate) fn rates(&self) -> RateLimits {
        RateLimits {
            connects: 0,
            messages: self.messages_per_second_per_plugin,
            bytes: self.bytes_per_second_per_plugin,
        }
    }

    /// Checks that the values of all limits can be used.
    ///
    /// # Errors
    ///
    /// Returns an error when the value of a limit is out of range, or does not fit another limit.
    pub fn check(&self) -> Result<(), WrongLimit> {
        check_range("instances", self.instances, TOTAL_INSTANCES as usize)?;
        check_range(
            "messages_per_turn",
            self.messages_per_turn,
            MESSAGES_PER_TURN,
        )?;
        check_range("cpu_weight", self.cpu_weight as usize, CPU_WEIGHT_MAX)?;
        if self.total_memory_bytes < self.memory_bytes {
            return Err(WrongLimit {
                name: "total_memory_bytes",
                why: format!(
                    "is {} for all instances together, but one instance may have {} (memory_bytes)",
                    self.total_memory_bytes, self.memory_bytes
                ),
            });
        }
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
        if self.probation_failures == 0 {
            let why = "is 0, but must be 1 at least (no probation: probation = \"0s\")".to_owned();
            let name = "probation_failures";
            return Err(WrongLimit { name, why });
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
            (
                "probation_failure_percent",
                self.probation_failure_percent as usize,
                100,
            ),
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

    /// Checks that an instance has enough memory for a value of `bytes`, the size that another
    /// limit allows.
    ///
    /// # Errors
    ///
    /// Returns an error when `memory_bytes` is too small for such a value.
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

    /// Checks that a call that waits for something outside ends before its event does. Such a call
    /// gets its error value in time, and its event does not trap.
    ///
    /// # Errors
    ///
    /// Returns an error when `time`, the value of `limit`, is not shorter than `wait_timeout`.
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

    /// The most bytes that a guest can make the node copy or hold for it within one call. Beyond
    /// that, the guest traps.
    ///
    /// The value is twice what the largest call needs that the other limits allow. A call that is
    /// slightly too large therefore gets its error value. The guest's memory also bounds the value,
    /// since a guest holds what it passes.
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

/// The largest value that `cpu_weight` can have.
pub const CPU_WEIGHT_MAX: usize = 10_000;

/// The shortest value that `compile_timeout` can have.
pub const COMPILE_TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// The smallest value that `compile_bytes` can have. The compiler's threads take a part of it.
pub const COMPILE_BYTES_MIN: u64 = 64 << 20;

/// The shortest value that `suspect_after` can have.
pub const SUSPECT_AFTER_MIN: Duration = Duration::from_secs(1);

/// The most bytes of a plugin's settings, names and values together, since a guest's copy of all
/// settings has this size. A plugin with more is not loaded.
pub const CONFIG_BYTES: usize = 64 << 10;

/// The largest value that `keyvalue_value_bytes` can have, since one call may contain
/// `KEYVALUE_KEYS_A_CALL` values.
pub const KEYVALUE_VALUE_BYTES_MAX: usize = 1 << 20;

/// The approximate cost of an entry in addition to its key and value, in bytes.
pub const KEYVALUE_ENTRY_BYTES: u64 = 64;

/// The most keys in one key-value call. A call with more keys gets an error value.
pub const KEYVALUE_KEYS_A_CALL: usize = 100;

/// The number of keys on one page.
pub const KEYVALUE_KEYS_A_PAGE: usize = 1_000;

/// The most values that an instance may have seen for a swap and not swapped yet, since the node
/// keeps these values. Beyond that, a call gets an error value.
pub const KEYVALUE_CAS_HANDLES: usize = 16;

/// The largest value that `keyvalue_timeout` and `http_timeout` can have.
pub const OUTSIDE_TIMEOUT_MAX: Duration = Duration::from_secs(60 * 60);

/// The largest value that `http_requests` can have, since each request has a connection and an open
/// file.
pub const HTTP_REQUESTS_MAX: usize = 1_024;

/// The largest head of an HTTP answer, in bytes. A larger head gets an error value.
pub const HTTP_HEAD_BYTES: usize = 64 << 10;

/// The most headers of an HTTP answer. An answer with more headers gets an error value.
pub const HTTP_HEADERS: usize = 128;

/// The largest set of HTTP headers that a guest holds, in bytes of memory. A larger set makes the
/// guest trap. A guest may hold as many sets as it has handles.
pub const HTTP_FIELDS_BYTES: usize = 16 << 10;

/// The most names that are looked up at once, for all plugins together. Further lookups wait, but
/// for `http_timeout` at most.
pub const HTTP_LOOKUPS: usize = 64;

/// The most messages of one client that are handled before other clients get their turn, and the
/// largest value that `messages_per_turn` can have.
pub const MESSAGES_PER_TURN: usize = 64;

/// The most uids, groups or excluded clients that one call may name. A call with more names fails
/// with `limit-exceeded`. A call is not interrupted, so its size must have a bound.
pub const TARGETS_A_SEND: usize = 1_000;

/// The most nested calls in a chain from plugin to plugin, since each of them keeps an instance. A
/// deeper call fails with `limit-exceeded`.
pub const CALL_DEPTH: u32 = 4;

/// The shortest time that a timer can have. A shorter time fails with `invalid-argument`. A timer
/// that fires at once, again and again, would be an endless loop that no deadline ends.
pub const TIMER_MIN: Duration = Duration::from_millis(10);

/// The longest time that a timer can have. A longer time fails with `invalid-argument`.
pub const TIMER_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// The largest value that `call_bytes` can have: half of what every other node accepts, since the
/// call or its answer may go to another node.
pub const CALL_BYTES_MAX: usize = PEER_MESSAGE_BYTES_MIN / 2;

/// The lowest bound for the bytes that a guest can make the host copy or hold within one call,
/// whatever the guest's limits are.
pub const HOSTCALL_BYTES_MIN: usize = 16 << 20;

/// The size of an item of a guest's list in the node, in bytes: at most two strings. In the guest,
/// an item has 16 bytes.
const LIST_ITEM_BYTES: usize = 48;

/// The most copies of a message in the memory of an instance, measured with the SDK: the received
/// message, and another one that its handler makes from it.
const COPIES: usize = 2;

/// The memory that an instance needs in addition, in bytes, measured with the SDK: its stack, its
/// data, and a heap with gaps.
const MEMORY_AT_REST: usize = 2 << 20;

/// The most bytes in a frame before the message's own bytes.
const FRAME_HEAD_BYTES: usize = 10;

/// The largest value that `name_bytes` can have, since other nodes receive a thousand names at
/// once.
pub const NAME_BYTES_MAX: usize = 4 << 10;

/// The lowest bound for the size of an API request, in bytes. A request above its bound fails with
/// TOO_LARGE, which is OUT_OF_RANGE in gRPC.
pub const REQUEST_BYTES_MIN: usize = 4 << 20;

/// The number of bytes that every node accepts from another node at once, whatever its limits are.
pub const PEER_MESSAGE_BYTES_MIN: usize = 16 << 20;

/// The most items on a page. A request for more items fails with `invalid-argument`.
pub const PAGE_ITEMS: usize = 1_000;

/// The longest line in a plugin's log, in bytes. A longer line is truncated.
pub const LOG_LINE_BYTES: usize = 8 << 10;

/// The number of instances that the pooling allocator reserves, for all plugins and their
/// generations together. The allocator reserves address space only. Above this number, an event
/// waits for an instance, as it does above `instances`.
pub const TOTAL_INSTANCES: u32 = 2048;

/// The largest value that `memory_bytes` can have, since all slots of the pool have one size.
pub const MEMORY_BYTES_MAX: usize = 256 << 20;

/// The time that a file of the plugins folder must keep its size and its modification time to count
/// as complete.
pub const SETTLE: Duration = Duration::from_millis(200);

/// The time that a component must be missing to count as removed. Some tools delete a file first
/// and then write it, and a removal closes clients.
pub const REMOVAL_SETTLE: Duration = Duration::from_secs(1);

/// The largest component file, in bytes. A larger file is not loaded. Components in Python have 18
/// MB.
pub const COMPONENT_BYTES: u64 = 256 << 20;

/// The most builds of one plugin that the node keeps, to go back to. The one that runs is among them.
pub const KEPT_BUILDS: usize = 5;

/// The most bytes of the components of these builds. The newest one is kept in any case.
pub const KEPT_BUILDS_BYTES: u64 = 256 << 20;

/// The most plugins of a cluster that are deployed, or were. Another one is refused.
pub const DEPLOYMENTS: usize = 1_000;

/// The largest manifest, in bytes. A larger manifest is not loaded.
pub const MANIFEST_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// The error for a limit that does not fit another limit. The text names both limits and a
    /// value that would fit.
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
    fn any_component_can_be_compiled_and_any_outbox_filled() {
        let limits = Limits::default;
        for (wrong, named) in [
            (
                Limits {
                    outboxes_bytes: (1 << 20) - 1,
                    ..limits()
                },
                "outboxes_bytes is 1048575 for all clients together, but one client may have 1048576",
            ),
            (
                Limits {
                    compile_timeout: Duration::from_millis(999),
                    ..limits()
                },
                "compile_timeout is 999ms, but compiling any component may take 1s",
            ),
            (
                Limits {
                    compile_bytes: (64 << 20) - 1,
                    ..limits()
                },
                "compile_bytes is 67108863, but compiling any component may take 67108864",
            ),
        ] {
            let error = said(wrong.check());
            assert!(error.contains(named), "{error}");
        }
        let least = Limits {
            outboxes_bytes: 1 << 20,
            compile_timeout: Duration::from_secs(1),
            compile_bytes: 64 << 20,
            ..limits()
        };
        assert_eq!(least.check(), Ok(()));
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
