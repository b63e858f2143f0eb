//! Nodes and registers that tell whatever a test wants: they speak the protocol of the mesh, with no
//! secret, and there is nothing behind them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use jackfield_tests::within;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

use self::protocol::mesh_client::MeshClient;
use self::protocol::mesh_server::{Mesh, MeshServer};
use self::protocol::register_client::RegisterClient;
use self::protocol::register_server::{Register, RegisterServer};
use self::protocol::*;

/// The messages between nodes and registers, as the node itself has them.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
pub(crate) mod protocol {
    include!("../../host/generated/jackfield.mesh.v1.rs");
}

/// How often a sign of life is sent.
const ALIVE: Duration = Duration::from_millis(500);

fn draw() -> u64 {
    fastrand::u64(1..1 << 40)
}

fn nonce() -> Vec<u8> {
    (0..32).map(|_| fastrand::u8(..)).collect()
}

/// A peer of one node. It is gone when it is dropped.
pub(crate) struct FalsePeer {
    say: mpsc::Sender<Push>,
    /// How many frames have been sent.
    sent: Arc<AtomicU64>,
    acknowledged: watch::Receiver<u64>,
    _tasks: JoinSet<()>,
}

impl FalsePeer {
    /// Becomes a peer of the node at this mesh address, and says that it holds nothing.
    pub(crate) async fn of(node: SocketAddr) -> Result<FalsePeer> {
        let incarnation = draw();
        let mut tasks = JoinSet::new();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let server = Server::builder().add_service(MeshServer::new(Accepts { incarnation }));
        tasks.spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            let _ = server.serve_with_incoming(incoming).await;
        });

        let (say, said) = mpsc::channel(1);
        let hello = Hello {
            incarnation,
            address,
            nonce: nonce().into(),
        };
        say.send(push(push::Push::Hello(hello))).await?;
        let endpoint = Endpoint::from_shared(format!("http://{node}"))?;
        let channel = within("a connection to the node", endpoint.connect()).await?;
        let mut client = MeshClient::new(channel);
        let pulls = within("the link", client.link(ReceiverStream::new(said))).await?;
        let mut pulls = pulls.into_inner();
        within("the challenge", pulls.message()).await?;
        let proof = Proof {
            proof: Vec::new().into(),
            session: draw(),
        };
        say.send(push(push::Push::Proof(proof))).await?;
        within("the welcome", pulls.message()).await?;

        let (acks, acknowledged) = watch::channel(0);
        tasks.spawn(async move {
            while let Ok(Some(Pull { pull: Some(pull) })) = pulls.message().await {
                if let pull::Pull::Ack(ack) = pull {
                    acks.send_replace(ack.received);
                }
            }
        });
        let sent = Arc::<AtomicU64>::default();
        tasks.spawn(keep_alive(say.clone(), sent.clone()));
        let mut peer = FalsePeer {
            say,
            sent,
            acknowledged,
            _tasks: tasks,
        };
        for (first, last) in [(true, false), (false, true)] {
            peer.holds(first, last, Vec::new()).await?;
        }
        Ok(peer)
    }

    /// Tells what it holds, and waits until the node has heard it.
    pub(crate) async fn holds(
        &mut self,
        first: bool,
        last: bool,
        holdings: Vec<Holding>,
    ) -> Result<()> {
        let interest = Interest {
            first,
            last,
            holdings,
        };
        self.tell(frame::Frame::Interest(interest)).await
    }

    /// Tells one thing, and waits until the node has heard it.
    pub(crate) async fn tell(&mut self, told: frame::Frame) -> Result<()> {
        let told = Frame { frame: Some(told) };
        let number = self.sent.load(Ordering::SeqCst) + 1;
        let batch = Batch {
            first: number,
            frames: vec![told.encode_to_vec().into()],
        };
        self.say.send(push(push::Push::Batch(batch))).await?;
        self.sent.store(number, Ordering::SeqCst);
        let heard = self.acknowledged.wait_for(|received| *received >= number);
        within("the node to hear it", heard).await.map(drop)
    }
}

async fn keep_alive(say: mpsc::Sender<Push>, sent: Arc<AtomicU64>) {
    loop {
        tokio::time::sleep(ALIVE).await;
        let batch = Batch {
            first: sent.load(Ordering::SeqCst) + 1,
            frames: Vec::new(),
        };
        if say.send(push(push::Push::Batch(batch))).await.is_err() {
            return;
        }
    }
}

fn push(push: push::Push) -> Push {
    Push { push: Some(push) }
}

fn pull(pull: pull::Pull) -> Result<Pull, Status> {
    Ok(Pull { pull: Some(pull) })
}

/// The side of a false peer that is dialled: it takes all that comes.
struct Accepts {
    incarnation: u64,
}

#[tonic::async_trait]
impl Mesh for Accepts {
    type LinkStream = ReceiverStream<Result<Pull, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<Push>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let incarnation = self.incarnation;
        let mut pushes = request.into_inner();
        let (say, said) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Ok(Some(Push { push: Some(push) })) = pushes.message().await {
                let answer = match push {
                    push::Push::Hello(_) => pull::Pull::Challenge(Challenge {
                        incarnation,
                        nonce: nonce().into(),
                        proof: Vec::new().into(),
                    }),
                    push::Push::Proof(_) => pull::Pull::Welcome(Welcome {
                        received: 0,
                        message_bytes: 0,
                    }),
                    push::Push::Batch(batch) => pull::Pull::Ack(Ack {
                        received: batch.first - 1 + batch.frames.len() as u64,
                    }),
                };
                if say.send(pull(answer)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(said)))
    }
}

