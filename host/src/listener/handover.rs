//! Handing over the sockets of a node to the process that replaces it.
//!
//! A node that starts asks the node that runs for its listening sockets, over a Unix socket. Both
//! have them then, and the kernel's queue of new connections belongs to both. So nobody is refused
//! while one process takes the place of the other.
//!
//! The running node sends a line of JSON: a list with the name of each socket, and the sockets
//! themselves beside its first byte (`SCM_RIGHTS` of unix(7)), in the same order. Or it sends a
//! text, the reason why it does not hand them over. The new process sends `REPLACED` as soon as it
//! needs the other no more, and the running node drains. A new process that ends before changes
//! nothing. The running node sends `ENDING` if it ends by itself meanwhile. The connection stays open
//! until the process of the running node has ended.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use parking_lot::Mutex;
use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::unix_socket::{HiddenSocket, UnixSocketConfig, UnixSocketFile, check_left_over};

/// The most sockets that are handed over.
const SOCKETS: usize = 64;

/// The longest list of names, in bytes.
const LIST_BYTES: u64 = 64 << 10;

/// The time in which the sockets must have been handed over.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The interval at which the log says that a process still waits for another one to end.
const STILL: Duration = Duration::from_secs(10);

/// The pause after an error of the socket where processes ask.
const REST: Duration = Duration::from_millis(100);

/// How many processes may wait for their answer.
const BACKLOG: u32 = 16;

/// What the new process sends when it takes the place of the other.
const REPLACED: u8 = b'r';

/// What the running node sends when it ends by itself, while another process has its sockets.
const ENDING: u8 = b'e';

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

/// The Unix socket where the next process will ask. Until it is published, the node that runs is
/// asked.
#[derive(Debug)]
pub struct PreparedHandover {
    hidden: HiddenSocket,
    sockets: Vec<HandedSocket>,
}

/// The Unix socket where the next process asks.
#[derive(Debug)]
pub struct HandoverPort {
    listener: UnixListener,
    _file: UnixSocketFile,
    sockets: Vec<HandedSocket>,
    /// The connection of the process that has the sockets, and has not replaced this one yet.
    asker: Mutex<Option<Arc<UnixStream>>>,
}

/// What the running node answers.
#[derive(Deserialize)]
#[serde(untagged)]
enum HandoverAnswer {
    Names(Vec<String>),
    Refusal(String),
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
        let user = former.peer_cred()?.uid();
        let own = rustix::process::geteuid().as_raw();
        ensure!(
            user == own,
            "handover: a process of another user (number {user}) listens at {}",
            path.display()
        );
        let received = timeout(ANSWER_TIMEOUT, receive(&mut former)).await;
        let received = received.map_err(anyhow::Error::new).flatten();
        let sockets = received.with_context(|| {
            format!(
                "the node that listens at {} does not hand its sockets over: end it, or set another \
                 path in handover",
                path.display()
            )
        })?;
        let names: Vec<_> = sockets.iter().map(|(name, _)| &**name).collect();
        let (names, process) = (names.join(", "), process_of(&former));
        tracing::info!(
            process,
            sockets = names,
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
        Some(self.sockets.remove(position).1)
    }

    /// Closes the sockets that nobody has taken.
    pub(crate) fn close_the_rest(&mut self) {
        self.sockets.clear();
    }

    /// Tells the other node that it has been replaced. It drains then.
    pub async fn replace(&mut self) {
        if let Some(former) = &mut self.former
            && let Err(error) = former.write_all(&[REPLACED]).await
        {
            tracing::warn!(%error, "the other node has ended by itself");
        }
    }

    /// Waits until the process of the other node has ended.
    pub async fn wait_for_end(&mut self) {
        let Some(former) = &mut self.former else {
            return;
        };
        let process = process_of(former);
        let mut said = Vec::new();
        // An error, too, means that the process has ended.
        while timeout(STILL, former.read_to_end(&mut said)).await.is_err() {
            tracing::info!(process, "still waiting for the other node to end");
        }
    }

