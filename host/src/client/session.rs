//! The session of one client after the upgrade: its messages in order, and its end.
//!
//! Limits bound each part of a session: `message_bytes` a message, `MESSAGES_PER_TURN` a turn,
//! `ping_every` and `ping_timeout` a silence, and `close_timeout` the end. While more than half of

use std::sync::Arc;

use super::admission::AdmissionPermit;
use super::away::{AwayClient, Return};
use super::connection::Connection;
use super::conversation::{Conversation, Numbers};
use super::reader::Reader;
use super::resumable::Resumable;
use super::session_end::{SessionEnd, broken, goodbye};
use super::subprotocol::{self, Welcome};
use crate::close_code::CloseCode;
use crate::message::Frame;
use crate::plugin;
use crate::policy::ResumePolicy;
use crate::registry::{Client, Closer, Departure, Ending, EventKind, Namespace};

/// The session of an accepted client. Dropping the session removes the client, whatever its task
/// was doing.
pub(super) struct ClientTask {
    client: Arc<Client>,
    session: plugin::Session,
    /// The way in which the client may come back on another connection, if it may.
    resumable: Option<Box<Resumable>>,
    numbers: Numbers,
}

impl ClientTask {
    /// Creates a session from a client, its session with the plugin, and the way in which it may
    /// come back.
    pub(super) fn new(
        client: Arc<Client>,
        session: plugin::Session,
        resumable: Option<Box<Resumable>>,
    ) -> ClientTask {
        ClientTask {
            client,
            session,
            resumable,
            numbers: Numbers::default(),
        }
    }

    /// Creates the session of a client that another node has had, which has handled so many of its
    /// messages.
    pub(super) fn adopted(
        client: Arc<Client>,
        session: plugin::Session,
        resumable: Box<Resumable>,
        handled: u64,
    ) -> ClientTask {
        ClientTask {
            client,
            session,
            resumable: Some(resumable),
            numbers: Numbers {
                handled,
                told: handled,
            },
        }
    }

    fn namespace(&self) -> &Arc<Namespace> {
        self.session.plugin().namespace()
    }

    /// The client of this session.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Serves the client until it has left and its plugin knows that, on this connection and on those
    /// with which it comes back.
    pub(super) async fn run(mut self, connection: Box<Connection>) {
        self.client.outbox().attach(connection.write.clone());
        self.serve(Some(connection)).await;
    }

    /// Serves a client that has come back on this connection after it was at another node, and has
    /// received so many messages. Without a connection, the client is waited for once more.
    pub(super) async fn run_adopted(mut self, connection: Option<Box<Connection>>, received: u64) {
        if let Some(connection) = &connection {
            self.come_back(connection, received);
        }
        self.serve(connection).await;
    }

    async fn serve(&mut self, first: Option<Box<Connection>>) {
        let mut connection = first;
        let (ended, left) = loop {
            let (ended, left) = match connection {
                Some(connection) => self.converse(connection).await,
                None => (SessionEnd::Now(broken()), None),
            };
            let Some(policy) = self.waits_after(&ended) else {
                break (ended, left);
            };
            // Boxed, as a turn is: no idle client carries what comes after its connection.
            match Box::pin(self.wait_for_return(ended, left, policy)).await {
                Ok(next) => connection = Some(next),
                Err(ended) => break (ended, None),
            }
        };
        Box::pin(self.part(ended, left)).await;
    }

    /// Serves the client on one connection. Returns what is left of the connection.
    async fn converse(
        &mut self,
        connection: Box<Connection>,
    ) -> (SessionEnd, Option<(Reader, AdmissionPermit)>) {
        let shared = self.session.plugin().namespace().shared().clone();
        let mut conversation = Conversation::new(
            &self.session,
            &self.client,
            &shared,
            unbox(connection),
            (self.resumable.as_deref_mut(), &mut self.numbers),
        );
        let ended = conversation.run().await;
        (ended, Some(conversation.into_parts()))
    }

    /// Returns the rules for waiting, if the client may come back after this end of its connection.
    fn waits_after(&self, ended: &SessionEnd) -> Option<ResumePolicy> {
        self.resumable.as_ref()?;
        let is_waited_for = match ended {
            SessionEnd::Now(close) => match close.code {
                // With a new token, for the same uid, it is the same client.
                CloseCode::Abnormal | CloseCode::TokenExpired => true,
                CloseCode::ComesBack => close.by == Closer::Client,
                _ => false,
            },
            SessionEnd::Interrupted(_) | SessionEnd::TakenOver(_) => true,
            SessionEnd::Already | SessionEnd::Unreadable(_) | SessionEnd::Moved => false,
        };
        is_waited_for.then(|| self.namespace().policies().resume)?
    }

