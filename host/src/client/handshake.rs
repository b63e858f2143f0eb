//! The handshake: one HTTP request, which becomes a client, a page or a refusal.
//!
//! hyper reads it. All of it, `on-connect` included, has `handshake_timeout`; a connection
//! serves one request, so that nothing idles here. A client exists in the registry from
//! before `on-connect` on; if it is refused, or gives up, it vanishes without a trace.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL, UPGRADE, WWW_AUTHENTICATE,
};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tungstenite::error::{Error, ProtocolError};
use tungstenite::handshake::server::create_response;

use super::admission::{Full, Place};
use super::pages::{self, Body, text, upgrade_required};
use super::reader::Reader;
use super::session::Session;
use super::{Door, Files};
use crate::plugin::{self, Answer, Failure, Handshake, Plugin};
use crate::registry::{Client, Close, Closer, Happened, Namespace};

/// Bytes of a request's head. Beyond: 431. Cookies and tokens are large at times.
const HEAD_BYTES: usize = 16 << 10;

const TIMED_OUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Serves one connection up to its upgrade. Without `files` it is told that there are none.
pub(super) async fn shake_hands(door: Arc<Door>, socket: TcpStream, files: Option<Files>) {
    let Ok(address) = socket.peer_addr() else {
        return;
    };
    // Batching is done by the outbox, and never by waiting.
    let _ = socket.set_nodelay(true);
    let (read, write) = socket.into_split();
    let write = Arc::new(write);
    let io = TokioIo::new(Stream {
        read,
        write: write.clone(),
    });
    let timeout = door.registry.limits().handshake_timeout;
    let counters = door.registry.counters().clone();
    let answered = Arc::new(AtomicBool::new(false));
    let service = service_fn(|request| {
        let (door, answered) = (door.clone(), answered.clone());
        let file = files.as_ref().map(|files| files.connection.clone());
        async move {
            let mut response = match file {
                Some(file) => door.answer(request, address, file).await,
                None => busy(StatusCode::SERVICE_UNAVAILABLE, "the node is full\n"),
            };
            answered.store(true, Ordering::Relaxed);
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                // By hand, since hyper's own switch says it beside `Connection: Upgrade` too,
                // which many clients do not understand.
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .max_buf_size(HEAD_BYTES)
        .header_read_timeout(None)
        .serve_connection(io, service)
        .with_upgrades();
    match tokio::time::timeout(timeout, Box::pin(connection)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%address, %error, "a handshake broke off"),
        Err(_) => {
            counters.handshakes_timed_out.add_one();
            // Into the middle of another answer it must not fall.
            if !answered.load(Ordering::Relaxed) {
                let _ = write.try_write(TIMED_OUT);
            }
        }
    }
}

impl Door {
    async fn answer(
        &self,
        mut request: Request<Incoming>,
        address: SocketAddr,
        file: Arc<OwnedSemaphorePermit>,
    ) -> Response<Body> {
        if !asks_for_websocket(&request) {
            return self.page(&request).await;
        }
        let upgrade = hyper::upgrade::on(&mut request);
        let (parts, _) = request.into_parts();
        match self.plugins.at(parts.uri.path()) {
            None => self.nothing(),
            Some(plugin) if !plugin.is_open() => {
                busy(StatusCode::SERVICE_UNAVAILABLE, "the plugin does not run\n")
            }
            Some(plugin) => self.open(plugin, &parts, upgrade, address, file).await,
        }
    }

    /// A plugin's name leads to its pages; its other paths lead there, too.
    async fn page(&self, request: &Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        let below = path.strip_prefix('/').unwrap_or_default();
        let (name, rest) = match below.split_once('/') {
            Some((name, rest)) => (name, Some(rest)),
            None => (below, None),
        };
        let (plugin, rest) = match self.plugins.get(name) {
            Some(plugin) => (plugin, rest),
            None => match self.plugins.at(path) {
                Some(plugin) => (plugin, None),
                None => return self.nothing(),
            },
        };
        pages::serve(self.plugins.folder(), plugin.name(), rest, request).await
    }

    /// The answer at a path that nobody is known to have.
    fn nothing(&self) -> Response<Body> {
        match self.plugins.may_be_unknown() {
            true => busy(
                StatusCode::SERVICE_UNAVAILABLE,
                "the node has just started\n",
            ),
            false => text(StatusCode::NOT_FOUND, "no such plugin\n"),
        }
    }

    /// Lets the plugin decide, and answers.
    async fn open(
        &self,
        plugin: Arc<Plugin>,
        parts: &Parts,
        upgrade: OnUpgrade,
        address: SocketAddr,
        file: Arc<OwnedSemaphorePermit>,
    ) -> Response<Body> {
        let response = match accept_response(parts) {
            Ok(response) => response,
            Err(refusal) => return *refusal,
        };
        let Some(handshake) = read_handshake(parts, address) else {
            let why = "the query is not UTF-8 (RFC 3986: percent-encode it as UTF-8)\n";
            return text(StatusCode::BAD_REQUEST, why);
        };
        let place = match self.admission.admit(address.ip(), file) {
            Ok(place) => place,
            Err(full) => {
                self.registry.counters().handshakes_limited.add_one();
                return match full {
                    Full::Node => busy(StatusCode::SERVICE_UNAVAILABLE, "the node is full\n"),
                    Full::Address => busy(
                        StatusCode::TOO_MANY_REQUESTS,
                        "too many clients of this address\n",
                    ),
                };
            }
        };
        let arriving = Arriving::new(&plugin);
        let client = &arriving.unaccepted.client;
        match arriving.stay.on_connect(client, &handshake).await {
            Ok(Answer::Accepted { subprotocol, until }) => {
                self.registry.counters().clients_accepted.add_one();
                let id = client.id();
                plugin.namespace().happen(|| Happened::Connected(id));
                self.let_in(arriving, place, until, upgrade);
                with_subprotocol(response, subprotocol.as_deref())
            }
            Ok(Answer::Refused { status, reason }) => {
                self.registry.counters().handshakes_refused.add_one();
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
                text(status, reason)
            }
            Ok(Answer::Unauthorized { reason }) => {
                self.registry.counters().handshakes_refused.add_one();
                unauthorized(&reason)
            }
            Err(Failure::Trapped(_)) => {
                text(StatusCode::INTERNAL_SERVER_ERROR, "the server failed\n")
            }
            Err(Failure::Overloaded) => busy(StatusCode::SERVICE_UNAVAILABLE, "too busy\n"),
            Err(Failure::TooLarge) => text(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "the request is too large to go to another node\n",
            ),
            Err(Failure::Absent | Failure::Lost) => {
                busy(StatusCode::SERVICE_UNAVAILABLE, "the plugin does not run\n")
            }
        }
    }

    /// The client has been accepted: from here on it is owed an `on-close`.
    fn let_in(&self, arriving: Arriving, place: Place, until: Option<Instant>, upgrade: OnUpgrade) {
        let (client, stay) = arriving.arrived();
        let session = Session::new(client, stay, place);
        let message_bytes = self.registry.limits().message_bytes;
        tokio::spawn(async move {
            match upgraded(upgrade).await {
                Some((stream, read_already)) => {
                    session.client().outbox().attach(stream.write);
                    let reader = Reader::new(stream.read, &read_already, message_bytes);
                    // A task of its own: this one's memory holds what an upgrade needs.
                    tokio::spawn(session.run(reader, until));
                }
                None => session.vanished().await,
            }
        });
    }
}

async fn upgraded(upgrade: OnUpgrade) -> Option<(Stream, bytes::Bytes)> {
    let parts = upgrade.await.ok()?.downcast::<TokioIo<Stream>>().ok()?;
    Some((parts.io.into_inner(), parts.read_buf))
}

/// A client that asks to come in. It has its stay already: a drain waits for handshakes too.
struct Arriving {
    unaccepted: Unaccepted,
    stay: plugin::Session,
}

/// A client in the registry that has not been accepted: dropped, it is gone.
struct Unaccepted {
    client: Arc<Client>,
    /// Where it is; none: it has been accepted.
    namespace: Option<Arc<Namespace>>,
}

impl Arriving {
    fn new(plugin: &Arc<Plugin>) -> Arriving {
        let namespace = plugin.namespace();
        Arriving {
            stay: plugin.session(),
            unaccepted: Unaccepted {
                client: namespace.arrive(),
                namespace: Some(namespace.clone()),
            },
        }
    }

    fn arrived(self) -> (Arc<Client>, plugin::Session) {
        let mut accepted = self.unaccepted;
        accepted.namespace = None;
        (accepted.client.clone(), self.stay)
    }
}

impl Drop for Unaccepted {
    fn drop(&mut self) {
        if let Some(namespace) = &self.namespace {
            let close = Close {
                code: 1006,
                reason: String::new(),
                by: Closer::Node,
            };
            namespace.leave(&self.client, &close);
        }
    }
}

fn asks_for_websocket<B>(request: &Request<B>) -> bool {
    let values = request.headers().get_all(UPGRADE).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.eq_ignore_ascii_case("websocket"))
}

/// The answer that accepts, as RFC 6455, section 4.2.2, has it; or what is wrong.
fn accept_response(parts: &Parts) -> Result<Response<Body>, Box<Response<Body>>> {
    let mut request = Request::new(());
    *request.method_mut() = parts.method.clone();
    *request.version_mut() = parts.version;
    *request.headers_mut() = parts.headers.clone();
    match create_response(&request) {
        Ok(response) => Ok(response.map(|()| text(StatusCode::OK, "").into_body())),
        Err(Error::Protocol(ProtocolError::MissingSecWebSocketVersionHeader)) => Err(Box::new(
            upgrade_required("the WebSocket version must be 13\n"),
        )),
        Err(error) => Err(Box::new(text(
            StatusCode::BAD_REQUEST,
            format!("{error}\n"),
        ))),
    }
}

fn busy(status: StatusCode, reason: &str) -> Response<Body> {
    let mut response = text(status, reason);
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn unauthorized(reason: &str) -> Response<Body> {
    let mut response = text(StatusCode::UNAUTHORIZED, format!("{reason}\n"));
    response
        .headers_mut()
        .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

fn with_subprotocol(mut response: Response<Body>, subprotocol: Option<&str>) -> Response<Body> {
    // It was offered in a header, so it fits one.
    if let Some(value) = subprotocol.and_then(|name| HeaderValue::from_str(name).ok()) {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
    response
}

/// None: its query is not UTF-8, and what stands for that in a text would make one of two people.
fn read_handshake(parts: &Parts, address: SocketAddr) -> Option<Handshake> {
    let query = parts.uri.query().unwrap_or_default();
    percent_decode_str(query).decode_utf8().ok()?;
    let headers = parts.headers.iter().map(|(name, value)| {
        (
            name.as_str().to_owned(),
            String::from_utf8_lossy(value.as_bytes()).into_owned(),
        )
    });
    let subprotocols = parts.headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter();
    let subprotocols = subprotocols.filter_map(|value| value.to_str().ok());
    Some(Handshake {
        path: parts.uri.path().to_owned(),
        query: form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect(),
        headers: headers.collect(),
        remote_address: address.to_string(),
        subprotocols: subprotocols
            .flat_map(|value| value.split(','))
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect(),
    })
}

/// A socket in two halves: the write half is shared, to answer 408 after hyper has given up
/// and to become the outbox's.
struct Stream {
    read: OwnedReadHalf,
    write: Arc<OwnedWriteHalf>,
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.write.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::task::ready!((*self.write).as_ref().poll_write_ready(context))?;
                }
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Dropping the last half shuts down.
        Poll::Ready(Ok(()))
    }
}
