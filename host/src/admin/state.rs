//! Copies of the plugins' state, over HTTP alone: it may be larger than any message.
//!
//! One copy is under way at a time, since each takes the room of the state on the disk.

use std::fs::File;
use std::io::{self, Seek as _};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::io::ReaderStream;

use super::api::Api;
use super::audit::{AuditRecord, AuditedRequest};
use super::listener::Authenticated;
use super::problem::{Problem, Reason};
use super::tokens::ApiCaller;
use crate::guest::Services;
use crate::keyvalue::StoreFailure;

/// How long the next bytes of a copy may take, either way.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much of a copy is read at once, in bytes.
const CHUNK_BYTES: usize = 64 << 10;

/// A request about the whole state.
struct StateRequest;

impl AuditedRequest for StateRequest {}

/// Answers a copy of the state of all plugins, as it is now.
pub(super) async fn backup(
    State(api): State<Arc<Api>>,
    Authenticated(caller): Authenticated,
    method: Method,
) -> Result<Response, Problem> {
    if method == Method::HEAD {
        let message = "a copy is made for a GET only";
        return Err(Problem::new(Reason::WrongMethod, message));
    }
    let record = AuditRecord::new(&caller, "backup_state", "", &StateRequest);
    let copied = async {
        let (services, permit) = begin(&api, &caller)?;
        // On a task of its own: it goes on if the caller hangs up, and so does its permit.
        let copying = tokio::spawn(async move {
            let copy = services.keyvalue().backup().await;
            copy.map(|copy| (copy, permit))
        });
        Ok(copying.await.map_err(|_| interrupted())??)
    };
    let copied = copied.await;
    record.end(&copied);
    let (mut copy, permit) = copied?;
    copy.rewind().map_err(failed)?;
    let bytes = copy.metadata().map_err(failed)?.len();
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, bytes.to_string()),
    ];
    Ok((headers, Body::from_stream(sent(copy, permit))).into_response())
}

/// The bytes of a copy, up to its end, or until nobody has taken the next ones for a while.
fn sent(
    copy: File,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        let copy = tokio::fs::File::from_std(copy);
        let mut chunks = ReaderStream::with_capacity(copy, CHUNK_BYTES);
        while let Some(chunk) = chunks.next().await {
            let taken = tokio::time::timeout(PATIENCE, sender.send(chunk)).await;
            if !matches!(taken, Ok(Ok(()))) {
                // The length was said before, so whoever reads on knows that this is not all.
                break;
            }
        }
        drop(permit);
    });
    tokio_stream::wrappers::ReceiverStream::new(receiver)
}

/// Replaces the state of all plugins by the copy in the body of the request.
pub(super) async fn restore(
    State(api): State<Arc<Api>>,
    Authenticated(caller): Authenticated,
    request: Request,
) -> Result<Response, Problem> {
    let record = AuditRecord::new(&caller, "restore_state", "", &StateRequest);
    let received = async {
        let (services, permit) = begin(&api, &caller)?;
        let copy = services.keyvalue().file_for_copy().await?;
        receive(request.into_body(), &copy).await?;
        Ok((services, permit, copy))
    };
    let (services, permit, copy) = match received.await {
        Ok(received) => received,
        Err(problem) => {
            let problem = Err(problem);
            record.end(&problem);
            return problem;
        }
    };
    // From here on it is done, also if the caller hangs up.
    let restoring = tokio::spawn(async move {
        let restored = services.keyvalue().restore(copy).await;
        drop(permit);
        let restored = restored.map_err(Problem::from);
        record.end(&restored);
        restored
    });
    let entries = restoring.await.map_err(|_| interrupted())??;
    Ok(Json(json!({ "entries": entries })).into_response())
}

/// The services of the node, and the permit for one copy, if the caller may change the whole node.
fn begin(api: &Api, caller: &ApiCaller) -> Result<(Arc<Services>, OwnedSemaphorePermit), Problem> {
    caller.check_node()?;
    let services = api.view.services().ok_or_else(|| {
        let message = "the node has no state of plugins, or none yet";
        Problem::new(Reason::Unreachable, message)
    })?;
    let permit = api.copies.clone().try_acquire_owned().map_err(|_| {
        let message = "another copy of the state is under way: try again later";
        Problem::new(Reason::Overloaded, message)
    })?;
    Ok((services, permit))
}

/// Writes a body into a file. Where that fails, the body is read to its end all the same: whoever
/// still sends does not hear why.
async fn receive(body: Body, copy: &File) -> Result<(), Problem> {
    let mut file = tokio::fs::File::from_std(copy.try_clone().map_err(failed)?);
    let mut body = body.into_data_stream();
    let mut written = Ok(());
    loop {
        let next = tokio::time::timeout(PATIENCE, body.next()).await;
        let next = next
            .map_err(|_| Problem::invalid(format!("nothing of the copy came for {PATIENCE:?}")))?;
        let Some(bytes) = next else { break };
        let bytes = bytes
            .map_err(|error| Problem::invalid(format!("the copy did not come whole: {error}")))?;
        if written.is_ok() {
            written = file.write_all(&bytes).await;
        }
    }
    written.map_err(failed)?;
    file.flush().await.map_err(failed)
}

fn failed(error: io::Error) -> Problem {
    Problem::new(Reason::Failed, format!("the copy failed: {error}"))
}

fn interrupted() -> Problem {
    Problem::new(Reason::Failed, "the copy was interrupted")
}

impl From<StoreFailure> for Problem {
    fn from(failure: StoreFailure) -> Problem {
        let reason = match failure {
            StoreFailure::Refused(_) => Reason::InvalidArgument,
            StoreFailure::Failed(_) => Reason::Failed,
        };
        Problem::new(reason, failure.to_string())
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_copy_that_nobody_takes_or_sends_ends() {
        let copies = Arc::new(Semaphore::new(1));
        let permit = copies.clone().try_acquire_owned().expect("a permit");
        let copy = tempfile::tempfile().expect("a file");
        copy.set_len(10 * CHUNK_BYTES as u64).expect("a size");
        let _nobody_reads = sent(copy, permit);
        let began = Instant::now();
        let _another = copies.acquire().await.expect("it is open");
        assert!(began.elapsed() >= PATIENCE);

        let copy = tempfile::tempfile().expect("a file");
        let began = Instant::now();
        let silent = Body::from_stream(futures_util::stream::pending::<io::Result<Bytes>>());
        let refused = receive(silent, &copy).await.expect_err("nothing comes");
        assert!(format!("{refused:?}").contains("nothing of the copy came for 30s"));
        assert!(began.elapsed() >= PATIENCE);
    }
}
