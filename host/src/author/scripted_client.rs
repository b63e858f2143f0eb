//! The scripted clients of a scenario: real WebSocket clients, whose messages are kept until a line
//! expects them.
//!
//! At most 10,000 messages wait for lines of one client.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::uri::PathAndQuery;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use ppp::v2::{Addresses, Builder, Command, IPv4, IPv6, Protocol, Version};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_util::task::AbortOnDropHandle;
use tungstenite::Message;
use tungstenite::handshake::client::Request;
use tungstenite::protocol::{CloseFrame, Role};

/// The most messages that wait for lines of one client.
const WAITING: usize = 10_000;

/// The code of a connection that has ended without a close frame.
const ABNORMAL: u16 = 1006;

/// The code of a close frame without one.
const NO_STATUS: u16 = 1005;

/// The most bytes of the reason for which a client is refused.
const REASON_BYTES: usize = 64 << 10;

/// The socket of a client.
type UpgradedSocket = WebSocketStream<TokioIo<Upgraded>>;

/// A client of a scenario that is connected, or was.
pub(super) struct ScriptedClient {
    /// The number of its node, from 1 on.
    pub(super) node: usize,
    /// The subprotocol that the plugin has chosen.
    pub(super) subprotocol: Option<String>,
    /// How many messages all nodes have handled when they have handled the last one of this client.
    pub(super) handled: u64,
    sink: SplitSink<UpgradedSocket, Message>,
    inbox: Arc<Mutex<Inbox>>,
    /// Whether the scenario itself has ended the connection.
    is_left: bool,
    _reading: AbortOnDropHandle<()>,
}

/// The answer of a node to a client that it does not accept.
pub(super) struct RefusedHandshake {
    pub(super) status: StatusCode,
    pub(super) reason: String,
}

/// What has come to a client.
#[derive(Default)]
struct Inbox {
    /// The messages that no line has expected yet.
    messages: VecDeque<Message>,
    /// The code and the reason with which the connection has ended.
    closed: Option<(u16, String)>,
    frames: u64,
    is_full: bool,
}

impl ScriptedClient {
    /// Connects a client to a node at this address, as itself.
    ///
    /// # Errors
    ///
    /// There is no WebSocket node at the address.
    pub(super) async fn connect(
        address: &str,
        node: usize,
        request: Request,
    ) -> anyhow::Result<Result<ScriptedClient, RefusedHandshake>> {
        ScriptedClient::connect_from(address, node, request, None).await
    }

