//! The network of a scenario, whose connections break on purpose.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::mesh::accept;
use crate::mesh::link_end::LinkEnd;
use crate::mesh::state::Mesh;
use crate::mesh::tls::Tls;
use crate::mesh::transport::{Grpc, Pulls, Transport};
use crate::mesh::wire;
use crate::pending_connections::Unauthenticated;

/// The way between the nodes of a scenario.
pub(super) struct Network {
    pub(super) is_grpc: bool,
    /// The nodes that listen, by address, where the connections are channels.
    listening: Mutex<BTreeMap<String, Weak<Mesh>>>,
    /// The state of the wire from one address to another.
    wires: Mutex<BTreeMap<(String, String), watch::Sender<WireState>>>,
}

/// The state of the wire in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum WireState {
    /// What is sent arrives.
    #[default]
    Up,
    /// What is sent waits, and arrives once the wire is up.
    Stalled,
    /// Connections break, and new ones are refused.
    Broken,
}

impl Network {
    /// A network of channels inside this process.
    pub(super) fn over_channels() -> Arc<Network> {
        Network::new(false)
    }

    /// A network of gRPC connections over loopback addresses.
    pub(super) fn over_grpc() -> Arc<Network> {
        Network::new(true)
    }

    fn new(is_grpc: bool) -> Arc<Network> {
        Arc::new(Network {
            is_grpc,
            listening: Mutex::default(),
            wires: Mutex::default(),
        })
    }

    /// The transport of the node at `address`.
    pub(super) fn transport(self: &Arc<Self>, address: &str) -> Box<dyn Transport> {
        Box::new(Breakable {
            network: self.clone(),
            own: address.to_owned(),
        })
    }

    /// Lets the other nodes find a node at its address, where the connections are channels.
    pub(super) fn listen(&self, mesh: &Arc<Mesh>) {
        let (address, mesh) = (mesh.address().to_owned(), Arc::downgrade(mesh));
        self.listening.lock().insert(address, mesh);
    }

    /// Sets the state of the wire from one address to the other.
    pub(super) fn set(&self, from: &str, to: &str, wire: WireState) {
        let mut wires = self.wires.lock();
        let wires = wires.entry((from.to_owned(), to.to_owned()));
        wires.or_default().send_replace(wire);
    }

    fn wire(&self, from: &str, to: &str) -> watch::Receiver<WireState> {
        let mut wires = self.wires.lock();
        let wires = wires.entry((from.to_owned(), to.to_owned()));
        wires.or_default().subscribe()
    }

    async fn connect(
        &self,
        address: &str,
        pushes: mpsc::Receiver<wire::Push>,
    ) -> Result<Pulls, LinkEnd> {
        if self.is_grpc {
            return Grpc(Tls::default()).dial(address, pushes).await;
        }
        let mesh = self.listening.lock().get(address).and_then(Weak::upgrade);
        let mesh = mesh.filter(|mesh| !mesh.leaving.is_cancelled());
        let mesh = mesh.ok_or(LinkEnd::Closed)?;
        let pushes = Box::pin(ReceiverStream::new(pushes).map(Ok));
        let stranger = Unauthenticated::in_process();
        Ok(Box::pin(accept::accept(mesh, stranger, pushes)))
    }
}

/// The connections of one node, which break and stall with the wires.
struct Breakable {
    network: Arc<Network>,
    own: String,
}

#[tonic::async_trait]
impl Transport for Breakable {
    async fn dial(
        &self,
        address: &str,
        pushes: mpsc::Receiver<wire::Push>,
    ) -> Result<Pulls, LinkEnd> {
        let mut there = self.network.wire(&self.own, address);
        let mut back = self.network.wire(address, &self.own);
        passes(&mut there).await?;
        passes(&mut back).await?;
        let (sender, passed) = mpsc::channel(1);
        let pulls = self.network.connect(address, passed).await?;
        let pushes = Box::pin(ReceiverStream::new(pushes).map(Ok));
        let mut pushes = over(pushes, there);
        tokio::spawn(async move {
            while let Some(Ok(push)) = pushes.next().await {
                if sender.send(push).await.is_err() {
                    return;
                }
            }
        });
        Ok(over(pulls, back))
    }
}

type Items<T> = stream::BoxStream<'static, Result<T, Status>>;

/// The items of the stream, as far as the wire lets them pass.
fn over<T: Send + 'static>(items: Items<T>, wire: watch::Receiver<WireState>) -> Items<T> {
    let passed = stream::unfold(Some((items, wire)), |state| async {
        let (mut items, mut wire) = state?;
        let mut breaks = wire.clone();
        let item = tokio::select! {
            item = items.next() => item?,
            // The sender lives as long as the network.
            _ = breaks.wait_for(|wire| *wire == WireState::Broken) => Err(Status::unavailable("cut")),
        };
        match passes(&mut wire).await {
            Ok(()) if item.is_ok() => Some((item, Some((items, wire)))),
            Ok(()) => Some((item, None)),
            Err(status) => Some((Err(status), None)),
        }
    });
    Box::pin(passed)
}

/// Waits until the wire is up.
///
/// # Errors
///
/// The wire is cut.
async fn passes(wire: &mut watch::Receiver<WireState>) -> Result<(), Status> {
    match wire
        .wait_for(|wire| *wire != WireState::Stalled)
        .await
        .as_deref()
    {
        Ok(WireState::Broken) | Err(_) => Err(Status::unavailable("cut")),
        Ok(_) => Ok(()),
    }
}
