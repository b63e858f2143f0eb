//! Accepting connections: the streams from peers to this node.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use super::address::can_be_dialled;
use super::dial::NO_SESSION;
use super::inbound::Receiving;
use super::link::IncomingFrames;
use super::node_stream::NodeStream;
use super::peer::Peer;
use super::phase::PeerState;
use super::source::Source;
use super::state::Mesh;
use super::tls::{self, Tls};
use super::transport::{Pushes, WINDOW_BYTES};
use super::trust::{self, Purpose, Talk, UNREACHED};
use super::wire::mesh_server::{Mesh as MeshService, MeshServer};
use super::wire::{self, pull, push};
use crate::id::Incarnation;
use crate::log_throttle::LogThrottle;
use crate::pending_connections::{PendingConnections, Unauthenticated};

/// The pause after a failure to accept a connection.
const REST: Duration = Duration::from_millis(100);

/// The most peers of a node. A mesh has far fewer nodes.
const PEERS: usize = 2000;

/// How many acknowledgements may wait for the connection.
const ACKS: usize = 16;

/// Serves the streams of the peers until `closed` is ready.
pub(super) async fn serve(
    mesh: Arc<Mesh>,
    listener: TcpListener,
    files: usize,
    closed: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let largest = mesh.limits().peer_message_bytes();
    let tls = mesh.trust.tls.clone();
    let service = MeshServer::new(Accepting(mesh)).max_decoding_message_size(largest);
    tls::server()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .add_service(service)
        .serve_with_incoming_shutdown(incoming(listener, "mesh", files, tls), closed)
        .await
}

/// The incoming connections of nodes, after their TLS handshakes. `files` is the number of open files
/// for these connections. This function sets `tcp_nodelay` and pauses after a failure, since the
/// server does neither for given connections: it would ask for the next one at once, even when the
/// system has no files left.
pub(super) fn incoming(
    listener: TcpListener,
    port: &'static str,
    files: usize,
    tls: Tls,
) -> impl Stream<Item = io::Result<NodeStream>> {
    tls.keep_reading();
    let (ready, streams) = mpsc::channel(1);
    tokio::spawn(async move {
        tokio::select! {
            () = accept_all(listener, PendingConnections::nodes(port, files), tls, &ready) => {}
            () = ready.closed() => {}
        }
    });
    ReceiverStream::new(streams).map(Ok)
}

