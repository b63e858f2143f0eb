//! A TCP connection by hand, for handshakes that no client library would make.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::within;

/// A connection.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    read: Vec<u8>,
}

/// An HTTP answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: String,
}

/// What a client library sends to come in at `path`.
pub fn upgrade_request(path: &str, headers: &[(&str, &str)]) -> String {
    let mut request = format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request + "\r\n"
}

impl Raw {
    /// Connects, and says nothing yet.
    pub async fn connect(address: SocketAddr) -> anyhow::Result<Raw> {
        Raw::over(TcpStream::connect(address)).await
    }

    /// Connects from another address of this machine.
    pub async fn connect_from(source: IpAddr, address: SocketAddr) -> anyhow::Result<Raw> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((source, 0).into())?;
        Raw::over(socket.connect(address)).await
    }

    async fn over(connecting: impl Future<Output = io::Result<TcpStream>>) -> anyhow::Result<Raw> {
        let stream = within("the TCP connection", connecting).await?;
        stream.set_nodelay(true)?;
        Ok(Raw {
            stream,
            read: Vec::new(),
        })
    }

    /// Sends bytes as they are.
    pub async fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        within("the node to take bytes", self.stream.write_all(bytes)).await
    }

    /// The next HTTP answer.
    pub async fn response(&mut self) -> anyhow::Result<Response> {
        within("an HTTP answer", self.read_response()).await
    }

    /// The next line of what has no end; none: it has ended.
    pub async fn line(&mut self) -> anyhow::Result<Option<String>> {
        let line = async {
            loop {
                if let Some(end) = find(&self.read, b"\n") {
                    let line = String::from_utf8(self.read.drain(..=end).collect())?;
                    return anyhow::Ok(Some(line.trim_end().to_owned()));
                }
                if self.read_some().await? == 0 {
                    return Ok(None);
                }
            }
        };
        within("a line", line).await
    }

    /// The next bytes, exactly so many.
    pub async fn bytes(&mut self, count: usize) -> anyhow::Result<Vec<u8>> {
        let bytes = async {
            while self.read.len() < count {
                let bytes = self.read_some().await?;
                anyhow::ensure!(bytes > 0, "the connection ended: {:?}", self.seen());
            }
            Ok(self.read.drain(..count).collect())
        };
        within("bytes", bytes).await
    }

    /// Waits until the node ends the connection, and answers what came before.
    pub async fn rest(mut self) -> anyhow::Result<Vec<u8>> {
        let read = within("the end of the connection", async {
            while self.read_some().await? > 0 {}
            anyhow::Ok(())
        });
        // A reset is an end as well; what was read before it counts.
        match read.await {
            Err(error) if error.root_cause().is::<io::Error>() => {}
            ended => ended?,
        }
        Ok(self.read)
    }

    /// The connection itself, once the handshake is over.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    async fn read_response(&mut self) -> anyhow::Result<Response> {
        let head_end = loop {
            if let Some(end) = find(&self.read, b"\r\n\r\n") {
                break end;
            }
            let bytes = self.read_some().await?;
            anyhow::ensure!(
                bytes > 0,
                "the connection ended without an answer: {:?}",
                self.seen()
            );
        };
        let head = String::from_utf8(self.read.drain(..head_end + 4).collect())?;
        let mut response = parse_head(&head).with_context(|| format!("not HTTP: {head:?}"))?;
        let length = response
            .headers
            .get("content-length")
            .map_or("0", String::as_str)
            .parse()?;
        while self.read.len() < length {
            let bytes = self.read_some().await?;
            anyhow::ensure!(bytes > 0, "the body ended early: {:?}", self.seen());
        }
        response.body = String::from_utf8(self.read.drain(..length).collect())?;
        Ok(response)
    }

    async fn read_some(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.read).await
    }

    fn seen(&self) -> String {
        String::from_utf8_lossy(&self.read).into_owned()
    }
}

fn parse_head(head: &str) -> Option<Response> {
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    Some(Response {
        status,
        headers: headers.collect(),
        body: String::new(),
    })
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}
