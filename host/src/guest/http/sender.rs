//! One request and its response, over a connection of its own, in HTTP/1.1.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use wasmtime_wasi_http::{Error, Result, WasiBody};

use super::address::resolve;
use super::body::Counted;
use super::error::{internal_error, to_wasi_error};
use super::grant::RequestPermit;
use super::https::Https;
use crate::limits::{HTTP_HEAD_BYTES, HTTP_HEADERS};
use crate::manifest::{AllowedAddresses, RequestTarget};

/// How long a connection to each of a name's addresses is tried, if the name has several. The last
/// address may take longer.
const TRY: Duration = Duration::from_secs(1);

/// A response, and the future that keeps its connection running.
pub(super) type HttpAnswer = (
    http::Response<WasiBody>,
    Box<dyn Future<Output = Result<()>> + Send>,
);

/// A request that is allowed, with its limits.
pub(super) struct Exchange {
    pub(super) target: RequestTarget,
    pub(super) reach: AllowedAddresses,
    pub(super) https: Https,
    pub(super) permit: RequestPermit,
    pub(super) connected_until: Instant,
    pub(super) answered_until: Instant,
    pub(super) ended_until: Instant,
    pub(super) request_bytes: usize,
    pub(super) response_bytes: usize,
}

trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

impl Exchange {
    /// Sends the request, and waits for the head of the response.
    pub(super) async fn run(self, mut request: http::Request<WasiBody>) -> Result<HttpAnswer> {
        let stream = timeout_at(self.connected_until, self.connect());
        let stream = stream.await.map_err(|_| Error::ConnectionTimeout)??;
        // Who is asked stands in `Host`: in the first line it would be for a proxy.
        let path = request.uri().path_and_query().map(ToString::to_string);
        *request.uri_mut() = path
            .unwrap_or_else(|| "/".to_owned())
            .parse()
            .map_err(|_| Error::HttpRequestUriInvalid)?;
        let is_too_large = Arc::new(AtomicBool::new(false));
        let request =
            request.map(|body| Counted::request(body, self.request_bytes, is_too_large.clone()));

        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HTTP_HEAD_BYTES)
            .max_headers(HTTP_HEADERS)
            .handshake(TokioIo::new(stream))
            .await?;
        let mut connection = Some(Box::pin(connection));
        let answer = while_connected(sender.send_request(request), &mut connection);
        let answer = timeout_at(self.answered_until, answer).await;
        let answer = answer.map_err(|_| Error::HttpResponseTimeout)?;
        let answer = answer.map_err(|error| match is_too_large.load(Ordering::Relaxed) {
            true => Error::HttpRequestBodySize(Some(self.request_bytes as u64)),
            false => to_wasi_error(error),
        })?;
        let limit = self.response_bytes;
        if answer.body().size_hint().lower() > limit as u64 {
            return Err(Error::HttpResponseBodySize(Some(limit as u64)));
        }
        let until = self.ended_until;
        let answer = answer.map(|body| {
            let body = body.map_err(to_wasi_error);
            Counted::answer(body, limit, sleep_until(until)).boxed_unsync()
        });
        let permit = self.permit;
        let going_on = async move {
            // A guest that never reads on does not keep the connection.
            if let Some(connection) = connection {
                let _ = timeout_at(until, connection).await;
            }
            drop(permit);
            Ok(())
        };
        Ok((answer, Box::new(going_on)))
    }

    async fn connect(&self) -> Result<Box<dyn ByteStream>> {
        let addresses = resolve(&self.target, self.reach, &self.permit).await?;
        let stream = connect_to_one(&addresses).await?;
        // What is sent is sent at once.
        let _ = stream.set_nodelay(true);
        if !self.target.is_https {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(self.target.host.clone());
        let name = name.map_err(|_| Error::HttpRequestUriInvalid)?;
        let connector = TlsConnector::from(self.https.config());
        let stream = connector.connect(name, stream).await;
        let failed = |error| internal_error(format!("TLS with {}: {error}", self.target));
        Ok(Box::new(stream.map_err(failed)?))
    }
}

/// Waits for a response, and drives the connection meanwhile. When the connection has ended,
/// `connection` becomes `None`.
async fn while_connected<T>(
    answer: impl Future<Output = T>,
    connection: &mut Option<impl Future + Unpin>,
) -> T {
    let mut answer = pin!(answer);
    loop {
        let Some(connected) = connection.as_mut() else {
            return answer.await;
        };
        tokio::select! {
            answer = &mut answer => return answer,
            // Why it has ended is what the answer says.
            _ = connected => {}
        }
        *connection = None;
    }
}

/// Connects to the first address that accepts a connection.
async fn connect_to_one(addresses: &[SocketAddr]) -> Result<TcpStream> {
    let mut failed = Error::DestinationNotFound;
    for (number, address) in addresses.iter().enumerate() {
        let connecting = TcpStream::connect(address);
        let connected = match number + 1 == addresses.len() {
            true => connecting.await,
            false => match tokio::time::timeout(TRY, connecting).await {
                Ok(connected) => connected,
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            },
        };
        failed = match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
                io::ErrorKind::TimedOut => Error::ConnectionTimeout,
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                    Error::DestinationIpUnroutable
                }
                _ => internal_error(format!("{address} cannot be connected to: {error}")),
            },
        };
    }
    Err(failed)
}
