//! The counters of a node: numbers that only grow, one for each outcome of a limit or a failure.
//! SIGUSR1 writes them to the log, and `GET /metrics` shows them with the durations.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::histogram::Histogram;

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// The counters of one node.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[doc = $doc])* pub $name: Counter,)*
            /// How long handshakes, loads and deliveries took.
            pub durations: Durations,
        }

        impl Counters {
            /// The name, the description and the value of each counter.
            pub fn snapshot(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($name), concat!($($doc),*), self.$name.get()),)*]
            }

            /// Logs all counters on one line. The counters are a single field of that line, since a
            /// log line can have at most 32 fields.
            pub fn log(&self) {
                let values = self.snapshot().into_iter();
                let values: BTreeMap<_, _> = values.map(|(name, _, value)| (name, value)).collect();
                let values = serde_json::to_string(&values).unwrap_or_default();
                tracing::info!(%values, "counters");
            }
        }
    };
}

counters! {
    /// Clients that the node has accepted.
    clients_accepted,
    /// Clients that have left, after their `on-close` has run or was counted as lost.
    clients_left,
    /// Connections that have ended and whose client was waited for (`[resume]`).
    clients_away,
    /// Clients that have come back on another connection.
    clients_resumed,
    /// Clients that were at another node, and that have come back here.
    clients_adopted,
    /// Clients that have come back at another node, which has taken them over.
    clients_moved,
    /// Clients that were waited for and have not come back: the time was over, or more was sent to them
    /// than is kept.
    resumes_failed,
    /// Handshakes that were refused: by the manifest or the plugin, for a taken uid (409), or for a
    /// wrong answer of `on-connect` (500).
    handshakes_refused,
    /// Handshakes that took longer than `handshake_timeout`.
    handshakes_timed_out,
    /// Connections and handshakes that exceeded a limit of the node.
    handshakes_limited,
    /// Attempts to accept a client that the system refused, since no open file was left.
    accepts_failed,
    /// Connections of clients that exceeded the clients' share of the open files.
    files_limited,
    /// Certificates that an authority has issued to this node.
    certificates_issued,
    /// Orders of certificates that have failed.
    certificate_orders_failed,
    /// Calls of the API whose caller was not identified, usually because the token was unknown.
    api_denied,
    /// Spans that the collector has taken.
    spans_sent,
    /// Spans that were dropped: too many waited for the collector, or it did not take them.
    spans_dropped,
    /// Messages that a plugin has received.
    messages_in,
    /// Calls of plugins with several waiting messages of a client.
    turns,
    /// Calls that a plugin has received.
    calls_in,
    /// Timer events that a plugin has received.
    timers_fired,
    /// Timers of the cluster that this node could not store because of its limit.
    timers_refused,
    /// Events of this node's clients that another node has handled, since their plugin does not run
    /// here.
    events_elsewhere,
    /// Events of this node's clients that were lost, since the other node went away while it
    /// handled them.
    events_lost,
    /// Events of this node's clients that found no node with their plugin within `worker_wait`.
    events_unserved,
    /// Events of other nodes' clients, and calls made on other nodes, that arrived here.
    peer_events,
    /// Events and calls from other nodes that were refused because of the limit `peer_events`.
    peer_events_refused,
    /// Messages that were larger than `message_bytes`.
    messages_too_big,
    /// Clients that sent more than `messages_per_second` or `bytes_per_second`.
    clients_too_fast,
    /// Clients whose uid sent more than `messages_per_second_per_uid` or `bytes_per_second_per_uid`.
    uids_too_fast,
    /// Clients whose address sent more than `messages_per_second_per_address` or
    /// `bytes_per_second_per_address`.
    addresses_too_fast,
    /// Messages that waited for `messages_per_second_per_plugin` or `bytes_per_second_per_plugin`.
    messages_delayed,
    /// Clients that broke the protocol, or sent text that is not UTF-8.
    clients_broke_protocol,
    /// Clients that did not answer a ping.
    clients_silent,
    /// Messages that were dropped by a full outbox.
    outbox_dropped,
    /// Clients that were closed because of a full outbox.
    outbox_closed,
    /// Clients that were disconnected after `close_timeout`, since they did not read their last
    /// messages or did not answer the close frame.
    close_timed_out,
    /// Events that were lost because the guest panicked.
    traps_panic,
    /// Events that were lost because the guest executed `unreachable` without a panic.
    traps_unreachable,
    /// Events that were lost because the guest ran longer than `event_timeout`.
    traps_deadline,
    /// Events that were lost because they took longer than `wait_timeout`, with all waiting.
    traps_wait,
    /// Events that were lost because the guest was refused memory beyond `memory_bytes`,
    /// `total_memory_bytes` or `plugins_memory_bytes`.
    traps_memory,
    /// Events that were lost because the guest used up its stack.
    traps_stack,
    /// Events that were lost because the guest accessed memory out of bounds.
    traps_out_of_bounds,
    /// Events that were lost because the guest called `exit`.
    traps_exit,
    /// Events that were lost because the guest's generation was retired and its time had passed.
    traps_retired,
    /// Events that were lost because of any other trap.
    traps_other,
    /// The time that events have waited for a processor since others had their turn, in
    /// milliseconds.
    processor_wait_ms,
    /// Events that found no free instance within `call_wait`.
    events_overloaded,
    /// Clients whose `on-close` could not be run.
    on_close_lost,
    /// Plugin instances that were created.
    instances_made,
    /// Plugin instances that were replaced after `recycle_after_events` or above
    /// `recycle_above_bytes`.
    instances_recycled,
    /// Deliveries that came from other nodes.
    mesh_delivered,
    /// Frames for other nodes that a link could not take, or that waited for a node that has gone.
    mesh_dropped,
    /// Messages from other nodes for one client that had already left.
    mesh_client_missing,
    /// Frames from other nodes that this node does not understand.
    mesh_not_understood,
    /// Nodes and registers that did not know the mesh's secret.
    mesh_untrusted,
    /// Key-value calls that a limit or the manifest has refused.
    keyvalue_refused,
    /// Key-value calls that the store failed, or did not answer in time.
    keyvalue_failed,
    /// HTTP requests that plugins have begun.
    http_requests,
    /// HTTP requests of plugins that their manifests do not allow.
    http_denied,
    /// HTTP requests of plugins that were allowed and got no answer.
    http_failed,
    /// Log lines of guests that exceeded `log_lines_per_event`.
    log_lines_dropped,
    /// Plugin generations that have become active.
    generations_loaded,
    /// Plugin files that could not be loaded.
    loads_failed,
    /// Builds that were taken back, since too many of their events failed.
    builds_taken_back,
    /// Pauses of plugins all of whose events failed, with no build to go back to.
    plugins_paused,
}

/// The durations of what a node does, apart from the events of its plugins.
#[derive(Debug, Default)]
pub struct Durations {
    /// Handshakes of clients, and requests for pages, from the connection to the end of the answer,
    /// by the hundreds of the answer's status (1 to 5).
    pub handshakes: [Histogram; 5],
    /// Loads of plugins that ended well, from the read of their files.
    pub loads: Histogram,
    /// Loads of plugins that failed.
    pub failed_loads: Histogram,
    /// Frames for other nodes, from the queue of their link to their acknowledgement. One frame at a
    /// time is timed on each link.
    pub mesh_frames: Histogram,
}

/// A counter that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one to the counter.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// Adds `n` to the counter.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The current value of the counter.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
