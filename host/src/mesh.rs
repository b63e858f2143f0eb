//! The mesh: the other nodes, what they hold, and the messages between them.
//!
//! Each node dials every other node and sends on one long-lived stream, in order: deliveries,
//! changes of what it holds (`interest`), questions and answers. A message goes to the nodes that
//! hold its target, and they never forward it. No sender waits: what a link can't take is dropped,
//! counted and logged, but not each time. Only a question waits, for `ask_timeout` at most.
//!
//! A peer that says nothing for `suspect_after` is suspect. After `gone_after` its interest is
//! removed, with everything that was waiting for it. A peer that comes back tells everything again.

mod accept;
mod address;
mod answer;
pub mod ask;
mod deploy;
pub mod deployment;
mod dial;
mod discover;
mod dispatch;
mod etcd;
mod forward;
mod holdings;
mod inbound;
mod interest;
mod last_heard;
mod link;
mod link_end;
mod listed_here;
mod listen;
mod move_request;
mod moves;
mod node_stream;
mod outbound;
mod own_address;
mod peer;
pub mod peer_event;
mod phase;
mod publish;
mod questions;
mod queue;
mod receive;
mod register;
mod registration;
mod rendezvous;
mod resolver;
mod servers;
mod serving;
mod snapshot;
mod source;
mod state;
#[cfg(test)]
mod suite;
mod timers;
mod tls;
mod transport;
mod transport_error;
mod trust;
mod unanswered;
mod unlist;
mod watch;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

pub use self::address::{check_address, is_elsewhere, is_loopback};
pub use self::ask::{AskError, Listed, Question};
pub use self::interest::{Holder, Interest, Sizes, Space};
pub use self::listen::bind;
pub use self::move_request::{GivenClient, HeldClient, MoveRequest, MoveStep, ShownToken};
pub use self::peer::Peer;
pub use self::phase::PeerState;
pub use self::register::Register;
pub use self::serving::{Elsewhere, Worker};
pub use self::source::Source;
pub use self::state::Mesh;
pub use self::tls::TlsFiles;
pub use self::trust::Trust;
pub use self::unanswered::Unanswered;
pub use self::wire::answer::Answer;
pub use self::wire::refused::Reason;

/// How often a node that leaves checks whether its connections have ended.
const LEFT_LOOK: Duration = Duration::from_millis(10);

/// How long a node that leaves waits for its peers, and then for the ends of its connections.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

impl Mesh {
    /// Starts to take part in the mesh: accepts peers, tells them what this node holds, and watches
    /// them. `files` is the number of open files for the connections of the peers.
    pub fn start(self: &Arc<Self>, listener: TcpListener, files: usize) {
        let mesh = self.clone();
        tokio::spawn(async move {
            let closed = mesh.leaving.clone();
            let served = accept::serve(mesh, listener, files, closed.cancelled_owned()).await;
            if let Err(error) = served {
                tracing::error!(%error, "the mesh's port is closed");
            }
        });
        self.run();
    }

    /// Starts everything that does not need the mesh's port.
    fn run(self: &Arc<Self>) {
        tokio::spawn(self.clone().keep_publishing());
        tokio::spawn(self.clone().watch());
        tokio::spawn(self.clone().watch_own_address());
        tokio::spawn(self.clone().settle());
    }

    /// Registers this node at a register, and dials the nodes that the register lists.
    pub fn join(self: &Arc<Self>, register: &str) {
        self.registrations
            .spawn(self.clone().register_with(register.to_owned()));
    }

    /// Tells the registers and etcd that this node will not come back.
    pub async fn drain(&self) {
        self.draining.cancel();
        self.registrations.close();
        self.registrations.wait().await;
    }

    /// Tells the peers that this node leaves, and gives them time to receive everything sent
    /// before.
    pub async fn leave(&self) {
        let peers = self.peers();
        for peer in &peers {
            let leaving = wire::frame::Frame::Leaving(wire::Leaving {});
            self.push_reliable(peer, wire::encode(leaving));
        }
        let heard = async {
            for peer in &peers {
                tokio::select! {
                    () = peer.outbound.is_empty() => {}
                    () = peer.gone() => {}
                };
            }
        };
        let _ = tokio::time::timeout(LEAVE_TIMEOUT, heard).await;
        self.leaving.cancel();
        // Connections end once they have seen that.
        let ended = async {
            while peers.iter().any(|peer| peer.outbound.is_dialled()) {
                tokio::time::sleep(LEFT_LOOK).await;
            }
        };
        let _ = tokio::time::timeout(LEAVE_TIMEOUT, ended).await;
    }
}