async fn accept_all(
    listener: TcpListener,
    pending: PendingConnections,
    tls: Tls,
    ready: &mpsc::Sender<NodeStream>,
) {
    let failures = LogThrottle::default();
    let mut incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    while let Some(accepted) = incoming.next().await {
        let connection = match accepted {
            Ok(stream) => pending.accept(stream),
            Err(error) => {
                if failures.happened().is_some() {
                    tracing::error!(%error, "nodes cannot be accepted; is `ulimit -n` high enough?");
                }
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let (has_tls, tls, sender) = (tls.is_set(), tls.clone(), ready.clone());
        let handshake = async move {
            match tls.accept(connection).await {
                Ok(stream) => drop(sender.send(stream).await),
                Err(error) => tracing::debug!(%error, "a node broke off"),
            }
        };
        // Without TLS there is nothing to wait for. With TLS, `PendingConnections` bounds their number
        // and their time.
        match has_tls {
            true => drop(tokio::spawn(handshake)),
            false => handshake.await,
        }
    }
}

struct Accepting(Arc<Mesh>);

#[tonic::async_trait]
impl MeshService for Accepting {
    type LinkStream = ReceiverStream<Result<wire::Pull, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<wire::Push>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let authentication = Unauthenticated::of(&request)?;
        let pushes = Box::pin(request.into_inner());
        Ok(Response::new(accept(
            self.0.clone(),
            authentication,
            pushes,
        )))
    }
}

/// Accepts one stream from a node, and returns the answers to it. A task receives from the stream
/// until either side ends it.
pub(super) fn accept(
    mesh: Arc<Mesh>,
    authentication: Arc<Unauthenticated>,
    pushes: Pushes,
) -> ReceiverStream<Result<wire::Pull, Status>> {
    let (pull, pulled) = mpsc::channel(ACKS);
    let link = Link {
        mesh,
        authentication,
        pushes,
        pull,
    };
    tokio::spawn(link.run());
    ReceiverStream::new(pulled)
}

/// One stream from one peer.
struct Link {
    mesh: Arc<Mesh>,
    authentication: Arc<Unauthenticated>,
    pushes: Pushes,
    pull: mpsc::Sender<Result<wire::Pull, Status>>,
}

/// A peer that has proved its identity, and the session that it continues.
struct Proved {
    peer: Arc<Peer>,
    receiving: Receiving,
    session: u64,
}

impl Link {
    async fn run(mut self) {
        let ended = match self.prove().await {
            Ok(proved) => {
                let peer = proved.peer.clone();
                let ended = self.take_in(proved).await;
                self.mesh.forget_last_words(&peer);
                if peer.state() == Some(PeerState::Leaving) {
                    self.mesh.lose(&peer, "it has drained");
                }
                ended
            }
            Err(refused) => {
                let from = self.authentication.from;
                self.mesh.refusals.say("link", from, &refused);
                refused
            }
        };
        let _ = self.pull.send(Err(ended)).await;
    }

    async fn prove(&mut self) -> Result<Proved, Status> {
        let Some(push::Push::Hello(hello)) = self.next().await? else {
            return Err(Status::invalid_argument("a link begins with a hello"));
        };
        let mesh = self.mesh.clone();
        let nonce = trust::nonce().map_err(|_| Status::internal("no randomness"))?;
        let (theirs, ours) = (
            hello.incarnation.to_be_bytes(),
            mesh.own().to_u64().to_be_bytes(),
        );
        let talk = Talk {
            nonces: [&hello.nonce, &nonce],
            about: &[&theirs, &ours, hello.address.as_bytes()],
        };
        let challenge = wire::Challenge {
            incarnation: mesh.own().to_u64(),
            nonce: nonce.to_vec().into(),
            proof: mesh.trust.secret.prove(Purpose::LinkAccept, &talk).into(),
        };
        self.say(pull::Pull::Challenge(challenge)).await?;

        let Some(push::Push::Proof(wire::Proof { proof, session })) = self.next().await? else {
            return Err(Status::invalid_argument(
                "a challenge is answered with a proof",
            ));
        };
        let about_session = session.to_be_bytes();
        let talk = Talk {
            nonces: talk.nonces,
            about: &[&theirs, &ours, hello.address.as_bytes(), &about_session],
        };
        if !mesh.trust.secret.accepts(&proof, Purpose::LinkDial, &talk) {
            mesh.registry.counters().mesh_untrusted.add_one();
            return Err(Status::unauthenticated(
                "the mesh's secret is another one, or only one of us has one",
            ));
        }
        self.authentication.proved();
        let node = Incarnation::from_u64(hello.incarnation)
            .filter(|node| *node != mesh.own())
            .ok_or_else(|| Status::invalid_argument("no node has that incarnation"))?;
        if session == NO_SESSION || hello.address == mesh.address {
            let why = format!(
                "node {node} advertises {}, where node {} is: give each node an --advertise of \
                 its own",
                hello.address,
                mesh.own()
            );
            return Err(Status::new(UNREACHED, why));
        }
        if !can_be_dialled(&hello.address) {
            let why = format!("nobody can dial node {node} at the address that it advertises");
            return Err(Status::invalid_argument(why));
        }
        if mesh.peer(node).is_none() {
            if mesh.peers.read().len() >= PEERS {
                let why = format!("the node has {PEERS} peers, as many as it may");
                return Err(Status::resource_exhausted(why));
            }
            mesh.reach(node, &hello.address).await?;
        }
        let peer = mesh.meet(node, &hello.address);
        let receiving = peer.supersede(&hello.address);
        // It is dialled back where it says it listens.
        mesh.want(&Source::Itself(node), &[hello.address].into());
        if peer.is_gone() {
            // Lost meanwhile, and nobody would ever forget its address.
            mesh.unwant(&Source::Itself(node));
        }
        Ok(Proved {
            peer,
            receiving,
            session,
        })
    }

    /// Receives what the peer sends, until its stream ends or another connection replaces it.
    async fn take_in(&mut self, proved: Proved) -> Status {
        let Proved {
            peer,
            receiving,
            session,
        } = proved;
        // Whatever this waits for: the next connection does not wait for it.
        tokio::select! {
            ended = self.keep_taking_in(&peer, session) => ended,
            () = peer.inbound.superseded(receiving) => Status::aborted("another connection took over"),
            () = peer.gone() => Status::aborted("you were taken for gone"),
        }
    }

    async fn keep_taking_in(&mut self, peer: &Arc<Peer>, session: u64) -> Status {
        // The connection before has stopped once this is ours.
        let mut incoming = peer.inbound.frames.lock().await;
        if incoming.session() != session {
            *incoming = IncomingFrames::new(session);
        }
        peer.last_heard.batch();
        let received = incoming.received();
        let welcome = pull::Pull::Welcome(wire::Welcome {
            received,
            message_bytes: self.mesh.limits().peer_message_bytes() as u64,
        });
        if let Err(status) = self.say(welcome).await {
            return status;
        }
        loop {
            let batch = match self.next().await {
                Ok(Some(push::Push::Batch(batch))) => batch,
                Ok(_) => return Status::invalid_argument("a link goes on with batches"),
                Err(status) => return status,
            };
            peer.last_heard.batch();
            let Ok(frames) = incoming.take(batch.into()) else {
                return Status::data_loss("frames are missing");
            };
            for frame in frames {
                self.mesh.receive(peer, frame);
            }
            let ack = pull::Pull::Ack(wire::Ack {
                received: incoming.received(),
            });
            if let Err(status) = self.say(ack).await {
                return status;
            }
        }
    }

    async fn next(&mut self) -> Result<Option<push::Push>, Status> {
        let push = self.pushes.next().await;
        let push = push.ok_or_else(|| Status::cancelled("the stream has ended"))?;
        Ok(push?.push)
    }

    async fn say(&mut self, message: pull::Pull) -> Result<(), Status> {
        let sent = self.pull.send(Ok(message.into())).await;
        sent.map_err(|_| Status::cancelled("the stream has ended"))
    }
}
