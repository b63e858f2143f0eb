//! A time limit for a guest's call, kept by the host, and the call's turns on the processors.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::task::Poll;

use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::event_times::EventProgress;
use super::processors::{ProcessorShare, ProcessorTurn};
use super::trap::GivenUp;

/// Waits until `call` has ended, the guest's `wait_timeout` has passed, or the token `retired` is
/// cancelled, if one is given. Most calls end at the first poll; only the others get a timer. When
/// the number of `progress` changes, the call has begun the next event of its turn, which has its
/// own time.
///
/// The time also passes while the call waits for a processor. So no event keeps its instance for
/// longer, whatever else the node does.
///
/// # Errors
///
/// The time was over, or `retired` was cancelled, before the call had ended.
pub(super) async fn bounded<T>(
    call: impl Future<Output = T>,
    guest: &Context,
    retired: Option<&CancellationToken>,
    progress: &EventProgress,
) -> Result<T, GivenUp> {
    let mut call = pin!(call);
    let share = ProcessorShare {
        processors: &guest.processors,
        usage: &guest.usage.processor,
        weight: guest.limits.cpu_weight,
        identity: &guest.identity,
    };
    let mut turn = ProcessorTurn::default();
    let mut bound: Option<(u32, Pin<Box<_>>)> = None;
    poll_fn(|context| {
        if let Poll::Ready(value) = turn.poll_guest(share, call.as_mut(), context) {
            return Poll::Ready(Ok(value));
        }
        let event = progress.begun.load(Ordering::Relaxed);
        if bound.as_ref().is_none_or(|(bounded, _)| *bounded != event) {
            progress.is_pending();
            let cancelled = async move {
                match retired {
                    Some(retired) => retired.cancelled().await,
                    None => std::future::pending().await,
                }
            };
            let limit = guest.limits.wait_timeout;
            let given_up = async move {
                tokio::select! {
                    () = tokio::time::sleep(limit) => GivenUp::TimedOut,
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
