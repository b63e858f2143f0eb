//! A bounded queue in which requests of peers wait for another part of the node.

use parking_lot::Mutex;
use tokio::sync::mpsc;

/// A queue of what peers ask of another part of the node.
pub(super) struct Queue<T> {
    pub(super) sender: mpsc::Sender<T>,
    receiver: Mutex<Option<mpsc::Receiver<T>>>,
}

impl<T> Queue<T> {
    /// An empty queue, in which so many requests may wait.
    pub(super) fn new(waiting: usize) -> Queue<T> {
        let (sender, receiver) = mpsc::channel(waiting);
        Queue {
            sender,
            receiver: Mutex::new(Some(receiver)),
        }
    }

    /// Takes the receiver. Only the first call returns it.
    pub(super) fn take_receiver(&self) -> Option<mpsc::Receiver<T>> {
        self.receiver.lock().take()
    }
}
