//! What all open streams of the API share: their number is limited, the rights of their callers are
//! checked again and again, and they end with the node.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::api::{Api, WATCHERS};
use super::problem::{Problem, Reason};
use super::tokens::{ApiCaller, ApiTokens};

/// A stream of answers to one caller.
pub(super) type AnswerStream<T> =
    Pin<Box<dyn futures_util::Stream<Item = Result<T, Status>> + Send>>;

/// The interval at which a caller's token is checked again.
const LOOK: Duration = Duration::from_secs(1);

/// An open stream and its caller.
pub(super) struct OpenStream {
    pub(super) caller: Arc<ApiCaller>,
    tokens: Arc<ApiTokens>,
    looks: Interval,
    ended: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Api {
    /// Opens a stream, if there is room for one more.
    pub(super) fn open_stream(&self, caller: Arc<ApiCaller>) -> Result<OpenStream, Problem> {
        let permit = self.watchers.clone().try_acquire_owned();
        let permit = permit.map_err(|_| {
            let message = format!("{WATCHERS} streams are open already");
            Problem::new(Reason::Overloaded, message)
        })?;
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(OpenStream {
            caller,
            tokens: self.tokens.clone(),
            looks,
            ended: self.view.ended(),
            _permit: permit,
        })
    }
}

impl OpenStream {
    /// Waits for what comes next. An error ends the stream.
    pub(super) async fn next<T>(&mut self, next: impl Future<Output = T>) -> Result<T, Problem> {
        let mut next = pin!(next);
        loop {
            tokio::select! {
                // A reader that is behind always has something to read: its token is looked at all
                // the same. And the end comes after what happened before it.
                biased;
                _ = self.looks.tick() => self.tokens.check_still(&self.caller)?,
                next = &mut next => return Ok(next),
                () = self.ended.cancelled() => {
                    return Err(Problem::new(Reason::Unreachable, "the node has ended"));
                }
            }
        }
    }
}

/// What a stream answers, one after another.
pub(super) trait StreamSource: Send + 'static {
    /// The type of one answer.
    type Item: Send + 'static;

    /// Waits for the next answer. An error ends the stream.
    fn next(&mut self) -> impl Future<Output = Result<Self::Item, Problem>> + Send;

    /// The stream of all answers, up to the first error.
    fn into_stream(self) -> AnswerStream<Self::Item>
    where
        Self: Sized,
    {
        let next = |source: Option<Self>| async {
            let mut source = source?;
            match source.next().await {
                Ok(answer) => Some((Ok(answer), Some(source))),
                Err(problem) => Some((Err(problem.into()), None)),
            }
        };
        Box::pin(futures_util::stream::unfold(Some(self), next))
    }
}
