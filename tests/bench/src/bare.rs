//! The bare server: what WebSockets cost with tokio-tungstenite and nothing else, done well.
//!
//! One thread; no delay; a read buffer of 4 KiB (the default of 128 KiB is zero-filled at each
//! read); everything that has arrived is read and answered before one flush. A group is a
//! bounded channel for each member, of which everything is taken before one flush.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

/// Where a client is answered with what it sent.
pub(crate) const ECHO: &str = "/echo";
/// Where it joins the group.
pub(crate) const SUBSCRIBE: &str = "/subscribe";
/// Where what it sends goes to the group.
pub(crate) const PUBLISH: &str = "/publish";

const READ_BUFFER_BYTES: usize = 4 << 10;

/// Messages that wait for one member: as many as a node lets wait.
const WAITING: usize = 1024;

type Members = Arc<Mutex<Vec<mpsc::Sender<Utf8Bytes>>>>;

/// Serves until the process is ended.
pub(crate) fn serve(listen: SocketAddr) -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(accept(listen))
}

async fn accept(listen: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let clients = listener.local_addr()?;
    let listening = serde_json::json!({ "listening": { "clients": clients } });
    writeln!(std::io::stdout(), "{listening}")?;
    let members = Members::default();
    loop {
        let (socket, _) = listener.accept().await?;
        let members = members.clone();
        tokio::spawn(async move {
            // How a client ends is not what is measured here.
            let _ = serve_client(socket, members).await;
        });
    }
}

async fn serve_client(socket: TcpStream, members: Members) -> Result<()> {
    socket.set_nodelay(true)?;
    let mut path = String::new();
    // The callback's type is tungstenite's.
    #[allow(clippy::result_large_err)]
    let note_path = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        request.uri().path().clone_into(&mut path);
        Ok(response)
    };
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
    let mut client = accept_hdr_async_with_config(socket, note_path, Some(config)).await?;
    match path.as_str() {
        SUBSCRIBE => {
            let (sender, receiver) = mpsc::channel(WAITING);
            members.lock().push(sender);
            client.send("joined".into()).await?;
            pass_on(client, receiver).await
        }
        PUBLISH => {
            client.send("welcome".into()).await?;
            publish(client, &members).await
        }
        _ => echo(client).await,
    }
}

async fn echo(mut client: WebSocketStream<TcpStream>) -> Result<()> {
    while let Some(message) = client.next().await {
        let mut arrived = Some(message);
        while let Some(message) = arrived {
            let message = message?;
            if message.is_text() || message.is_binary() {
                client.feed(message).await?;
            }
            arrived = client.next().now_or_never().flatten();
        }
        client.flush().await?;
    }
    Ok(())
}

async fn pass_on(
    mut client: WebSocketStream<TcpStream>,
    mut waiting: mpsc::Receiver<Utf8Bytes>,
) -> Result<()> {
    loop {
        tokio::select! {
            message = client.next() => match message {
                Some(message) => drop(message?),
                None => return Ok(()),
            },
            Some(text) = waiting.recv() => {
                let mut next = Some(text);
                while let Some(text) = next {
                    client.feed(Message::Text(text)).await?;
                    next = waiting.try_recv().ok();
                }
                client.flush().await?;
            }
        }
    }
}

async fn publish(mut client: WebSocketStream<TcpStream>, members: &Members) -> Result<()> {
    while let Some(message) = client.next().await {
        let Message::Text(text) = message? else {
            continue;
        };
        for member in members.lock().iter() {
            // Not `send().await`: it would yield in the middle of a burst.
            let _ = member.try_send(text.clone());
        }
    }
    Ok(())
}
