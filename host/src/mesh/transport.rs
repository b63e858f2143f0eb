//! The transport of links: how the frames of this node get to another node's mesh port, and its
//! acknowledgements back.
//!
//! Nodes use gRPC. The tests of the mesh run over channels inside one process, too.

use std::time::Duration;

use futures_util::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::link_end::LinkEnd;
use super::resolver::Resolver;
use super::tls::Tls;
use super::wire;
use super::wire::mesh_client::MeshClient;

/// How long it may take to connect, and to learn which node is there.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How many bytes of a stream may be in transit, in the buffers of the connection. Everything
/// beyond waits in the link.
pub(super) const WINDOW_BYTES: u32 = 1 << 20;

/// What a node says that dials, until its connection ends.
pub(super) type Pushes = BoxStream<'static, Result<wire::Push, Status>>;

/// What the dialled node answers, until its connection ends.
pub(super) type Pulls = BoxStream<'static, Result<wire::Pull, Status>>;

/// A way to connect to other nodes.
#[tonic::async_trait]
pub(super) trait Transport: Send + Sync {
    /// Connects to the node at `address` and sends it `pushes`. Returns its answers. The connection
    /// ends when either side drops its stream.
    async fn dial(
        &self,
        address: &str,
        pushes: mpsc::Receiver<wire::Push>,
    ) -> Result<Pulls, LinkEnd>;
}

/// Connections over gRPC, with TLS if it is used.
pub(super) struct Grpc(pub(super) Tls);

#[tonic::async_trait]
impl Transport for Grpc {
    async fn dial(
        &self,
        address: &str,
        pushes: mpsc::Receiver<wire::Push>,
    ) -> Result<Pulls, LinkEnd> {
        let endpoint = self
            .0
            .endpoint(address)?
            .connect_timeout(CONNECT_TIMEOUT)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        let connector = Resolver::OfNodes.connector();
        let mut client = MeshClient::new(endpoint.connect_with_connector(connector).await?);
        let pulls = client.link(ReceiverStream::new(pushes)).await?.into_inner();
        Ok(Box::pin(pulls.fuse()))
    }
}
