//! The guard of the outboxes: it closes clients when more waits for all clients together than may.
//!
//! What connected clients have not acknowledged is dropped first. Only a client whose socket takes no
//! more bytes is closed, or one that is away, and the one for which most waits is closed first. The
//! clients' overflow policies do not matter here: dropping one message after
//! another would not keep up.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use crate::log_throttle::LogThrottle;
use crate::outbox::Condition;
use crate::registry::{Client, Registry};

/// The share of the budget that may be used after clients were closed, in percent. Closing one
/// client for each message would take a walk through all clients each time.
const AFTERWARDS: usize = 75;

/// The pause after a walk through all clients, so that the walks do not take a whole processor.
const PAUSE: Duration = Duration::from_millis(50);

/// Guards the outboxes for as long as the node runs.
pub(super) async fn guard_outboxes(registry: Arc<Registry>) {
    let closed = LogThrottle::default();
    loop {
        registry.outbox_budget().exceeded().await;
        let clients = close_fullest(&registry);
        if clients > 0
            && let Some(unsaid) = closed.happened()
        {
            let most = registry.outbox_budget().most();
            tracing::warn!(
                most,
                clients,
                unsaid,
                "too much waits for all clients together: those that read least are closed; see \
                 limits.outboxes_bytes"
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn close_fullest(registry: &Registry) -> usize {
    let budget = registry.outbox_budget();
    let mut waiting: Vec<(usize, Arc<Client>)> = Vec::new();
    for namespace in registry.namespaces() {
        for client in namespace.clients() {
            let bytes = client.outbox().bytes();
            if bytes > 0 {
                waiting.push((bytes, client));
            }
        }
    }
    waiting.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
    let mut closed = 0;
    for (_, client) in waiting {
        if budget.used() <= budget.most() / 100 * AFTERWARDS {
            break;
        }
        // What was queued just now may not have been written yet.
        if client.outbox().make_room() {
            registry.counters().outbox_closed.add_one();
            closed += 1;
        }
        if client.outbox().condition() != Condition::Clear {
            // Its own task waits for the socket, or ends it.
            client.wake();
        }
    }
    closed
}
