//! A guest's call, bounded from outside.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::ticker::Ticker;
use super::trap::GivenUp;

/// Waits for a call, but not beyond `wait` and not once `retired` is cancelled, if there is
/// such a token. Most calls end at the first poll; only the others get a timer.
///
/// # Errors
///
/// The call was given up.
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
