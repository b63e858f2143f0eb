//! The drain of a plugin: its clients are closed, and its generation is retired.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::directory::Directory;
use super::drain_reason::DrainReason;
use super::generation::Generation;
use super::handle::Plugin;
use crate::mesh::{Elsewhere, Mesh};
use crate::registry::Ending;

/// The number of clients that a drain closes before other tasks get their turn.
const DRAIN_BATCH: usize = 256;

/// The longest pause before a drain looks again for clients that came in after it began.
const DRAIN_ROUND: Duration = Duration::from_millis(50);

/// The time between two rounds that forget the plugins that other nodes had.
const FORGET: Duration = Duration::from_secs(5);

impl Plugin {
    /// Closes all clients of `generation`, waits until they have gone, and retires `generation`,
    /// unless another generation takes over meanwhile. If `generation` is `None`, the plugin has no
    /// generation on this node, and only its clients are closed.
    pub(super) async fn drain(&self, generation: Option<Arc<Generation>>, reason: DrainReason) {
        // The rest of it is the generation's: its last events, and `on-stop`.
        let timeout = self.namespace().shared().limits().drain_timeout * 3 / 4;
        let gone = self.empty(generation.as_ref(), reason, timeout / 2);
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
        let left = self.take_out(&generation, reason).into_iter();
        join_all(left.map(|generation| generation.pool.clone().retire())).await;
    }

    /// Closes all clients, and waits until they have gone. Clients that may come back, and that another
    /// node can take, are waited for, for `patience` at most.
    async fn empty(
        &self,
        generation: Option<&Arc<Generation>>,
        reason: DrainReason,
        patience: Duration,
    ) {
        let until = Instant::now() + patience;
        let window = self.policies().resume.map(|resume| resume.window);
        // They have as much time again to be taken.
        let most = window.unwrap_or_default().min(patience) / 2;
        let goes_on = || match generation {
            Some(generation) => self.is_current(generation),
            // Unless it is back, here or elsewhere.
            None => match reason {
                DrainReason::Restart => !self.runs(),
                DrainReason::Removed => !self.runs() && self.is_nowhere(),
            },
        };
        while goes_on() {
            let all = self.namespace().clients();
            let waits = Instant::now() < until && self.may_be_taken(reason);
            for clients in all.chunks(DRAIN_BATCH) {
                for client in clients {
                    let outbox = client.outbox();
                    if waits && outbox.is_retaining() {
                        // One that is away has been told in an earlier round.
                        if outbox.is_attached() {
                            let close = reason.close_for_a_while(client, all.len(), most);
                            self.namespace().interrupt(client, close);
                        }
                    } else {
                        let ending = Ending::new(reason.close(client, all.len()), None);
                        self.namespace().end(client, &ending);
                    }
                }
                tokio::task::yield_now().await;
            }
            // Ended sessions wake the wait; a client that came in through the closing door is
            // found by the next round.
            let is_awaited = match reason {
                _ if generation.is_none() => false,
                DrainReason::Removed => self.is_awaited(),
                // What was sent before its node heard that this one ends may still come.
                DrainReason::Restart => !self.peer_events.is_quiet(),
            };
            if self.sessions.load(Ordering::Relaxed) == 0 && !is_awaited {
                return;
            }
            let _ = tokio::time::timeout(DRAIN_ROUND, self.session_ended.notified()).await;
        }
    }

    /// Returns whether another node can take the clients of this one.
    fn may_be_taken(&self, reason: DrainReason) -> bool {
        let mesh = self.mesh.as_ref();
        let is_open = mesh.is_some_and(|mesh| mesh.elsewhere(self.name()) == Elsewhere::Open);
        matches!(reason, DrainReason::Restart) && is_open
    }

    /// Returns whether nodes without the plugin still have clients of it. Only this node can take
    /// the `on-close` of such clients.
    fn is_awaited(&self) -> bool {
        let Some(mesh) = &self.mesh else { return false };
        if mesh.elsewhere(self.name()) == Elsewhere::Open {
            return false;
        }
        if mesh.has_clients_without_plugin(self.name()) {
            self.peer_events.touch();
        }
        !self.peer_events.is_quiet()
    }

    /// Closes the plugin's clients on this node if the plugin was taken from all nodes that had it.
    pub(super) async fn drain_if_orphaned(self: Arc<Self>) {
        let is_idle = self.sessions.load(Ordering::Relaxed) == 0;
        if self.runs() || !self.is_nowhere() || is_idle || !self.begin_draining_orphans() {
            return;
        }
        let plugin = self.name();
        tracing::info!(
            plugin,
            "no node has the plugin any more, its clients are drained"
        );
        self.drain(None, DrainReason::Removed).await;
        self.end_draining_orphans();
    }
}

/// Closes the clients of plugins that were taken from all nodes that had them, and forgets these
/// plugins, for as long as the node runs.
pub(super) async fn drain_orphans(plugins: Arc<Directory>, retiring: TaskTracker, mesh: Arc<Mesh>) {
    let mut changes = mesh.serving_changes();
    loop {
        let changed = tokio::time::timeout(FORGET, changes.changed()).await;
        plugins.forget_strangers();
        match changed {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => continue,
        }
        let all: Vec<_> = plugins.read().values().cloned().collect();
        for plugin in all {
            retiring.spawn(plugin.drain_if_orphaned());
        }
    }
}
