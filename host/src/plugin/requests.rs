//! Requests for loads. The task that looks at the folder handles them, since it begins all loads.

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Mutex, mpsc};

/// The most requests that wait.
const WAITING: usize = 16;

/// The requests of one kind that wait for the task that begins loads.
pub(super) struct Requests<T> {
    asking: mpsc::Sender<T>,
    asked: Mutex<mpsc::Receiver<T>>,
}

/// The node has ended.
#[derive(Debug)]
pub(super) struct NodeEnded;

impl<T> Default for Requests<T> {
    fn default() -> Requests<T> {
        let (asking, asked) = mpsc::channel(WAITING);
        let asked = Mutex::new(asked);
        Requests { asking, asked }
    }
}

impl<T> Requests<T> {
    /// Asks for something, unless too many requests wait.
    pub(super) fn try_ask(&self, request: T) -> Result<(), TrySendError<T>> {
        self.asking.try_send(request)
    }

    /// Asks for something, once there is room.
    ///
    /// # Errors
    ///
    /// The node has ended.
    pub(super) async fn ask(&self, request: T) -> Result<(), NodeEnded> {
        self.asking.send(request).await.map_err(|_| NodeEnded)
    }

    /// Drops the requests that wait, and takes no more.
    pub(super) async fn end(&self) {
        let mut asked = self.asked.lock().await;
        asked.close();
        while asked.try_recv().is_ok() {}
    }

    /// Waits for the next request.
    pub(super) async fn next(&self) -> T {
        match self.asked.lock().await.recv().await {
            Some(request) => request,
            // The sender is beside it.
            None => std::future::pending().await,
        }
    }
}
