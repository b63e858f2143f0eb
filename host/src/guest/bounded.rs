//! A time limit for a guest's call, kept by the host.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::ticker::Ticker;
use super::trap::GivenUp;

/// Waits until `call` has ended, `wait` has passed, or the token `retired` is cancelled, if one is
/// given. Most calls end at the first poll; only the others get a timer. When `begun` changes, the
/// call has begun the next event of its turn, which has its own time.
///
/// # Errors
///
/// The time was over, or `retired` was cancelled, before the call had ended.
pub(super) async fn bounded<T>(
    call: impl Future<Output = T>,
    wait: Duration,
    ticker: &Arc<Ticker>,
    retired: Option<&CancellationToken>,
    begun: &AtomicU32,
) -> Result<T, GivenUp> {
    let mut call = pin!(call);
    let mut bound: Option<(u32, Pin<Box<_>>)> = None;
    poll_fn(|context| {
        let _running = ticker.run();
        if let Poll::Ready(value) = call.as_mut().poll(context) {
            return Poll::Ready(Ok(value));
        }
        let event = begun.load(Ordering::Relaxed);
        if bound.as_ref().is_none_or(|(bounded, _)| *bounded != event) {
            let cancelled = async move {
                match retired {
                    Some(retired) => retired.cancelled().await,
                    None => std::future::pending().await,
                }
            };
            let given_up = async move {
                tokio::select! {
                    () = tokio::time::sleep(wait) => GivenUp::TimedOut,
                    () = cancelled => GivenUp::Retired,
                }
            };
            bound = Some((event, Box::pin(given_up)));
        }
        match &mut bound {
            Some((_, given_up)) => given_up.as_mut().poll(context).map(Err),
            None => Poll::Pending,
        }
    })
    .await
}
