//! Handing over the sockets of a node to the process that replaces it.
//!
//! A node that starts asks the node that runs for its listening sockets, over a Unix socket. Both
//! have them then, and the kernel's queue of new connections belongs to both. So nobody is refused
//! while one process takes the place of the other.
//!
//! The running node sends a line of JSON, a list with the name of each socket, and the sockets
//! themselves beside its first byte (`SCM_RIGHTS` of unix(7)), in the same order. The new process
//! sends `REPLACED` as soon as it needs the other no more, and the running node drains. A new
//! process that ends before changes nothing.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::unix_socket::{self, UnixSocketConfig, UnixSocketFile};

/// The most sockets that are handed over.
const SOCKETS: usize = 64;

/// The longest list of names, in bytes.
const LIST_BYTES: u64 = 64 << 10;

/// The time in which the sockets must have been handed over.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What the new process sends when it takes the place of the other.
const REPLACED: u8 = b'r';

/// A listening socket of a node, under the name by which the next process asks for it.
#[derive(Debug)]
pub struct HandedSocket {
    name: String,
    socket: OwnedFd,
    /// The file of a Unix socket, which the next process keeps.
    file: Option<Arc<UnixSocketFile>>,
}

/// The sockets of the node that runs, and the way to replace it. If no node runs, there are none.
#[derive(Debug, Default)]
pub struct InheritedSockets {
    former: Option<UnixStream>,
    sockets: Vec<(String, OwnedFd)>,
}

/// The Unix socket where the next process asks.
#[derive(Debug)]
pub struct HandoverPort {
    listener: UnixListener,
    _file: UnixSocketFile,
    sockets: Vec<HandedSocket>,
}

impl HandedSocket {
    pub(super) fn new(
        name: String,
        socket: BorrowedFd<'_>,
        file: Option<Arc<UnixSocketFile>>,
    ) -> io::Result<HandedSocket> {
        let socket = socket.try_clone_to_owned()?;
        Ok(HandedSocket { name, socket, file })
    }
}

impl InheritedSockets {
    /// Asks the node that listens at a path for its sockets. With an empty path, nobody is asked.
    ///
    /// # Errors
    ///
    /// Returns an error when a node is there and does not answer as it should.
    pub async fn ask(path: &Path) -> anyhow::Result<InheritedSockets> {
        if path.as_os_str().is_empty() {
            return Ok(InheritedSockets::default());
        }
        let mut former = match UnixStream::connect(path).await {
            Err(error) if is_nobody(&error) => return Ok(InheritedSockets::default()),
            connected => connected.with_context(|| format!("handover: {}", path.display()))?,
        };
        let received = timeout(ANSWER_TIMEOUT, receive(&mut former)).await;
        let received = received.map_err(anyhow::Error::new).flatten();
        let sockets = received.with_context(|| {
            format!(
                "the node that listens at handover = {:?} does not hand its sockets over; it may \
                 be about to end, then start this one again",
                path.display().to_string()
            )
        })?;
        let names: Vec<_> = sockets.iter().map(|(name, _)| &**name).collect();
        tracing::info!(
            sockets = names.join(", "),
            "another node hands its sockets over"
        );
        Ok(InheritedSockets {
            former: Some(former),
            sockets,
        })
    }

    /// Whether there is a node that is to be replaced.
    pub fn has_former(&self) -> bool {
        self.former.is_some()
    }

    /// Takes the socket of this name.
    pub(crate) fn take(&mut self, name: &str) -> Option<OwnedFd> {
        let position = self.sockets.iter().position(|(found, _)| found == name)?;
        Some(self.sockets.swap_remove(position).1)
    }

    /// Tells the other node that it has been replaced. It drains then.
    pub async fn replace(&mut self) -> anyhow::Result<()> {
        match &mut self.former {
            Some(former) => {
                let told = former.write_all(&[REPLACED]).await;
                told.context("the node that was to be replaced has gone")
            }
            None => Ok(()),
        }
    }