/// A register that lists whatever a test wants.
pub(crate) struct FalseRegister {
    pub(crate) address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl FalseRegister {
    /// Starts one that lists nodes at these addresses.
    pub(crate) async fn start(addresses: Vec<String>) -> Result<FalseRegister> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let members = addresses.into_iter().map(|address| Member {
            incarnation: draw(),
            address,
        });
        let lists = Lists(members.collect());
        let server = Server::builder().add_service(RegisterServer::new(lists));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            let _ = server.serve_with_incoming(incoming).await;
        });
        Ok(FalseRegister {
            address,
            _tasks: tasks,
        })
    }
}

struct Lists(Vec<Member>);

/// Nodes in one message: a message has a largest size.
const MEMBERS_A_MESSAGE: usize = 10_000;

#[tonic::async_trait]
impl Register for Lists {
    type JoinStream = ReceiverStream<Result<Membership, Status>>;

    async fn join(
        &self,
        request: Request<Streaming<Announcement>>,
    ) -> Result<Response<Self::JoinStream>, Status> {
        use membership::Membership::{Alive, Challenge, Changed, Snapshot};
        let mut announcements = request.into_inner();
        let (say, said) = mpsc::channel(16);
        let members = self.0.clone();
        tokio::spawn(async move {
            let tell = async |told| {
                let membership = Some(told);
                say.send(Ok(Membership { membership })).await.is_ok()
            };
            let challenge = JoinChallenge {
                nonce: nonce().into(),
                proof: Vec::new().into(),
            };
            // Who is there, and its proof.
            let _ = announcements.message().await;
            tell(Challenge(challenge)).await;
            let _ = announcements.message().await;
            tell(Snapshot(protocol::Snapshot::default())).await;
            for members in members.chunks(MEMBERS_A_MESSAGE) {
                let changed = protocol::Changed {
                    joined: members.to_vec(),
                    ..protocol::Changed::default()
                };
                tell(Changed(changed)).await;
            }
            while tell(Alive(protocol::Alive {})).await {
                tokio::time::sleep(ALIVE).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(said)))
    }
}

/// The registration of a node that does not exist, over a connection of its own. It reads nothing
/// after its proof.
pub(crate) struct FalseRegistration {
    say: mpsc::Sender<Announcement>,
    said: Streaming<Membership>,
}

impl FalseRegistration {
    /// Registers from this address of the machine.
    pub(crate) async fn at(register: SocketAddr, from: IpAddr) -> Result<FalseRegistration> {
        let endpoint = Endpoint::from_shared(format!("http://{register}"))?;
        let endpoint = endpoint.local_address(Some(from));
        let channel = within("a connection to the register", endpoint.connect()).await?;
        let (say, saying) = mpsc::channel(4);
        let present = Present {
            member: Some(Member {
                incarnation: draw(),
                address: format!("node{}.invalid:7000", draw()),
            }),
            nonce: nonce().into(),
        };
        say.send(announcement(announcement::Announcement::Present(present)))
            .await?;
        let mut client = RegisterClient::new(channel);
        let joined = within("the registration", client.join(ReceiverStream::new(saying)));
        let mut said = joined.await?.into_inner();
        within("the challenge", said.message()).await?;
        let proof = JoinProof {
            proof: Vec::new().into(),
        };
        say.send(announcement(announcement::Announcement::Proof(proof)))
            .await?;
        Ok(FalseRegistration { say, said })
    }

    /// Gives a sign of life.
    pub(crate) fn is_alive(&self) {
        let alive = announcement::Announcement::Alive(Alive {});
        let _ = self.say.try_send(announcement(alive));
    }

    /// What the register says next.
    pub(crate) async fn next(&mut self) -> Result<membership::Membership, Status> {
        let told = self.said.message().await?;
        let told = told.and_then(|told| told.membership);
        told.ok_or_else(|| Status::cancelled("it said nothing"))
    }
}

fn announcement(announcement: announcement::Announcement) -> Announcement {
    Announcement {
        announcement: Some(announcement),
    }
}

/// A plugin of which a node has one client, and these uids.
pub(crate) fn holding(plugin: &str, uids: impl IntoIterator<Item = String>) -> Holding {
    let uids = uids.into_iter().map(|name| HeldName { name, clients: 1 });
    Holding {
        plugin: plugin.to_owned(),
        clients: Some(1),
        uids: uids.collect(),
        serving: Some(Serving {
            state: serving::State::Open.into(),
            ..Serving::default()
        }),
        ..Holding::default()
    }
}

/// A timer that is due in an hour, with the time of its last change in milliseconds since 1970.
pub(crate) fn timer(name: String, changed_at_ms: u64) -> Timer {
    Timer {
        name,
        changed_at_ms,
        changed_by: 1,
        after_ms: Some(3_600_000),
        every_ms: None,
    }
}

/// The milliseconds since 1970.
pub(crate) fn now_ms() -> Result<u64> {
    let now = std::time::UNIX_EPOCH.elapsed().context("after 1970")?;
    Ok(u64::try_from(now.as_millis())?)
}
