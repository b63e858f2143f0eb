//! The sweep: a task that writes each dirty client once per turn of the runtime's loop.

use std::sync::Arc;

use crate::outbox::Condition;
use crate::registry::DirtyList;

/// The number of clients that are written before other tasks get their turn. Each client takes
/// about 5 µs.
const BATCH: usize = 64;

/// Sweeps one list of dirty clients for as long as the node runs.
pub(super) async fn sweep(list: Arc<DirtyList>) {
    let mut clients = Vec::new();
    loop {
        list.added().await;
        // The tasks that are ready now may have more for the same clients: joined up, a burst
        // costs a tenth.
        tokio::task::yield_now().await;
        list.take(&mut clients);
        for (number, client) in clients.drain(..).enumerate() {
            if client.outbox().flush() != Condition::Clear {
                // Its own task waits for the socket, or ends it.
                client.wake();
            }
            if number % BATCH == BATCH - 1 {
                tokio::task::yield_now().await;
            }
        }
    }
}
