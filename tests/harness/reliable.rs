//! A client that speaks `jackfield.v1` (docs/protocol.md), and may come back as the same client.

use std::collections::VecDeque;
use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::{Client, End};

/// After how many messages the client acknowledges them.
const ACK_EVERY: u64 = 8;

/// A client that numbers its messages, and sends again what was not handled when it comes back.
#[derive(Debug)]
pub struct ReliableClient {
    client: Option<Client>,
    path: String,
    protocols: String,
    welcome: Value,
    /// The number of the last message that came.
    received: u64,
    /// The number of the last message that was handled.
    handled: u64,
    /// The messages after that one.
    unhandled: VecDeque<String>,
    /// Whether it tells the node what it has received.
    acknowledges: bool,
}

impl ReliableClient {
    /// Connects as a new client.
    pub async fn connect(address: SocketAddr, path: &str) -> anyhow::Result<ReliableClient> {
        ReliableClient::connect_with(address, path, "jackfield.v1").await
    }

    /// Connects as a new client that offers these subprotocols.
    pub async fn connect_with(
        address: SocketAddr,
        path: &str,
        protocols: &str,
    ) -> anyhow::Result<ReliableClient> {
        let mut client = ReliableClient {
            client: None,
            path: path.to_owned(),
            protocols: protocols.to_owned(),
            welcome: Value::Null,
            received: 0,
            handled: 0,
            unhandled: VecDeque::new(),
            acknowledges: true,
        };
        client.open(address, protocols.to_owned()).await?;
        ensure!(client.welcome["resumed"] == false, "{}", client.welcome);
        Ok(client)
    }

    /// It keeps to itself what it has received, from here on.
    pub fn acknowledge_nothing(&mut self) {
        self.acknowledges = false;
    }

    /// The client's id.
    pub fn id(&self) -> &str {
        self.welcome["client"].as_str().unwrap_or_default()
    }

    /// What the node has said first on its last connection.
    pub fn welcome(&self) -> &Value {
        &self.welcome
    }

    /// How many messages it has received.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The secret with which it comes back.
    pub fn token(&self) -> anyhow::Result<&str> {
        let token = self.welcome["resume"]["token"].as_str();
        token.context("the client may not come back")
    }

    /// From here on it connects with this path and query.
    pub fn use_path(&mut self, path: &str) {
        path.clone_into(&mut self.path);
    }

    /// Its connection ends, as when its network goes.
    pub fn cut(&mut self) -> anyhow::Result<()> {
        self.client.take().map_or(Ok(()), Client::vanish)
    }

    /// Lets go of its connection, which stays open. The client does not know it any more.
    pub fn let_go(&mut self) -> Option<Client> {
        self.client.take()
    }

    /// Comes back on another connection, perhaps at another node. Returns whether it is the same
    /// client.
    pub async fn come_back(&mut self, address: SocketAddr) -> anyhow::Result<bool> {
        let received = self.received;
        self.come_back_with(address, received).await
    }

    /// Comes back, and says that it has received so many messages.
    pub async fn come_back_with(
        &mut self,
        address: SocketAddr,
        received: u64,
    ) -> anyhow::Result<bool> {
        let (protocols, token) = (&self.protocols, self.token()?);
        let protocols = format!("{protocols}, jackfield.resume.{token}.{received}");
        let before = self.id().to_owned();
        self.open(address, protocols).await?;
        let is_same = self.welcome["resumed"] == true;
        ensure!(is_same == (self.id() == before), "{}", self.welcome);
        if !is_same {
            (self.received, self.handled) = (0, 0);
            self.unhandled.clear();
            return Ok(false);
        }
        let handled = self.welcome["received"].as_u64().context("a number")?;
        self.note_handled(handled)?;
        for text in self.unhandled.clone() {
            self.client()?.say(format!("m{text}").as_str()).await?;
        }
        Ok(true)
    }

    /// Sends a text message.
    pub async fn say(&mut self, text: &str) -> anyhow::Result<()> {
        self.unhandled.push_back(text.to_owned());
        self.client()?.say(format!("m{text}").as_str()).await
    }

    /// Sends a text as it is.
    pub async fn say_raw(&mut self, text: &str) -> anyhow::Result<()> {
        self.client()?.say(text).await
    }

    /// The next message from the plugin.
    pub async fn next(&mut self) -> anyhow::Result<Message> {
        loop {
            match self.next_frame().await? {
                Ok(message) => return Ok(message),
                Err(control) if control["type"] == "ack" => {
                    self.note_handled(control["received"].as_u64().context("a number")?)?;
                }
                Err(other) => bail!("it came: {other}"),
            }
        }
    }

    /// The next text from the plugin.
    pub async fn next_text(&mut self) -> anyhow::Result<String> {
        Ok(self.next().await?.to_text()?.to_owned())
    }

    /// The next control message, before any message from the plugin.
    pub async fn next_control(&mut self) -> anyhow::Result<Value> {
        match self.next_frame().await? {
            Ok(message) => bail!("a message came: {message:?}"),
            Err(control) => Ok(control),
        }
    }

    /// Reads to the end of the connection.
    pub async fn end(&mut self) -> anyhow::Result<End> {
        self.client()?.end().await
    }

    /// Leaves with a close frame.
    pub async fn leave_with(&mut self, code: u16, reason: &str) -> anyhow::Result<End> {
        self.client()?.leave_with(code, reason).await
    }

    async fn next_frame(&mut self) -> anyhow::Result<Result<Message, Value>> {
        let frame = self.client()?.next().await?;
        let message = match frame.to_text() {
            Ok(text) if text.starts_with('{') => {
                return Ok(Err(serde_json::from_str(text)?));
            }
            Ok(text) if frame.is_text() => {
                let text = text.strip_prefix('m').context("a text without its m")?;
                Message::text(text)
            }
            _ => frame,
        };
        self.received += 1;
        if self.acknowledges && self.received.is_multiple_of(ACK_EVERY) {
            let ack = json!({ "type": "ack", "received": self.received });
            // The connection may end just now: the node hears it when the client comes back.
            let _ = self.client()?.say(ack.to_string().as_str()).await;
        }
        Ok(Ok(message))
    }

    async fn open(&mut self, address: SocketAddr, protocols: String) -> anyhow::Result<()> {
        let headers = [("sec-websocket-protocol", protocols.as_str())];
        let mut client = Client::connect(address, &self.path, &headers).await?;
        ensure!(client.subprotocol() == Some("jackfield.v1"), "{client:?}");
        let welcome = client.next_text().await?;
        self.welcome = serde_json::from_str(&welcome)?;
        ensure!(self.welcome["type"] == "welcome", "{welcome} came first");
        self.client = Some(client);
        Ok(())
    }

    fn note_handled(&mut self, handled: u64) -> anyhow::Result<()> {
        while self.handled < handled {
            self.handled += 1;
            let known = self.unhandled.pop_front();
            known.context("a message was handled that was not sent")?;
        }
        ensure!(self.handled == handled, "handled was {handled} again");
        Ok(())
    }

    fn client(&mut self) -> anyhow::Result<&mut Client> {
        self.client.as_mut().context("it has no connection")
    }
}
