//! The questions and events that a peer was sent, and that wait for their answers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::peer_event::Failed;
use super::wire::answer::Answer;

/// The questions and events for one peer that wait for their answers.
#[derive(Debug)]
pub(super) struct Questions {
    waiting: Mutex<HashMap<u64, Waiting>>,
    next: AtomicU64,
}

/// The sender and the kind of a question or event that waits for its answer.
#[derive(Debug)]
struct Waiting {
    sender: oneshot::Sender<Result<Answer, Failed>>,
    kind: AskKind,
}

/// The kind of a request to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AskKind {
    /// A question about the peer's clients.
    Question,
    /// An event of a client here, or a backend's call, which the peer is to handle.
    Event,
}

/// A question or an event for a peer. When `Asked` is dropped, nobody waits for the answer any
/// more.
pub(super) struct Asked<'a> {
    questions: &'a Questions,
    id: u64,
    answer: oneshot::Receiver<Result<Answer, Failed>>,
}

impl Asked<'_> {
    /// Returns the number that the answer carries, too.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Waits for the answer, but only as long as the peer is there.
    pub(super) async fn answer(mut self) -> Result<Answer, Failed> {
        (&mut self.answer).await.unwrap_or(Err(Failed::Gone))
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.questions.waiting.lock().remove(&self.id);
    }
}

impl Questions {
    /// Creates an empty set. The first number is the caller's: a peer may still answer what it was
    /// asked before it was forgotten, and no number may be used again.
    pub(super) fn new(first: u64) -> Questions {
        Questions {
            waiting: Mutex::default(),
            next: AtomicU64::new(first),
        }
    }

    /// Registers a question or an event, which is about to be sent.
    pub(super) fn begin(&self, kind: AskKind) -> Asked<'_> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().insert(id, Waiting { sender, kind });
        Asked {
            questions: self,
            id,
            answer,
        }
    }

    /// Hands an answer to the code that waits for it. If nobody waits any more, the answer is too
    /// late and dropped.
    pub(super) fn answer(&self, id: u64, answer: Result<Answer, Failed>) {
        let waiting = self.waiting.lock().remove(&id);
        if let Some(waiting) = waiting {
            let _ = waiting.sender.send(answer);
        }
    }

    /// Ends the questions and events that the peer has not seen. Whoever sent them may ask another
    /// node.
    pub(super) fn end_unsent(&self, ids: Vec<u64>) {
        for id in ids {
            self.answer(id, Err(Failed::Untold));
        }
    }

    /// Ends all questions and events, because the peer is gone. Returns how many of them were
    /// events.
    pub(super) fn end_all(&self) -> usize {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        let events = waiting
            .into_values()
            .filter(|waiting| waiting.kind == AskKind::Event);
        events.count()
    }
}
