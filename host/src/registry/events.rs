//! Events on this node, for whoever watches them. While nobody watches, an event costs one read of
//! a flag.
//!
//! Emitting an event never waits for a watcher: a watcher that is too slow misses some events, and
//! gets their number.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::changes::Kind;
use super::client::Close;
use crate::id::ClientId;

/// How many events a watcher may be behind.
const BEHIND: usize = 8192;

/// An event of a plugin or of one of its clients.
#[derive(Clone, Debug)]
pub struct Event {
    /// The name of the plugin.
    pub plugin: Arc<str>,
    /// The kind of the event, with its details.
    pub what: EventKind,
}

/// The kinds of events, with their details.
#[derive(Clone, Debug)]
pub enum EventKind {
    /// A client has connected.
    Connected(ClientId),
    /// A client has left, and its plugin has been told.
    Closed {
        /// The id of the client.
        client: ClientId,
        /// The reason for the end of the connection.
        close: Close,
        /// The uid that the client had.
        uid: Option<Arc<str>>,
    },
    /// A uid or a group has its first client here.
    Occupied(Kind, Arc<str>),
    /// A uid or a group has no client here any more.
    Vacated(Kind, Arc<str>),
    /// A new generation with this number has taken over.
    Loaded(u64),
    /// A new generation handles the events of a part of the clients.
    Canary {
        /// The number of the generation.
        generation: u64,
        /// The share of the clients, in percent.
        percent: f64,
    },
    /// The build of a generation was taken back, since too many of its events failed.
    TakenBack(u64),
    /// Another node had an event of a client here, and was lost before it answered.
    Lost {
        /// The client that the event belongs to.
        client: ClientId,
        /// The plugin's function that was called.
        function: &'static str,
    },
}

/// The channel on which events are emitted and watched.
#[derive(Debug, Default)]
pub struct Events {
    is_watched: AtomicBool,
    watched: Mutex<EventWatchers>,
}

#[derive(Debug, Default)]
struct EventWatchers {
    watchers: usize,
    /// The sender of the events, while there are any watchers.
    sender: Option<broadcast::Sender<Event>>,
}

/// A watcher of events, until it is dropped.
pub struct Watcher {
    events: Arc<Events>,
    receiver: broadcast::Receiver<Event>,
}

impl Events {
    /// Begins to watch all events from now on.
    pub fn watch(self: &Arc<Self>) -> Watcher {
        let mut watched = self.watched.lock();
        watched.watchers += 1;
        let new = || broadcast::Sender::new(BEHIND);
        let receiver = watched.sender.get_or_insert_with(new).subscribe();
        self.is_watched.store(true, Ordering::Relaxed);
        Watcher {
            events: self.clone(),
            receiver,
        }
    }

    /// Emits an event of the plugin with that name. `what` is called only if somebody watches.
    pub fn emit(&self, plugin: &Arc<str>, what: impl FnOnce() -> EventKind) {
        if !self.is_watched.load(Ordering::Relaxed) {
            return;
        }
        if let Some(sender) = &self.watched.lock().sender {
            let (plugin, what) = (plugin.clone(), what());
            let _ = sender.send(Event { plugin, what });
        }
    }
}

impl Watcher {
    /// Waits for the next event.
    ///
    /// # Errors
    ///
    /// The watcher was too slow. The error is the number of events that it has missed.
    pub async fn next(&mut self) -> Result<Event, u64> {
        match self.receiver.recv().await {
            Ok(event) => Ok(event),
            Err(broadcast::error::RecvError::Lagged(missed)) => Err(missed),
            // The sender stays for as long as there is a watcher.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut watched = self.events.watched.lock();
        watched.watchers -= 1;
        if watched.watchers == 0 {
            watched.sender = None;
            self.events.is_watched.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watcher_that_is_too_slow_is_told_how_many_it_has_missed() {
        let events = Arc::<Events>::default();
        let plugin: Arc<str> = "chat".into();
        let mut watcher = events.watch();
        for generation in 0..BEHIND as u64 + 3 {
            events.emit(&plugin, || EventKind::Loaded(generation));
        }
        assert_eq!(watcher.next().await.err(), Some(3));
        // And the rest, from the oldest on that is left.
        let next = watcher.next().await.expect("an event");
        assert!(matches!(next.what, EventKind::Loaded(3)), "{next:?}");
    }

    #[test]
    fn where_nobody_watches_events_are_not_even_made() {
        let events = Arc::<Events>::default();
        let plugin: Arc<str> = "chat".into();
        let (one, other) = (events.watch(), events.watch());
        drop(one);
        assert!(events.is_watched.load(Ordering::Relaxed));
        drop(other);
        events.emit(&plugin, || panic!("it was made"));
    }
}
