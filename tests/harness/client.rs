//! A client on a real socket.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

use crate::{Frame, within};

/// What the system keeps for a client that does not read; small, so that a test need not
/// send much before a node notices.
const RECEIVE_BUFFER_BYTES: u32 = 64 << 10;

/// What carries a client's bytes.
pub trait Transport: AsyncRead + AsyncWrite + std::fmt::Debug + Send + Sync + Unpin {
    /// Lets the end of the connection be a reset, where there are any.
    fn set_zero_linger(&self) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

impl Transport for TcpStream {
    fn set_zero_linger(&self) -> std::io::Result<()> {
        TcpStream::set_zero_linger(self)
    }
}

impl Transport for UnixStream {}

impl Transport for TlsStream<TcpStream> {}

/// A client that was let in. Dropping it ends the TCP connection without a close frame.
#[derive(Debug)]
pub struct Client {
    socket: WebSocketStream<Box<dyn Transport>>,
    subprotocol: Option<String>,
}

/// How a connection ended, from its client's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With a close frame.
    Closed {
        /// 1005: it had no code.
        code: u16,
        /// Perhaps empty.
        reason: String,
    },
    /// Without one.
    Cut,
}

impl End {
    /// With this close frame.
    pub fn closed(code: u16, reason: &str) -> End {
        End::Closed {
            code,
            reason: reason.to_owned(),
        }
    }

    /// The code, as a browser would show it.
    pub fn code(&self) -> u16 {
        match self {
            End::Closed { code, .. } => *code,
            End::Cut => 1006,
        }
    }
}

/// A message was awaited, and the connection ended.
#[derive(Debug, thiserror::Error)]
#[error("a message was awaited, and the connection ended: {0:?}")]
pub(crate) struct Ended(pub(crate) End);

/// The HTTP status with which a client was turned away, if this error says so.
pub fn refusal_status(error: &anyhow::Error) -> Option<u16> {
    match error.downcast_ref() {
        Some(tungstenite::Error::Http(response)) => Some(response.status().as_u16()),
        _ => None,
    }
}

/// A text message.
pub fn text(text: &str) -> Message {
    Message::text(text)
}

/// A binary message.
pub fn binary(bytes: &[u8]) -> Message {
    Message::binary(bytes.to_vec())
}