    /// Waits until the other node has ended.
    pub async fn wait_for_end(&mut self) -> io::Result<()> {
        match &mut self.former {
            Some(former) => former.read_to_end(&mut Vec::new()).await.map(drop),
            None => Ok(()),
        }
    }
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

impl HandoverPort {
    /// Listens at a path for the next process, whose place there the node takes from the one before.
    ///
    /// # Errors
    ///
    /// Returns an error when there are too many sockets, or when the path cannot be listened at.
    pub fn open(
        path: &Path,
        sockets: Vec<HandedSocket>,
        inherited: &InheritedSockets,
    ) -> anyhow::Result<Option<HandoverPort>> {
        if path.as_os_str().is_empty() {
            return Ok(None);
        }
        ensure!(
            sockets.len() <= SOCKETS,
            "handover: more than {SOCKETS} sockets cannot be handed over"
        );
        let config = UnixSocketConfig {
            mode: "0600".to_owned(),
            ..UnixSocketConfig::default()
        };
        let opened = match inherited.has_former() {
            true => unix_socket::replace(path, 1, &config),
            false => unix_socket::listen(path, 1, &config),
        };
        let named = || format!("handover: cannot listen at {}", path.display());
        let (listener, file) = opened.with_context(named)?;
        Ok(Some(HandoverPort {
            listener,
            _file: file,
            sockets,
        }))
    }

    /// Waits until another process has taken the place of this node.
    pub async fn replaced(&self) {
        loop {
            let served = match self.listener.accept().await {
                Ok((stream, _)) => self.hand_over(stream).await,
                Err(error) => {
                    tokio::time::sleep(ANSWER_TIMEOUT).await;
                    Err(error.into())
                }
            };
            match served {
                Ok(true) => return,
                Ok(false) => tracing::warn!("the process that asked for the sockets has ended"),
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "the sockets could not be handed over");
                }
            }
        }
    }

    /// Gives a process the sockets. Returns whether it has replaced this one.
    async fn hand_over(&self, mut stream: UnixStream) -> anyhow::Result<bool> {
        timeout(ANSWER_TIMEOUT, send(&mut stream, &self.sockets)).await??;
        tracing::info!("another process has asked for the sockets");
        // It loads its plugins first, for as long as that takes.
        let mut answer = [0];
        if stream.read(&mut answer).await? == 0 || answer != [REPLACED] {
            return Ok(false);
        }
        for socket in &self.sockets {
            if let Some(file) = &socket.file {
                file.leave();
            }
        }
        // Left open: its end tells the other process that this one has ended, and has released its
        // files.
        std::mem::forget(stream.into_std()?);
        Ok(true)
    }
}

async fn send(stream: &mut UnixStream, sockets: &[HandedSocket]) -> anyhow::Result<()> {
    let names: Vec<_> = sockets.iter().map(|socket| &*socket.name).collect();
    let list = serde_json::to_string(&names)? + "\n";
    let files: Vec<_> = sockets.iter().map(|socket| socket.socket.as_fd()).collect();
    let sent = stream.async_io(Interest::WRITABLE, || {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(SOCKETS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&files));
        let list = [IoSlice::new(list.as_bytes())];
        Ok(sendmsg(&*stream, &list, &mut control, SendFlags::NOSIGNAL)?)
    });
    let sent = sent.await?;
    stream.write_all(&list.as_bytes()[sent..]).await?;
    Ok(())
}

async fn receive(stream: &mut UnixStream) -> anyhow::Result<Vec<(String, OwnedFd)>> {
    let mut files = Vec::new();
    let mut first = [0];
    let received = stream.async_io(Interest::READABLE, || {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(SOCKETS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [IoSliceMut::new(&mut first)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(&*stream, &mut bytes, &mut control, flags)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                files.extend(rights);
            }
        }
        Ok(received.bytes)
    });
    if received.await? == 0 {
        bail!("it has closed the connection");
    }
    let mut list = first.to_vec();
    let mut rest = BufReader::new(stream.take(LIST_BYTES));
    rest.read_until(b'\n', &mut list).await?;
    let names: Vec<String> = serde_json::from_slice(&list).context("its list of sockets")?;
    ensure!(
        names.len() == files.len(),
        "it has named {} sockets and handed over {}",
        names.len(),
        files.len()
    );
    Ok(names.into_iter().zip(files).collect())
}