    /// Connects a client to a node at this address, which takes it for one that comes from elsewhere.
    ///
    /// # Errors
    ///
    /// There is no WebSocket node at the address.
    pub(super) async fn connect_from(
        address: &str,
        node: usize,
        mut request: Request,
        from: Option<SocketAddr>,
    ) -> anyhow::Result<Result<ScriptedClient, RefusedHandshake>> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        stream
            .write_all(&proxy_header(from, stream.peer_addr()?)?)
            .await?;
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path
            .unwrap_or_else(|| PathAndQuery::from_static("/"))
            .into();
        let request = request.map(|()| Empty::<Bytes>::new());
        // Whatever the plugin chooses is let through, also what a browser would refuse.
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection.with_upgrades()));
        let response = sender.send_request(request).await;
        let response = response.context("the handshake failed")?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = response.status();
            let body = Limited::new(response.into_body(), REASON_BYTES)
                .collect()
                .await;
            let reason = body.map(|body| body.to_bytes()).unwrap_or_default();
            let reason = String::from_utf8_lossy(&reason).trim().to_owned();
            return Ok(Err(RefusedHandshake { status, reason }));
        }
        let chosen = response.headers().get(SEC_WEBSOCKET_PROTOCOL).cloned();
        let upgraded = hyper::upgrade::on(response).await?;
        let socket = TokioIo::new(upgraded);
        let socket = WebSocketStream::from_raw_socket(socket, Role::Client, None).await;
        let (sink, stream) = socket.split();
        let inbox = Arc::<Mutex<Inbox>>::default();
        let reading = tokio::spawn(fill(inbox.clone(), stream));
        Ok(Ok(ScriptedClient {
            node,
            subprotocol: chosen.map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned()),
            handled: 0,
            sink,
            inbox,
            is_left: false,
            _reading: AbortOnDropHandle::new(reading),
        }))
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub(super) async fn send(&mut self, message: Message) -> anyhow::Result<()> {
        if let Some((code, reason)) = self.closed() {
            bail!("the client is closed: {code} {reason}");
        }
        self.sink
            .send(message)
            .await
            .context("the connection broke")
    }

    /// Closes the connection, as a client does.
    ///
    /// # Errors
    ///
    /// The connection has ended already.
    pub(super) async fn close(&mut self, code: Option<u16>, reason: String) -> anyhow::Result<()> {
        let frame = code.map(|code| CloseFrame {
            code: code.into(),
            reason: reason.into(),
        });
        self.send(Message::Close(frame)).await?;
        self.is_left = true;
        Ok(())
    }

    /// The number of frames that have come.
    pub(super) fn frames(&self) -> u64 {
        self.inbox.lock().frames
    }

    /// Whether the client can send and get messages.
    pub(super) fn is_open(&self) -> bool {
        !self.is_left && self.inbox.lock().closed.is_none()
    }

    /// The code and the reason with which the node has closed the client, or the connection has ended.
    pub(super) fn closed(&self) -> Option<(u16, String)> {
        let state = self.inbox.lock();
        state.closed.clone().filter(|_| !self.is_left)
    }

    /// Takes the oldest message that no line has expected yet.
    pub(super) fn next(&self) -> Option<Message> {
        self.inbox.lock().messages.pop_front()
    }

    /// The messages that no line has expected yet.
    pub(super) fn waiting(&self) -> Vec<Message> {
        self.inbox.lock().messages.iter().cloned().collect()
    }

    /// Checks that all that has come was kept.
    ///
    /// # Errors
    ///
    /// More has come than is kept.
    pub(super) fn check_room(&self) -> anyhow::Result<()> {
        let is_full = self.inbox.lock().is_full;
        ensure!(
            !is_full,
            "more than {WAITING} messages came to one client and wait for their lines"
        );
        Ok(())
    }
}

/// The header of the PROXY protocol, without which the node does not take a connection.
fn proxy_header(from: Option<SocketAddr>, to: SocketAddr) -> io::Result<Vec<u8>> {
    let version = Version::Two | Command::Proxy;
    match from {
        Some(SocketAddr::V4(from)) => {
            let addresses = IPv4::new(*from.ip(), Ipv4Addr::LOCALHOST, from.port(), to.port());
            Builder::with_addresses(version, Protocol::Stream, addresses).build()
        }
        Some(SocketAddr::V6(from)) => {
            let addresses = IPv6::new(*from.ip(), Ipv6Addr::LOCALHOST, from.port(), to.port());
            Builder::with_addresses(version, Protocol::Stream, addresses).build()
        }
        None => {
            let local = Version::Two | Command::Local;
            Builder::with_addresses(local, Protocol::Unspecified, Addresses::Unspecified).build()
        }
    }
}

/// Takes what comes, up to the end of the connection.
async fn fill(inbox: Arc<Mutex<Inbox>>, mut stream: SplitStream<UpgradedSocket>) {
    let mut closed = (ABNORMAL, String::new());
    while let Some(Ok(message)) = stream.next().await {
        let mut inbox = inbox.lock();
        inbox.frames += 1;
        match message {
            Message::Text(_) | Message::Binary(_) if inbox.messages.len() < WAITING => {
                inbox.messages.push_back(message);
            }
            Message::Text(_) | Message::Binary(_) => inbox.is_full = true,
            Message::Close(frame) => {
                closed = frame.map_or((NO_STATUS, String::new()), |frame| {
                    (frame.code.into(), frame.reason.to_string())
                });
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
    inbox.lock().closed = Some(closed);
}
