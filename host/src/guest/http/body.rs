//! Bodies with a size limit; the body of a response also has a deadline.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error, Result};

/// A body with a limit on its size, in bytes.
pub(super) struct Counted<B> {
    body: B,
    limit: usize,
    left: usize,
    kind: BodyKind,
}

enum BodyKind {
    /// The body of a request, which is sent. The sender only sees that the body broke off; this
    /// flag then says that the body was too large.
    Request(Arc<AtomicBool>),
    /// The body of a response, which must be complete before this timer ends.
    Answer(Pin<Box<Sleep>>),
}

impl<B> Counted<B> {
    /// The body of a request. `is_too_large` becomes true if the body exceeds the limit.
    pub(super) fn request(body: B, limit: usize, is_too_large: Arc<AtomicBool>) -> Counted<B> {
        Counted {
            body,
            limit,
            left: limit,
            kind: BodyKind::Request(is_too_large),
        }
    }

    /// The body of a response, which must be complete when `until` ends.
    pub(super) fn answer(body: B, limit: usize, until: Sleep) -> Counted<B> {
        Counted {
            body,
            limit,
            left: limit,
            kind: BodyKind::Answer(Box::pin(until)),
        }
    }

    fn too_large(&self) -> Error {
        let limit = Some(self.limit as u64);
        match &self.kind {
            BodyKind::Request(is_too_large) => {
                is_too_large.store(true, Ordering::Relaxed);
                Error::HttpRequestBodySize(limit)
            }
            BodyKind::Answer(_) => Error::HttpResponseBodySize(limit),
        }
    }
}

impl<B> Body for Counted<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Error>,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                match self.left.checked_sub(bytes) {
                    Some(left) => {
                        self.left = left;
                        Poll::Ready(Some(Ok(frame)))
                    }
                    None => Poll::Ready(Some(Err(self.too_large()))),
                }
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(match &self.kind {
                // The connection has the same end, and may see it first.
                BodyKind::Answer(until) if until.deadline() <= Instant::now() => {
                    Error::HttpResponseTimeout
                }
                _ => error.into(),
            }))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match &mut self.kind {
                BodyKind::Request(_) => Poll::Pending,
                BodyKind::Answer(until) => {
                    let late = || Some(Err(Error::HttpResponseTimeout));
                    until.as_mut().poll(context).map(|()| late())
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