    /// Whether the other node ends by itself, or has ended.
    pub fn former_ends(&self) -> bool {
        let Some(former) = &self.former else {
            return false;
        };
        let is_waiting = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        !former
            .try_read(&mut [0])
            .is_err_and(|error| is_waiting(&error))
    }
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// The number of the process at the other end, or 0 if it is not known.
fn process_of(stream: &UnixStream) -> i32 {
    let process = stream.peer_cred().ok().and_then(|peer| peer.pid());
    process.unwrap_or_default()
}

impl PreparedHandover {
    /// Listens for the next process, which will ask at a path. Without a node that is asked there now,
    /// the path must be free.
    ///
    /// # Errors
    ///
    /// Returns an error when there are too many sockets, or when the path cannot be listened at.
    pub fn new(
        path: &Path,
        sockets: Vec<HandedSocket>,
        inherited: &InheritedSockets,
    ) -> anyhow::Result<PreparedHandover> {
        let named = || format!("handover: cannot listen at {}", path.display());
        if !inherited.has_former() {
            check_left_over(path).with_context(named)?;
        }
        ensure!(
            sockets.len() <= SOCKETS,
            "handover: more than {SOCKETS} sockets cannot be handed over"
        );
        let config = UnixSocketConfig {
            mode: "0600".to_owned(),
            ..UnixSocketConfig::default()
        };
        let hidden = HiddenSocket::bind(path, BACKLOG, &config).with_context(named)?;
        Ok(PreparedHandover { hidden, sockets })
    }

    /// Takes the place of the node that runs: from now on, this node is asked.
    ///
    /// # Errors
    ///
    /// Returns an error when the file cannot be moved to its path.
    pub fn publish(self) -> anyhow::Result<HandoverPort> {
        let (listener, file) = self.hidden.publish().context("handover")?;
        Ok(HandoverPort {
            listener,
            _file: file,
            sockets: self.sockets,
            asker: Mutex::default(),
        })
    }
}

impl HandoverPort {
    /// Takes the files of the Unix sockets over from the node that was replaced.
    pub fn own_files(&self, config: &UnixSocketConfig) {
        for file in self.files() {
            file.own(config);
        }
    }

    fn files(&self) -> impl Iterator<Item = &Arc<UnixSocketFile>> {
        self.sockets
            .iter()
            .filter_map(|socket| socket.file.as_ref())
    }

    /// Waits until another process has taken the place of this node.
    pub async fn replaced(&self) {
        loop {
            let served = match self.listener.accept().await {
                Ok((stream, _)) => self.hand_over(stream).await,
                Err(error) => {
                    tokio::time::sleep(REST).await;
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
        let process = process_of(&stream);
        timeout(ANSWER_TIMEOUT, send(&mut stream, &self.sockets)).await??;
        tracing::info!(process, "another process has asked for the sockets");
        let stream = Arc::new(stream);
        *self.asker.lock() = Some(stream.clone());
        let is_replaced = self.wait_for_answer(&stream, process).await;
        match is_replaced {
            true => self.leave(),
            false => drop(self.asker.lock().take()),
        }
        Ok(is_replaced)
    }

    /// Waits for the answer of the process that has the sockets. It loads its plugins first, for as
    /// long as that takes. Others are told to wait.
    async fn wait_for_answer(&self, stream: &UnixStream, process: i32) -> bool {
        loop {
            tokio::select! {
                ready = stream.readable() => {
                    let mut answer = [0];
                    match ready.and_then(|()| stream.try_read(&mut answer)) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        read => return read.is_ok_and(|bytes| bytes == 1) && answer == [REPLACED],
                    }
                }
                other = self.listener.accept() => match other {
                    Ok((other, _)) => {
                        let why = format!("process {process} has them already, and starts");
                        let line = serde_json::json!(why).to_string() + "\n";
                        let _ = other.try_write(line.as_bytes());
                        tracing::warn!(process = process_of(&other), why, "no sockets for a process");
                    }
                    // The process has no file left.
                    Err(_) => tokio::time::sleep(REST).await,
                },
            }
        }
    }

    /// Leaves the sockets to the process that has asked for them, if there is one.
    pub fn leave(&self) {
        let Some(asker) = self.asker.lock().take() else {
            return;
        };
        for file in self.files() {
            file.leave();
        }
        let _ = asker.try_write(&[ENDING]);
        // Never closed: its end tells the other process that this one has ended, and has released
        // its files.
        std::mem::forget(asker);
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
        bail!("it has closed the connection, since it ends; start this one again");
    }
    let mut answer = first.to_vec();
    let mut rest = BufReader::new(stream.take(LIST_BYTES));
    rest.read_until(b'\n', &mut answer).await?;
    let names = match serde_json::from_slice(&answer).context("its list of sockets")? {
        HandoverAnswer::Names(names) => names,
        HandoverAnswer::Refusal(why) => bail!("{why}"),
    };
    ensure!(
        names.len() == files.len(),
        "it has named {} sockets and handed over {}",
        names.len(),
        files.len()
    );
    Ok(names.into_iter().zip(files).collect())
}
