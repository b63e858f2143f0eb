//! An HTTP server, good and bad, on loopback. What it was asked, it can tell.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// A server. It ends when it is dropped.
pub(crate) struct Web {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
    /// Its certificate, in PEM.
    pub(crate) certificate: String,
}

impl Web {
    /// One without TLS.
    pub(crate) async fn start() -> Result<Web> {
        Web::serve(None, String::new()).await
    }

    /// One with TLS, for `localhost`, whose certificate is its own.
    pub(crate) async fn start_with_tls() -> Result<Web> {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der());
        let key = key.map_err(|error| anyhow::anyhow!(error))?;
        let config = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)?;
        Web::serve(Some(TlsAcceptor::from(Arc::new(config))), own.cert.pem()).await
    }

    async fn serve(tls: Option<TlsAcceptor>, certificate: String) -> Result<Web> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let asking = asked.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (asked, tls) = (asking.clone(), tls.clone());
                // A client that goes away in the middle is what some tests are about.
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => answer(tls.accept(stream).await?, &asked).await,
                        None => answer(stream, &asked).await,
                    }
                });
            }
        });
        Ok(Web {
            address,
            asked,
            serving,
            certificate,
        })
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Where it is: `http://127.0.0.1:PORT`.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The first lines of what it was asked.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// One request, and what its path says is done about it.
async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    asked: &Mutex<Vec<String>>,
) -> Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(request)?;
    let first = head.lines().next().context("a first line")?.to_owned();
    asked.lock().push(first.clone());
    let path = first.split(' ').nth(1).context("a path")?.to_owned();
    let (path, query) = path.split_once('?').unwrap_or((&path, ""));
    match path {
        "/silent" => std::future::pending().await,
        "/hang-up" => {}
        "/no-http" => stream.write_all(b"SSH-2.0-server\r\n\r\n").await?,
        "/drip" => {
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nfirst";
            stream.write_all(head).await?;
            stream.flush().await?;
            std::future::pending::<()>().await;
        }
        "/endless" => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                .await?;
            let chunk = [b"1000\r\n", &[b'x'; 0x1000][..], b"\r\n"].concat();
            loop {
                stream.write_all(&chunk).await?;
            }
        }
        "/endless-head" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
            loop {
                stream.write_all(b"x-more: and more\r\n").await?;
            }
        }
        "/to" => {
            let head = format!("HTTP/1.1 302 Found\r\nlocation: {query}\r\n");
            end(&mut stream, &head, "").await?;
        }
        "/bytes" => {
            let body = "x".repeat(query.parse()?);
            end(&mut stream, "HTTP/1.1 200 OK\r\n", &body).await?;
        }
        // What was asked, and how many bytes came with it.
        "/echo" => {
            let bytes = body(&mut stream, &head).await?;
            let hosts = head
                .lines()
                .filter(|l| l.to_lowercase().starts_with("host:"));
            let hosts = hosts.collect::<Vec<_>>().join(", ");
            let told = format!("{first}; {hosts}; {bytes} bytes");
            end(&mut stream, "HTTP/1.1 200 OK\r\n", &told).await?;
        }
        _ => end(&mut stream, "HTTP/1.1 404 Not Found\r\n", "").await?,
    }
    Ok(())
}

async fn end(stream: &mut (impl AsyncWrite + Unpin), head: &str, body: &str) -> Result<()> {
    let bytes = body.len();
    let answer = format!("{head}content-length: {bytes}\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).await?;
    Ok(stream.shutdown().await?)
}

/// Reads a body, chunked or of a length, and tells how many bytes it had.
async fn body(stream: &mut (impl AsyncRead + Unpin), head: &str) -> Result<usize> {
    let head = head.to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    if let Some(length) = length {
        let mut body = vec![0; length.parse()?];
        return Ok(stream.read_exact(&mut body).await?);
    }
    let mut bytes = 0;
    while head.contains("transfer-encoding: chunked") {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(stream.read_u8().await?);
        }
        let size = usize::from_str_radix(str::from_utf8(&line)?.trim(), 16)?;
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).await?;
        if size == 0 {
            break;
        }
        bytes += size;
    }
    Ok(bytes)
}
