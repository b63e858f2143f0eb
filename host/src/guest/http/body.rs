//! Bodies, counted as they pass, and an answer's with a time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error, Result};

/// A body that may have so many bytes.
pub(super) struct Counted<B> {
    body: B,
    limit: usize,
    left: usize,
    kind: Kind,
}

enum Kind {
    /// It goes out. Whoever sends it only hears that it broke off, and looks here why.
    Request(Arc<AtomicBool>),
    /// It comes in, until then.
    Answer(Pin<Box<Sleep>>),
}

impl<B> Counted<B> {
    /// A request's; the flag will say that it was too large.
    pub(super) fn request(body: B, limit: usize, is_too_large: Arc<AtomicBool>) -> Counted<B> {
        Counted {
            body,
            limit,
            left: limit,
            kind: Kind::Request(is_too_large),
        }
    }

    /// An answer's.
    pub(super) fn answer(body: B, limit: usize, until: Sleep) -> Counted<B> {
        Counted {
            body,
            limit,
            left: limit,
            kind: Kind::Answer(Box::pin(until)),
        }
    }

    fn too_large(&self) -> Error {
        let limit = Some(self.limit as u64);
        match &self.kind {
            Kind::Request(is_too_large) => {
                is_too_large.store(true, Ordering::Relaxed);
                Error::HttpRequestBodySize(limit)
            }
            Kind::Answer(_) => Error::HttpResponseBodySize(limit),
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
                Kind::Answer(until) if until.deadline() <= Instant::now() => {
                    Error::HttpResponseTimeout
                }
                _ => error.into(),
            }))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match &mut self.kind {
                Kind::Request(_) => Poll::Pending,
                Kind::Answer(until) => {
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
