//! Dirty lists: the clients whose outboxes have something to write.
//!
//! Each sweeper has one list. A client is always on the same list, and at most once.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::client::Client;

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
