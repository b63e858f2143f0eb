//! How long a test waits for what must come.

use std::time::Duration;

use anyhow::Context as _;

/// Generous: tests share two cores, and only a failing one waits this long.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits for `what`, and fails with its name when it does not come.
pub async fn within<T, E>(what: &str, work: impl Future<Output = Result<T, E>>) -> anyhow::Result<T>
where
    anyhow::Error: From<E>,
{
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(done) => done.map_err(anyhow::Error::from),
        Err(late) => Err(late).with_context(|| format!("waited {DEADLINE:?} for {what}")),
    }
}
