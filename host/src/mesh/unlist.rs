//! The end of a node's entry at a register or in etcd, when the node drains.

use std::time::Duration;

use tonic::Status;

/// How long a node that drains tries to take itself off a list. After that, its entry stays until
/// its lease has run out.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The pause between two attempts.
const RETRY: Duration = Duration::from_millis(100);

/// Attempts `remove` until it succeeds, for as long as `TIMEOUT`. The list may be unreachable just
/// now, and whoever finds this node there meanwhile dials it in vain.
pub(super) async fn unlist<F>(remove: impl Fn() -> F)
where
    F: Future<Output = Result<(), Status>>,
{
    let removed = async {
        while remove().await.is_err() {
            tokio::time::sleep(RETRY).await;
        }
    };
    let _ = tokio::time::timeout(TIMEOUT, removed).await;
}
