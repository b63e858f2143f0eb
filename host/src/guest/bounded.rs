//! A time limit for a guest's call, kept by the host.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::ticker::Ticker;
use super::trap::GivenUp;

/// Waits until `call` has ended, `wait` has passed, or the token `retired` is cancelled, if one is
/// given. Most calls end at the first poll; only the others get a timer.
///
/// # Errors
///
/// The time was over, or `retired` was cancelled, before the call had ended.
pub(super) async fn bounded<T>(
    call: impl Future<Output = T>,
    wait: Duration,
    ticker: &Arc<Ticker>,
    retired: Option<&CancellationToken>,
) -> Result<T, GivenUp> {
    let mut call = pin!(call);
    let mut bound = None;
    poll_fn(|context| {
        let _running = ticker.run();
        if let Poll::Ready(value) = call.as_mut().poll(context) {
            return Poll::Ready(Ok(value));
        }
        let bound = bound.get_or_insert_with(|| {
            let cancelled = async move {
                match retired {
                    Some(retired) => retired.cancelled().await,
                    None => std::future::pending().await,
                }
            };
            Box::pin(async move {
                tokio::select! {
                    () = tokio::time::sleep(wait) => GivenUp::TimedOut,
                    () = cancelled => GivenUp::Retired,
                }
            })
        });
        bound.as_mut().poll(context).map(Err)
    })
    .await
}