    /// Waits for the client to come back after its connection has ended. Returns the next
    /// connection, or how the session ends.
    async fn wait_for_return(
        &mut self,
        ended: SessionEnd,
        connection: Option<(Reader, AdmissionPermit)>,
        policy: ResumePolicy,
    ) -> Result<Box<Connection>, SessionEnd> {
        let shared = self.namespace().shared().clone();
        let client = self.client.clone();
        let told = match &ended {
            SessionEnd::Interrupted(close) => Some(close),
            SessionEnd::Now(close) if close.code != CloseCode::Abnormal => Some(close),
            _ => None,
        };
        if let Some((mut reader, _place)) = connection
            && let Some(close) = told
        {
            let outbox = client.outbox();
            outbox.push_control(Frame::close(close.code, &close.reason));
            let goodbye = goodbye(&client, &shared, &mut reader, &ended, close);
            let _ = tokio::time::timeout(shared.limits().close_timeout, goodbye).await;
        }
        let (close, request) = match ended {
            SessionEnd::Interrupted(close) | SessionEnd::Now(close) => (close, None),
            SessionEnd::TakenOver(request) => (broken(), Some(*request)),
            SessionEnd::Already | SessionEnd::Unreadable(_) | SessionEnd::Moved => {
                return Err(ended);
            }
        };
        let Some(resumable) = &mut self.resumable else {
            return Err(SessionEnd::Now(close));
        };
        let namespace = self.session.plugin().namespace();
        let away = AwayClient {
            client: &client,
            namespace,
            resumable,
            handled: self.numbers.handled,
        };
        match away.wait(policy, close, request).await {
            Return::Back {
                connection,
                received,
            } => {
                self.come_back(&connection, received);
                Ok(connection)
            }
            Return::Moved => Err(SessionEnd::Moved),
            Return::Left => Err(SessionEnd::Already),
        }
    }

    /// Gives a client that has come back its new connection. It has received so many messages.
    fn come_back(&mut self, connection: &Connection, received: u64) {
        let client = &self.client;
        client.set_address(connection.address);
        self.numbers.told = self.numbers.handled;
        let mut chosen = None;
        if let Some(resumable) = &mut self.resumable {
            resumable.set_until(connection.until);
            chosen = resumable.subprotocol().map(str::to_owned);
        }
        let policy = self.namespace().policies().resume;
        let resume = self.resumable.as_ref().zip(policy);
        let welcome = subprotocol::welcome(&Welcome {
            client: client.id_text().to_owned(),
            resumed: true,
            received: self.numbers.handled,
            subprotocol: chosen,
            resume: resume.map(|(resumable, policy)| resumable.welcome(policy.window)),
        });
        let socket = connection.write.clone();
        let outbox = client.outbox();
        outbox.attach_again(socket, welcome, received);
    }

    /// Ends the session of an accepted client whose upgrade failed.
    pub(super) async fn vanished(self) {
        self.namespace().leave(&self.client, &broken());
        self.on_close(self.client.departure()).await;
    }

    /// Ends the session. A client that is away has no connection any more.
    async fn part(&mut self, ended: SessionEnd, connection: Option<(Reader, AdmissionPermit)>) {
        if let Some(ack) = self.numbers.take_ack(&self.client) {
            self.client.outbox().push_before_close(ack);
        }
        let namespace = self.namespace();
        if let SessionEnd::Moved = ended {
            return namespace.give_away(&self.client);
        }
        let close = match &ended {
            SessionEnd::Now(close)
            | SessionEnd::Unreadable(close)
            | SessionEnd::Interrupted(close) => Some(close.clone()),
            SessionEnd::TakenOver(_) => Some(broken()),
            SessionEnd::Already | SessionEnd::Moved => None,
        };
        if let Some(close) = close {
            namespace.end(&self.client, &Ending::new(close, None));
        }
        self.client.outbox().flush();
        let departure = self.client.departure();
        let close = departure.as_ref();
        let close = close.map_or_else(broken, |departure| departure.close.clone());
        let shared = namespace.shared();
        // Neither waits for the other: the plugin may be slow, and so may the client.
        let socket = async {
            let Some((mut reader, place)) = connection else {
                self.client.outbox().detach();
                return;
            };
            if close.code != CloseCode::Abnormal {
                let goodbye = goodbye(&self.client, shared, &mut reader, &ended, &close);
                let timeout = shared.limits().close_timeout;
                if tokio::time::timeout(timeout, goodbye).await.is_err() {
                    shared.counters().close_timed_out.add_one();
                }
            }
            self.client.outbox().detach();
            drop((reader, place));
        };
        tokio::join!(self.on_close(departure), socket);
    }

    async fn on_close(&self, departure: Option<Departure>) {
        let Some(departure) = departure else { return };
        self.session.on_close(&self.client, &departure).await;
        let namespace = self.namespace();
        namespace.shared().counters().clients_left.add_one();
        namespace.emit(|| EventKind::Closed {
            client: self.client.id(),
            close: departure.close.clone(),
            uid: departure.uid.clone(),
        });
    }
}

impl Drop for ClientTask {
    fn drop(&mut self) {
        self.namespace().leave(&self.client, &broken());
        self.client.outbox().detach();
    }
}

/// Moves a value out of its box, whose memory is free then.
#[expect(clippy::boxed_local, reason = "to end the box is what it is for")]
fn unbox<T>(boxed: Box<T>) -> T {
    *boxed
}
