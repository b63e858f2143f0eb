//! `jackfield connect`: a client in the terminal.

use std::io::IsTerminal as _;

use anyhow::{Context as _, bail};
use clap::Args;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderName, HeaderValue};
use tokio::io::AsyncBufReadExt as _;
use tokio_tungstenite::connect_async;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::handshake::client::Request;
use tungstenite::{Error, Message};

use super::dev::DevAddresses;
use super::project::{Project, ProjectFlags};
use crate::log::indented;
use crate::stdout::print;

/// To what the client connects.
#[derive(Args)]
pub struct ConnectFlags {
    #[command(flatten)]
    project: ProjectFlags,
    /// The URL, `ws://HOST:PORT/NAME` or `wss://…`; or what follows the plugin's path, such as
    /// `'?name=ada'`, for the plugin that `jackfield dev` runs.
    #[arg(default_value = "")]
    url: String,
    /// A header of the handshake; may be repeated.
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// A subprotocol that is offered; may be repeated.
    #[arg(long, value_name = "NAME")]
    subprotocol: Vec<String>,
    /// A token, which is sent in `Authorization: Bearer`.
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

/// Connects, and ends with the connection.
pub(super) fn connect(flags: &ConnectFlags) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(talk(flags));
    // Whoever sits at the terminal need not type one more line.
    runtime.shutdown_background();
    ended
}

async fn talk(flags: &ConnectFlags) -> anyhow::Result<()> {
    let request = request(flags)?;
    // What follows may have a token.
    let url = request.uri().to_string();
    let url = url.split('?').next().unwrap_or_default();
    let socket = match connect_async(request).await {
        Ok((socket, _)) => socket,
        Err(Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            let body = indented(String::from_utf8_lossy(&body).trim());
            bail!("{url} refused the client: {} {body}", response.status());
        }
        Err(error) => return Err(error).with_context(|| format!("{url} cannot be reached")),
    };
    if std::io::stdin().is_terminal() {
        eprintln!("connected to {url}: each line is a message, and ctrl-d ends it");
    }
    let (mut sink, mut stream) = socket.split();
    let mut lines = tokio::io::BufReader::new(tokio::io::stdin()).lines();
    let mut is_open = true;
    loop {
        tokio::select! {
            line = lines.next_line(), if is_open => match line? {
                Some(line) => sink.send(Message::text(line)).await?,
                None => {
                    is_open = false;
                    sink.close().await?;
                }
            },
            message = stream.next() => match message {
                Some(Ok(Message::Text(text))) => print(&format!("{}\n", indented(&text)))?,
                Some(Ok(Message::Binary(bytes))) => print(&format!("({} bytes)\n", bytes.len()))?,
                Some(Ok(Message::Close(frame))) => {
                    if let Some(frame) = frame {
                        let reason = indented(&frame.reason);
                        eprintln!("closed: {} {reason}", u16::from(frame.code));
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) | None => return Ok(()),
                Some(Err(error)) => return Err(error).context("the connection broke"),
            },
        }
    }
}

fn request(flags: &ConnectFlags) -> anyhow::Result<Request> {
    let url = match flags.url.starts_with("ws://") || flags.url.starts_with("wss://") {
        true => flags.url.clone(),
        false => {
            let project = Project::find(&flags.project.project)
                .context("a URL begins with ws:// or wss://, and is not needed within a project")?;
            let addresses = DevAddresses::of(&project)?;
            format!("ws://{}/{}{}", addresses.clients, project.name, flags.url)
        }
    };
    let mut request = url
        .as_str()
        .into_client_request()
        .with_context(|| format!("{url} is no URL"))?;
    let headers = request.headers_mut();
    for header in &flags.header {
        let (name, value) = header
            .split_once(':')
            .with_context(|| format!("--header {header}: write it as NAME: VALUE"))?;
        let name =
            HeaderName::try_from(name.trim()).with_context(|| format!("--header {header}"))?;
        headers.append(name, HeaderValue::try_from(value.trim())?);
    }
    if let Some(token) = &flags.token {
        headers.insert(
            http::header::AUTHORIZATION,
            format!("Bearer {token}").try_into()?,
        );
    }
    if !flags.subprotocol.is_empty() {
        let offered = flags.subprotocol.join(", ");
        headers.insert(http::header::SEC_WEBSOCKET_PROTOCOL, offered.try_into()?);
    }
    Ok(request)
}
