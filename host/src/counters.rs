//! What happened, in numbers that only grow: one for each outcome that a limit or a failure
//! has. They are the node's; an endpoint for them comes with the API.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The node's counters.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
        }

        impl Counters {
            /// Each counter's name and value.
            pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }

            /// Logs all of them, in one line. As one value: a log line has 32 fields at most.
            pub fn log(&self) {
                let values: BTreeMap<_, _> = self.snapshot().into_iter().collect();
                let values = serde_json::to_string(&values).unwrap_or_default();
                tracing::info!(%values, "counters");
            }
        }
    };
}

counters! {
    /// Clients let in.
    clients_accepted,
    /// Clients that have left, their `on-close` done or counted as lost.
    clients_left,
    /// Handshakes that were refused: by the manifest or the plugin, for a taken uid (409), or for
    /// an answer of `on-connect` that can't be had (500).
    handshakes_refused,
    /// Handshakes beyond `handshake_timeout`.
    handshakes_timed_out,
    /// Connections and handshakes beyond a limit of the node.
    handshakes_limited,
    /// Attempts to accept a client that the system refused (no open files left).
    accepts_failed,
    /// Connections of clients beyond their share of the open files.
    files_limited,
    /// Calls of the API without a token that is known.
    api_denied,
    /// Messages handed to a plugin.
    messages_in,
    /// Calls handed to a plugin.
    calls_in,
    /// Timers' events handed to a plugin.
    timers_fired,
    /// Timers of the cluster that this node had no room for.
    timers_refused,
    /// Events of clients here that another node has handled: their plugin does not run here.
    events_elsewhere,
    /// Of these, events that were lost: the other node went while it was at it.
    events_lost,
    /// Events of clients here that found no node that runs their plugin within `worker_wait`.
    events_unserved,
    /// Events of other nodes' clients, and calls that came to other nodes, taken in here.
    peer_events,
    /// Of these, refused beyond the limit `peer_events`.
    peer_events_refused,
    /// Messages beyond `message_bytes`.
    messages_too_big,
    /// Clients beyond `messages_per_second`.
    clients_too_fast,
    /// Clients that broke the protocol or sent text that is not UTF-8.
    clients_broke_protocol,
    /// Clients that did not answer a ping.
    clients_silent,
    /// Messages that a full outbox dropped.
    outbox_dropped,
    /// Clients closed because of a full outbox.
    outbox_closed,
    /// Clients cut after `close_timeout`: they did not take their last messages, or did not
    /// answer the close.
    close_timed_out,
    /// Events lost to a trap: the guest panicked.
    traps_panic,
    /// The guest executed `unreachable` without a panic.
    traps_unreachable,
    /// The guest ran longer than `event_timeout`.
    traps_deadline,
    /// The guest waited longer than `wait_timeout`.
    traps_wait,
    /// The guest was refused memory beyond `memory_bytes`.
    traps_memory,
    /// The guest used up its stack.
    traps_stack,
    /// The guest accessed memory that it has not.
    traps_out_of_bounds,
    /// The guest called `exit`.
    traps_exit,
    /// The guest was cut because its generation was retired.
    traps_retired,
    /// Any other trap.
    traps_other,
    /// Events that found no instance within `call_wait`.
    events_overloaded,
    /// Clients whose `on-close` could not be run.
    on_close_lost,
    /// Instances made.
    instances_made,
    /// Instances replaced after `recycle_after_events` or above `recycle_above_bytes`.
    instances_recycled,
    /// Deliveries that came from other nodes.
    mesh_delivered,
    /// Frames for other nodes that their links could not take, or that waited for a node that
    /// has gone.
    mesh_dropped,
    /// Messages from other nodes for one client that had left.
    mesh_client_missing,
    /// Frames of other nodes that make no sense here.
    mesh_not_understood,
    /// Nodes and registers without the mesh's secret.
    mesh_untrusted,
    /// Calls of key-value buckets that a limit or the manifest refused.
    keyvalue_refused,
    /// Calls of key-value buckets that the store failed, or did not answer in time.
    keyvalue_failed,
    /// Requests that plugins have begun.
    http_requests,
    /// Requests of plugins that their manifests do not allow.
    http_denied,
    /// Requests of plugins that were allowed and got no answer.
    http_failed,
    /// Log lines of guests beyond `log_lines_per_event`.
    log_lines_dropped,
    /// Generations that took over.
    generations_loaded,
    /// Plugin files that could not be loaded.
    loads_failed,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
