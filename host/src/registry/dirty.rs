//! Dirty lists: the clients whose outboxes have something to write.
//!
//! Each sweeper has one list. A client is always on the same list, and at most once.
//!
//! While a client's turn runs, the clients that it makes dirty are held back, and are added to the
//! lists when it pauses. Sweepers on other threads would otherwise write each message by itself, and
//! a write costs much more than a message.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::client::Client;

/// The longest time that a client is held back, before it is added with the next one.
const HOLD: Duration = Duration::from_micros(500);

thread_local! {
    /// The clients that are held back on this thread, while something runs that holds them.
    static HELD: RefCell<Option<HeldClients>> = const { RefCell::new(None) };
}

/// Dirty clients that are held back.
struct HeldClients {
    /// The lists of the node that they are for. A process may have several nodes.
    lists: *const DirtyLists,
    /// The clients for each list.
    clients: Vec<Vec<Arc<Client>>>,
    since: Option<Instant>,
}

/// A future during whose polls dirty clients are held back.
pub struct HoldingDirty<'a, F> {
    lists: &'a DirtyLists,
    future: Pin<Box<F>>,
}

/// All dirty lists of a node.
#[derive(Debug)]
pub struct DirtyLists(Box<[Arc<DirtyList>]>);

/// The list of one sweeper. A client is on it at most once, so it is never longer than the number
/// of clients on the node.
#[derive(Debug, Default)]
pub struct DirtyList {
    clients: Mutex<Vec<Arc<Client>>>,
    added: Notify,
}

/// Clients that are gathered while a delivery walks an index, and added to the lists at its end.
/// This takes one lock for each list and delivery instead of one for each recipient.
#[derive(Debug)]
pub(super) struct Dirtied<'a> {
    lists: &'a DirtyLists,
    gathered: Vec<Vec<Arc<Client>>>,
}

impl DirtyLists {
    pub(super) fn new(sweepers: usize) -> DirtyLists {
        DirtyLists((0..sweepers.max(1)).map(|_| Arc::default()).collect())
    }

    /// The lists, one for each sweeper.
    pub fn lists(&self) -> &[Arc<DirtyList>] {
        &self.0
    }

    /// Adds one client to its list.
    pub fn add(&self, client: Arc<Client>) {
        self.gather().add(&client);
    }

    /// Runs a future, and holds dirty clients back while it is polled.
    pub fn hold<F: Future>(&self, future: F) -> HoldingDirty<'_, F> {
        HoldingDirty {
            lists: self,
            future: Box::pin(future),
        }
    }

    fn append(&self, clients: &mut [Vec<Arc<Client>>]) {
        for (list, clients) in self.0.iter().zip(clients) {
            if !clients.is_empty() {
                list.clients.lock().append(clients);
                list.added.notify_one();
            }
        }
    }

    /// Holds gathered clients back, if something runs that wants so. Returns whether it did.
    fn hold_back(&self, gathered: &mut Vec<Vec<Arc<Client>>>) -> bool {
        HELD.with_borrow_mut(|held| {
            let lists: *const DirtyLists = self;
            let Some(held) = held.as_mut().filter(|held| held.lists == lists) else {
                return false;
            };
            if held.clients.is_empty() {
                held.clients = std::mem::take(gathered);
            } else {
                for (held, gathered) in held.clients.iter_mut().zip(gathered) {
                    held.append(gathered);
                }
            }
            let since = *held.since.get_or_insert_with(Instant::now);
            if since.elapsed() > HOLD {
                self.append(&mut held.clients);
                held.since = None;
            }
            true
        })
    }

    pub(super) fn gather(&self) -> Dirtied<'_> {
        Dirtied {
            lists: self,
            gathered: Vec::new(),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "which list does not matter"
    )]
    fn index(&self, client: &Client) -> usize {
        client.key() as usize % self.0.len()
    }
}

impl DirtyList {
    /// Waits until there is a client on the list.
    pub async fn added(&self) {
        self.added.notified().await;
    }

    /// Takes the clients off the list, into an empty `clients`.
    pub fn take(&self, clients: &mut Vec<Arc<Client>>) {
        std::mem::swap(&mut *self.clients.lock(), clients);
    }
}

impl Dirtied<'_> {
    pub(super) fn add(&mut self, client: &Arc<Client>) {
        if self.gathered.is_empty() {
            self.gathered.resize_with(self.lists.0.len(), Vec::new);
        }
        self.gathered[self.lists.index(client)].push(client.clone());
    }
}

impl Drop for Dirtied<'_> {
    fn drop(&mut self) {
        if !self.gathered.is_empty() && !self.lists.hold_back(&mut self.gathered) {
            self.lists.append(&mut self.gathered);
        }
    }
}

impl<F: Future> Future for HoldingDirty<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let new = HeldClients {
            lists: self.lists,
            clients: Vec::new(),
            since: None,
        };
        let outer = HELD.replace(Some(new));
        // Also if the future panics.
        let end = scopeguard::guard(self.lists, |lists| {
            if let Some(mut held) = HELD.replace(outer) {
                lists.append(&mut held.clients);
            }
        });
        let polled = self.future.as_mut().poll(context);
        drop(end);
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::Arrival;
    use super::*;
    use crate::id::{ClientId, Incarnation};
    use crate::limits::Limits;
    use crate::outbox::{OutboxBound, OutboxBudget};

    fn client(counter: u64) -> Arc<Client> {
        let limits = Limits::default();
        let bound = OutboxBound {
            messages: limits.outbox_messages,
            bytes: limits.outbox_bytes,
        };
        let incarnation = Incarnation::from_u64(7).expect("an incarnation");
        let budget = Arc::new(OutboxBudget::new(limits.outboxes_bytes));
        let id = ClientId::new(incarnation, counter, 0);
        Arc::new(Client::new(
            (id, counter, 0),
            bound,
            budget,
            Arrival::default(),
        ))
    }

    fn listed(lists: &DirtyLists) -> usize {
        let lists = lists.lists().iter();
        lists.map(|list| list.clients.lock().len()).sum()
    }

    #[tokio::test]
    async fn they_are_held_back_until_the_future_pauses() {
        let lists = DirtyLists::new(2);
        let others = DirtyLists::new(2);
        lists.add(client(1));
        assert_eq!(listed(&lists), 1, "nothing holds it");
        let future = lists.hold(async {
            lists.add(client(2));
            lists.add(client(3));
            assert_eq!(listed(&lists), 1);
            others.add(client(4));
            assert_eq!(listed(&others), 1, "another node's");
            tokio::task::yield_now().await;
            assert_eq!(listed(&lists), 3);
            lists.add(client(5));
        });
        future.await;
        assert_eq!(listed(&lists), 4);
    }

    #[tokio::test]
    async fn they_are_not_held_back_for_long() {
        let lists = DirtyLists::new(1);
        let future = lists.hold(async {
            lists.add(client(1));
            let held = Instant::now();
            while held.elapsed() <= HOLD {
                std::hint::spin_loop();
            }
            lists.add(client(2));
            assert_eq!(listed(&lists), 2);
            lists.add(client(3));
            assert_eq!(listed(&lists), 2);
        });
        future.await;
        assert_eq!(listed(&lists), 3);
    }
}
