//! Events: what happens on this node, for whoever watches. Where nobody does, they cost a look
//! at a flag.
//!
//! Whoever makes an event never waits for a watcher: one that is too slow misses some, and is
//! told how many.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::changes::Kind;
use super::client::Close;
use crate::id::ClientId;

/// Events that a watcher may be behind.
const BEHIND: usize = 8192;

/// Something that has happened to a plugin or to one of its clients.
#[derive(Clone, Debug)]
pub struct Event {
    /// The plugin's name.
    pub plugin: Arc<str>,
    /// What it was.
    pub what: EventKind,
}

/// What has happened.
#[derive(Clone, Debug)]
pub enum EventKind {
    /// A client has come in.
    Connected(ClientId),
    /// A client has left, and its plugin has been told.
    Closed {
        /// Which.
        client: ClientId,
        /// Why and how.
        close: Close,
        /// The uid it had.
        uid: Option<Arc<str>>,
    },
    /// A uid or a group has its first client here.
    Occupied(Kind, Arc<str>),
    /// It has none any more.
    Vacated(Kind, Arc<str>),
    /// This generation has taken over.
    Loaded(u64),
    /// Another node had an event of a client here, and went while it was at it.
    Lost {
        /// Whose event it was.
        client: ClientId,
        /// Which of the plugin's functions.
        function: &'static str,
    },
}

/// The way from what happens to whoever watches.
#[derive(Debug, Default)]
pub struct Events {
    is_watched: AtomicBool,
    watched: Mutex<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    watchers: usize,
    /// While there are any.
    sender: Option<broadcast::Sender<Event>>,
}

/// Somebody who watches, until it is dropped.
pub struct Watcher {
    events: Arc<Events>,
    receiver: broadcast::Receiver<Event>,
}

impl Events {
    /// Watches from now on.
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

    /// This happens to the plugin of that name.
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
    /// The next event; or how many have been missed.
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
