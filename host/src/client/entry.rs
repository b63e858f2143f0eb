//! The entry of a client whose handshake is accepted: its connection becomes that of a session, which
//! is a new one, or the one that the client has left.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::header::HeaderMap;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use super::acceptor::Acceptor;
use super::admission::AdmissionPermit;
use super::connection::Connection;
use super::extensions::Deflate;
use super::reader::Reader;
use super::resumable::{AcceptedResume, SessionToken};
use super::session::ClientTask;
use super::stream::upgraded;
use super::subprotocol::{self, ResumeSecret, Welcome};
use crate::access::Handshake;
use crate::plugin::{self, Accepted, Answer, Failure, Plugin};
use crate::registry::{Arrival, Client, Close, Closer, EventKind, Namespace};

/// An accepted client, with the results of its handshake.
pub(super) struct Entry {
    who: Who,
    place: AdmissionPermit,
    /// The subprotocol that the answer names.
    subprotocol: Option<String>,
    pub(super) deflate: Option<Deflate>,
    until: Option<Instant>,
    address: Option<SocketAddr>,
}

enum Who {
    /// A new client, with the uid that its handshake has shown, and the subprotocol that its plugin
    /// has chosen.
    New(Arriving, Option<String>, Option<String>),
    /// A client that comes back.
    Returning(Returning),
}

/// A client that comes back.
pub(super) enum Returning {
    /// This node has its session.
    Here(AcceptedResume),
    /// This node has adopted it from another one. It has received so many messages.
    Adopted(ClientTask, u64),
}

impl Entry {
    /// The entry of a new client.
    pub(super) fn new(
        arriving: Arriving,
        place: AdmissionPermit,
        deflate: Option<Deflate>,
        accepted: Accepted,
    ) -> Entry {
        let (chosen, address) = (accepted.subprotocol, arriving.client().address());
        let subprotocol = match arriving.client().is_tagged() {
            true => Some(subprotocol::NAME.to_owned()),
            false => chosen.clone(),
        };
        Entry {
            who: Who::New(arriving, accepted.shown_uid, chosen),
            place,
            subprotocol,
            deflate,
            until: accepted.until,
            address,
        }
    }

    /// The entry of a client that comes back.
    pub(super) fn returning(
        returning: Returning,
        (place, address): (AdmissionPermit, Option<SocketAddr>),
        until: Option<Instant>,
    ) -> Entry {
        Entry {
            who: Who::Returning(returning),
            place,
            subprotocol: Some(subprotocol::NAME.to_owned()),
            deflate: None,
            until,
            address,
        }
    }

    /// The subprotocol that the answer names.
    pub(super) fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }
}

impl Acceptor {
    /// Gives an accepted client its connection. From here on, the plugin must receive an `on-close`
    /// for a new client.
    pub(super) fn let_in(&self, entry: Entry, upgrade: OnUpgrade) {
        let Entry {
            who,
            place,
            deflate,
            until,
            address,
            ..
        } = entry;
        let message_bytes = self.registry.limits().message_bytes;
        let connect = async move |is_tagged| {
            let (stream, read_already) = upgraded(upgrade).await?;
            // The letter before a text is no part of the message.
            let message_bytes = message_bytes + usize::from(is_tagged);
            let (deflates, read) = (deflate.is_some(), stream.read);
            Some(Box::new(Connection {
                reader: Reader::new(read, &read_already, message_bytes, deflates),
                write: stream.write,
                place,
                until,
                address,
            }))
        };
        match who {
            Who::Returning(Returning::Here(session)) => {
                tokio::spawn(async move {
                    if let Some(connection) = connect(true).await {
                        session.hand_over(connection);
                    }
                });
            }
            Who::Returning(Returning::Adopted(task, received)) => {
                tokio::spawn(async move {
                    let connection = connect(true).await;
                    // A task of its own, as below.
                    tokio::spawn(task.run_adopted(connection, received));
                });
            }
            Who::New(arriving, shown_uid, chosen) => {
                let session = self.begin(arriving, shown_uid, chosen, until);
                tokio::spawn(async move {
                    match connect(session.client().is_tagged()).await {
                        // A task of its own: this one's memory holds what an upgrade needs.
                        Some(connection) => drop(tokio::spawn(session.run(connection))),
                        None => session.vanished().await,
                    }
                });
            }
        }
    }

    /// Begins the session of a new client, and welcomes a client that speaks `jackfield.v1`.
    fn begin(
        &self,
        arriving: Arriving,
        shown_uid: Option<String>,
        chosen: Option<String>,
        until: Option<Instant>,
    ) -> ClientTask {
        let (client, session) = arriving.arrived();
        let namespace = session.plugin().namespace().clone();
        let mut resumable = None;
        if client.is_tagged() {
            let policy = namespace.policies().resume;
            // By now, the manifest may be another one than when the client arrived.
            let policy = policy.filter(|_| client.outbox().is_retaining());
            resumable = policy.and_then(|_| {
                let token = SessionToken {
                    secret: ResumeSecret::draw()?,
                    shown_uid,
                    subprotocol: chosen.clone(),
                };
                let sessions = &self.resumable;
                Some(sessions.register(client.id(), namespace, token, until))
            });
            let resume = resumable.as_ref().zip(policy);
            client.outbox().push_first(subprotocol::welcome(&Welcome {
                client: client.id_text().to_owned(),
                resumed: false,
                received: 0,
                subprotocol: chosen,
                resume: resume.map(|(resumable, policy)| resumable.welcome(policy.window)),
            }));
        }
        ClientTask::new(client, session, resumable)
    }
}

/// A client that asks for a connection. The client's session with the plugin already exists, since
/// a drain also waits for handshakes.
pub(super) struct Arriving {
    unaccepted: Unaccepted,
    session: plugin::Session,
}

/// A client in the registry that is not accepted yet. Dropping this value removes the client.
struct Unaccepted {
    client: Arc<Client>,
    /// The namespace that contains the client, or `None` once the client is accepted.
    namespace: Option<Arc<Namespace>>,
}

impl Arriving {
    /// Puts a client into the registry, and begins its session with the plugin.
    pub(super) fn new(plugin: &Arc<Plugin>, headers: &HeaderMap, arrival: Arrival) -> Arriving {
        let namespace = plugin.namespace();
        Arriving {
            session: plugin.session(namespace.shared().tracer().client(headers)),
            unaccepted: Unaccepted {
                client: namespace.arrive(arrival),
                namespace: Some(namespace.clone()),
            },
        }
    }

    /// The client that asks.
    pub(super) fn client(&self) -> &Arc<Client> {
        &self.unaccepted.client
    }

    /// Asks the plugin whether the client may come in.
    ///
    /// # Errors
    ///
    /// The errors are those of `plugin::Session::on_connect`.
    pub(super) async fn on_connect(&self, handshake: &Handshake) -> Result<Answer, Failure> {
        let client = self.client();
        let answer = self.session.on_connect(client, handshake).await;
        if let Ok(Answer::Accepted(_)) = answer {
            let namespace = self.session.plugin().namespace();
            namespace.emit(|| EventKind::Connected(client.id()));
        }
        answer
    }

    fn arrived(self) -> (Arc<Client>, plugin::Session) {
        let mut accepted = self.unaccepted;
        accepted.namespace = None;
        (accepted.client.clone(), self.session)
    }
}

impl Drop for Unaccepted {
    fn drop(&mut self) {
        if let Some(namespace) = &self.namespace {
            namespace.leave(&self.client, &Close::without_frame(Closer::Node));
            namespace.shared().live_traces().forget(self.client.id());
        }
    }
}
