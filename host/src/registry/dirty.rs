//! Dirty lists: the clients whose outboxes have something to write.
//!
//! One list for each sweeper; a client is always on the same one, and at most once.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::client::Client;

/// All of a node's dirty lists.
#[derive(Debug)]
pub struct DirtyLists(Box<[Arc<DirtyList>]>);

/// One sweeper's list. As long as the node has clients at most: each is on it once.
#[derive(Debug, Default)]
pub struct DirtyList {
    clients: Mutex<Vec<Arc<Client>>>,
    added: Notify,
}

/// Clients gathered while a delivery walks an index, added at its end: a lock for each list
/// and delivery instead of one for each recipient.
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

    /// Adds one client.
    pub fn add(&self, client: Arc<Client>) {
        let list = &self.0[self.index(&client)];
        list.clients.lock().push(client);
        list.added.notify_one();
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
        client.id().counter() as usize % self.0.len()
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
        for (list, clients) in self.lists.0.iter().zip(&mut self.gathered) {
            if !clients.is_empty() {
                list.clients.lock().append(clients);
                list.added.notify_one();
            }
        }
    }
}
