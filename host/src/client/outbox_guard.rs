//! The guard of the outboxes: it closes clients when more waits for all clients together than may.
//!
//! The clients for which most waits are closed first, since they read least. Their plugins'
//! overflow policies do not matter here: dropping one message after another would not keep up.

use std::sync::Arc;

use crate::log_throttle::LogThrottle;
use crate::registry::{Client, Registry};

/// The share of the budget that may be used after clients were closed, in percent. Closing one
/// client for each message would take a walk through all clients each time.
const AFTERWARDS: usize = 75;

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
        tokio::task::yield_now().await;
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
    waiting.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
    let mut closed = 0;
    for (_, client) in waiting {
        if budget.used() <= budget.most() / 100 * AFTERWARDS {
            break;
        }
        if client.outbox().overflow() {
            registry.counters().outbox_closed.add_one();
            client.wake();
            closed += 1;
        }
    }
    closed
}
