//! One request and its answer, over a connection of its own, HTTP/1.1.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use wasmtime_wasi_http::{Error, Result, WasiBody};

use super::super::authorities::Authorities;
use super::address::resolve;
use super::allow::{Reach, Target};
use super::body::Counted;
use super::{Answered, Permit, said};
use crate::limits::{HTTP_HEAD_BYTES, HTTP_HEADERS};

/// How long each of a name's addresses is tried, where there are several.
const TRY: Duration = Duration::from_secs(1);

/// Whom TLS trusts: the authorities that browsers do, and those of a file.
#[derive(Clone)]
pub(in crate::plugin) struct Https(Arc<ClientConfig>);

impl Https {
    /// `authorities`: a file of more certificates, in PEM; empty: none.
    pub(in crate::plugin) fn new(authorities: &Path) -> anyhow::Result<Https> {
        let mut roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.into(),
        };
        if let Some(more) = Authorities::read("http.authorities", authorities)? {
            for certificate in more.certificates {
                roots.add(certificate).context("http.authorities")?;
            }
        }
        let config = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Https(Arc::new(config)))
    }
}

/// A request that is allowed, and its bounds.
pub(super) struct Exchange {
    pub(super) target: Target,
    pub(super) reach: Reach,
    pub(super) https: Https,
    pub(super) permit: Permit,
    pub(super) connected_until: Instant,
    pub(super) answered_until: Instant,
    pub(super) ended_until: Instant,
    pub(super) request_bytes: usize,
    pub(super) response_bytes: usize,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Exchange {
    /// Sends it, and waits for the answer's head.
    pub(super) async fn run(self, mut request: http::Request<WasiBody>) -> Result<Answered> {
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
            false => explained(error),
        })?;
        let limit = self.response_bytes;
        if answer.body().size_hint().lower() > limit as u64 {
            return Err(Error::HttpResponseBodySize(Some(limit as u64)));
        }
        let until = self.ended_until;
        let answer = answer.map(|body| {
            let body = body.map_err(explained);
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

    async fn connect(&self) -> Result<Box<dyn Stream>> {
        let addresses = resolve(&self.target, self.reach, &self.permit).await?;
        let stream = connect_to_one(&addresses).await?;
        // What is sent is sent at once.
        let _ = stream.set_nodelay(true);
        if !self.target.is_https {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(self.target.host.clone());
        let name = name.map_err(|_| Error::HttpRequestUriInvalid)?;
        let connector = TlsConnector::from(self.https.0.clone());
        let stream = connector.connect(name, stream).await;
        let failed = |error| said(format!("TLS with {}: {error}", self.target));
        Ok(Box::new(stream.map_err(failed)?))
    }
}

/// Waits for an answer and drives the connection meanwhile, which is gone when it has ended.
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

/// The first that answers.
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
                _ => said(format!("{address} cannot be connected to: {error}")),
            },
        };
    }
    Err(failed)
}

/// In the words of the contract, where it has some.
fn explained(error: hyper::Error) -> Error {
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        Error::ConnectionTerminated
    } else if error.is_parse_too_large() {
        Error::HttpResponseHeaderSectionSize(u32::try_from(HTTP_HEAD_BYTES).ok())
    } else if error.is_timeout() {
        Error::HttpResponseTimeout
    } else {
        said(format!("the answer is no HTTP, or broke off: {error}"))
    }
}
