//! The adoption of a client that another node has had, and that has come back here.
//!
//! The client is put into the registry while it still waits at its old node, so that it misses nothing.
//! One sender after another switches to this node (`registry/gate.rs`). Then the old node gives what
//! the client has not received, and forgets it. If anything goes wrong before, the client is taken out
//! here without a trace, and its old node decides what becomes of it.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::resumable::{Resumable, ResumableSessions, SessionToken};
use super::session::ClientTask;
use super::subprotocol::ResumeOffer;
use crate::access::Granted;
use crate::id::Incarnation;
use crate::mesh::{HeldClient, Mesh, ShownToken, ask};
use crate::plugin::{self, Plugin};
use crate::registry::{Arrival, Client, Namespace};

/// A client that this node has adopted.
pub(super) struct AdoptedClient {
    pub(super) task: ClientTask,
    /// When its token expires, if it does.
    pub(super) until: Option<Instant>,
}

/// A client that has come back here, and that another node may have.
pub(super) struct Adoption {
    pub(super) plugin: Arc<Plugin>,
    pub(super) sessions: Arc<ResumableSessions>,
    pub(super) offer: ResumeOffer,
    /// What the client's handshake has shown, if it was checked here.
    pub(super) granted: Option<Granted>,
    pub(super) arrival: Arrival,
}

impl Adoption {
    /// Adopts the client, if another node has it. If the handshake breaks off meanwhile, the client goes
    /// on waiting, and does so here.
    pub(super) async fn run(self) -> Option<AdoptedClient> {
        let (sender, adopted) = oneshot::channel();
        let received = self.offer.received;
        tokio::spawn(async move {
            let adopted = self.adopt().await;
            if let Err(Some(AdoptedClient { task, .. })) = sender.send(adopted) {
                task.run_adopted(None, received).await;
            }
        });
        adopted.await.ok().flatten()
    }

    async fn adopt(self) -> Option<AdoptedClient> {
        let Adoption {
            plugin,
            sessions,
            offer,
            granted,
            arrival,
        } = self;
        let mesh = sessions.mesh()?;
        let (id, namespace) = (offer.client, plugin.namespace());
        // A plugin whose clients may not come back has no session that could take one.
        namespace.policies().resume?;
        let old = mesh.owner(plugin.name(), id)?;
        let shown = ShownToken {
            secret: offer.secret.as_bytes().to_vec(),
            received: offer.received,
            shown_uid: granted.as_ref().map(|granted| granted.uid.clone()),
        };
        let taken = mesh.ask(old, plugin.name(), ask::take_client(id, shown));
        let held = taken.await.ok()?;
        let adopting = Adopting {
            client: namespace.adopt(id, held.number, arrival, &held.state),
            namespace: Some(namespace.clone()),
        };
        let shown_uid = held.shown_uid.as_deref();
        let session = plugin.session_of_adopted(&adopting.client, shown_uid);
        let handled = adopting.receive(mesh, old, &held, offer.received).await?;
        let until = match &granted {
            Some(granted) => granted.until,
            None => held.expires_in.map(|left| Instant::now() + left),
        };
        let token = SessionToken {
            secret: offer.secret,
            shown_uid: held.shown_uid,
            subprotocol: held.subprotocol,
        };
        let resumable = sessions.register(id, namespace.clone(), token, until);
        let client = adopting.client.clone();
        let task = adopting.into_task(session, resumable, handled);
        mesh.say_taken(plugin.name(), id, old);
        namespace.announce_adopted(&client);
        let counters = namespace.shared().counters();
        counters.clients_resumed.add_one();
        counters.clients_adopted.add_one();
        Some(AdoptedClient { task, until })
    }
}

/// A client that is not wholly here yet. Dropping this value removes it.
struct Adopting {
    client: Arc<Client>,
    /// The namespace that contains the client, or `None` once the client is here.
    namespace: Option<Arc<Namespace>>,
}

impl Adopting {
    /// Lets all nodes switch to this one, and takes what the client has not received. Returns how many
    /// of its messages were handled.
    async fn receive(
        &self,
        mesh: &Mesh,
        old: Incarnation,
        before: &HeldClient,
        received: u64,
    ) -> Option<u64> {
        let namespace = self.namespace.as_ref()?;
        let (plugin, client) = (namespace.name(), &self.client);
        let mut nodes = mesh.announce_move(plugin, client.id(), old, before.number);
        let switched = async {
            while !client.have_switched(&nodes) {
                client.woken().await;
            }
        };
        let patience = namespace.shared().limits().ask_timeout / 2;
        if timeout(patience, switched).await.is_err() {
            // Whoever says nothing is not waited for: it is suspect soon.
            nodes.retain(|node| client.have_switched(&[*node]));
        }
        let given = mesh.ask(old, plugin, ask::give_client(client.id(), &nodes));
        let given = given.await.ok()?;
        client.outbox().push_given(given.frames, received);
        namespace.update_adopted(client, &before.state, given.state);
        client.end_move();
        Some(given.handled)
    }

    fn into_task(
        mut self,
        session: plugin::Session,
        resumable: Box<Resumable>,
        handled: u64,
    ) -> ClientTask {
        self.namespace = None;
        ClientTask::adopted(self.client.clone(), session, resumable, handled)
    }
}

impl Drop for Adopting {
    fn drop(&mut self) {
        if let Some(namespace) = &self.namespace {
            namespace.give_away(&self.client);
        }
    }
}