impl Client {
    /// Connects; it is an error not to be let in.
    pub async fn connect(
        address: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Client> {
        let connecting = Client::try_connect(None, address, path, headers);
        within("the handshake", connecting)
            .await
            .with_context(|| format!("at {path}"))
    }

    /// Connects from another address of this machine.
    pub async fn connect_from(
        source: IpAddr,
        address: SocketAddr,
        path: &str,
    ) -> anyhow::Result<Client> {
        let connecting = Client::try_connect(Some(source), address, path, &[]);
        within("the handshake", connecting)
            .await
            .with_context(|| format!("from {source} at {path}"))
    }

    async fn try_connect(
        source: Option<IpAddr>,
        address: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Client> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(source) = source {
            socket.bind((source, 0).into())?;
        }
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        Client::over(stream, path, headers).await
    }

    /// Comes in over a connection that is there already.
    pub async fn over(
        stream: impl Transport + 'static,
        path: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Client> {
        let mut request = format!("ws://localhost{path}").into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().append(
                tungstenite::http::HeaderName::from_bytes(name.as_bytes())?,
                value.parse()?,
            );
        }
        let stream: Box<dyn Transport> = Box::new(stream);
        let config = WebSocketConfig::default().read_buffer_size(16 << 10);
        let (socket, response) =
            tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await?;
        let subprotocol = response.headers().get("sec-websocket-protocol");
        let subprotocol = subprotocol
            .map(|value| value.to_str().map(str::to_owned))
            .transpose()?;
        Ok(Client {
            socket,
            subprotocol,
        })
    }

    /// The subprotocol that the node answered.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Sends a message.
    pub async fn say(&mut self, message: impl Into<Message>) -> anyhow::Result<()> {
        within(
            "the node to take a message",
            self.socket.send(message.into()),
        )
        .await
    }

    /// Queues a message without writing it: many are sent at once by the next `flush`.
    pub async fn feed(&mut self, message: impl Into<Message>) -> anyhow::Result<()> {
        within(
            "the node to take a message",
            self.socket.feed(message.into()),
        )
        .await
    }

    /// Writes what `feed` has queued.
    pub async fn flush(&mut self) -> anyhow::Result<()> {
        within("the node to take messages", self.socket.flush()).await
    }

    /// Sends a frame, good or bad.
    pub async fn say_frame(&mut self, frame: &Frame) -> anyhow::Result<()> {
        self.say_bytes(&frame.to_bytes()).await
    }

    /// Sends bytes as they are.
    pub async fn say_bytes(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        within(
            "the node to take bytes",
            self.socket.get_mut().write_all(bytes),
        )
        .await
    }

    /// The next message; pings and pongs are not messages.
    pub async fn next(&mut self) -> anyhow::Result<Message> {
        match within("a message", self.receive()).await? {
            Ok(message) => Ok(message),
            Err(end) => Err(Ended(end).into()),
        }
    }

    /// The next message, which must be text.
    pub async fn next_text(&mut self) -> anyhow::Result<String> {
        let message = self.next().await?;
        ensure!(message.is_text(), "text was awaited: {message:?}");
        Ok(message.into_text()?.as_str().to_owned())
    }

    /// Waits for a ping, which is answered by the way.
    pub async fn next_ping(&mut self) -> anyhow::Result<()> {
        let pinged = async {
            loop {
                match self.socket.next().await.context("the connection ended")?? {
                    Message::Ping(_) => return self.socket.flush().await.map_err(Into::into),
                    Message::Pong(_) => {}
                    other => bail!("a ping was awaited: {other:?}"),
                }
            }
        };
        within("a ping", pinged).await
    }

    /// Reads to the end of the connection.
    pub async fn end(&mut self) -> anyhow::Result<End> {
        Ok(self.until_end().await?.1)
    }

    /// Reads to the end of the connection: what came before it, and how it ended.
    pub async fn until_end(&mut self) -> anyhow::Result<(Vec<Message>, End)> {
        let reading = async {
            let mut messages = Vec::new();
            loop {
                match self.receive().await? {
                    Ok(message) => messages.push(message),
                    Err(end) => return anyhow::Ok((messages, end)),
                }
            }
        };
        within("the end of the connection", reading).await
    }

    /// Leaves as a browser's `close()` does: a close frame without a code.
    pub async fn leave(&mut self) -> anyhow::Result<End> {
        self.send_close(None).await?;
        self.end().await
    }

    /// Leaves with a close frame's code and reason; answers the node's close frame.
    pub async fn leave_with(&mut self, code: u16, reason: &str) -> anyhow::Result<End> {
        self.say_goodbye(code, reason).await?;
        self.end().await
    }

    /// Sends a close frame, and stays for what comes before the node's.
    pub async fn say_goodbye(&mut self, code: u16, reason: &str) -> anyhow::Result<()> {
        let (code, reason) = (code.into(), reason.into());
        self.send_close(Some(CloseFrame { code, reason })).await
    }

    /// The connection ends without a close frame, by a reset: as when a machine dies and
    /// comes back.
    pub fn vanish(self) -> anyhow::Result<()> {
        self.socket.get_ref().set_zero_linger()?;
        Ok(())
    }

    async fn send_close(&mut self, frame: Option<CloseFrame>) -> anyhow::Result<()> {
        within("the node to take a close frame", self.socket.close(frame)).await
    }

    /// The next message, or the end.
    async fn receive(&mut self) -> anyhow::Result<Result<Message, End>> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(frame))) => {
                    self.finish().await;
                    let (code, reason) = frame.map_or((1005, String::new()), |f| {
                        (f.code.into(), f.reason.to_string())
                    });
                    return Ok(Err(End::Closed { code, reason }));
                }
                Some(Ok(message)) => return Ok(Ok(message)),
                Some(Err(error)) if is_cut(&error) => return Ok(Err(End::Cut)),
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(Err(End::Cut)),
            }
        }
    }

    /// Answers the close frame and waits for the node to end the connection, which is its
    /// part. However that goes, the close frame was the end.
    async fn finish(&mut self) {
        while let Some(Ok(_)) = self.socket.next().await {}
    }
}

fn is_cut(error: &tungstenite::Error) -> bool {
    matches!(
        error,
        tungstenite::Error::ConnectionClosed
            | tungstenite::Error::AlreadyClosed
            | tungstenite::Error::Io(_)
            | tungstenite::Error::Protocol(
                tungstenite::error::ProtocolError::ResetWithoutClosingHandshake
            )
    )
}
