//! The one connection to the server, and the task that keeps it.
//!
//! The task dials, asks each second whether the server still takes changes, and dials again when
//! it does not or when a call finds that out first. The log says once that the server cannot be
//! used and once that it is back. Without a connection calls fail at once; the one that finds it
//! broken fails too, since nobody knows what the server has done. The pause between two dials
//! doubles up to `REDIAL_MOST`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::dial::{Dialled, check, client, dial};
use super::fault::{Fault, explain, is_of_the_value};
use crate::config::KeyvalueConfig;
use crate::keyvalue::health::Health;

/// How often the server is asked.
const LOOK: Duration = Duration::from_secs(1);

/// The first pause before the next dial, and the longest one.
const REDIAL: Duration = Duration::from_millis(100);
const REDIAL_MOST: Duration = Duration::from_secs(2);

/// A connection that lasted so long was a good one: the next pause is the first one again.
const STEADY: Duration = Duration::from_secs(10);

/// How often the log says at most that calls are refused.
const SAY_AGAIN: Duration = Duration::from_secs(10);

pub(super) struct Connection {
    shared: Arc<Shared>,
    keeping: JoinHandle<()>,
}

struct Shared {
    server: String,
    current: watch::Sender<Option<Numbered>>,
    /// What a call has found, of the connection with this number.
    found: Mutex<Option<(u64, String)>>,
    look_now: Notify,
    refused: Mutex<Refused>,
    status: Mutex<Status>,
    health: Arc<Health>,
}

/// A connection and its number: an error tells of the one that had it.
#[derive(Clone)]
struct Numbered(u64, MultiplexedConnection);

/// What can be said of the server.
#[derive(Clone, Default)]
enum Status {
    #[default]
    Works,
    /// It answers reads, and refuses changes for this reason.
    Refuses(String),
    /// There is no connection, for this reason.
    Lost(String),
}

impl Status {
    fn of(refusal: Option<String>) -> Status {
        refusal.map_or(Status::Works, Status::Refuses)
    }
}

/// The calls that a server refuses while it takes others.
#[derive(Default)]
struct Refused {
    /// The command that is refused, once the log has said so.
    command: Option<Vec<u8>>,
    said: Option<Instant>,
}

impl Connection {
    /// Dials once. A server that cannot be reached may come.
    ///
    /// # Errors
    ///
    /// When the configuration is wrong.
    pub(super) async fn open(
        config: &KeyvalueConfig,
        health: Arc<Health>,
    ) -> anyhow::Result<Connection> {
        let server = client(config)?.get_connection_info().addr().to_string();
        let shared = Arc::new(Shared {
            server,
            current: watch::Sender::new(None),
            found: Mutex::default(),
            look_now: Notify::new(),
            refused: Mutex::default(),
            status: Mutex::default(),
            health,
        });
        let mut current = shared.current.subscribe();
        let (keeper, config) = (shared.clone(), config.clone());
        let keeping = tokio::spawn(async move { keeper.keep(&config).await });
        // Whatever came of the first dial: plugins start when it is over.
        let _ = current.changed().await;
        Ok(Connection { shared, keeping })
    }

    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let current = self.shared.current.borrow().clone();
        let Some(Numbered(number, mut connection)) = current else {
            let why = "the server cannot be used now (keyvalue.store)";
            return Err((ErrorKind::Io, why).into());
        };
        let answer = command.query_async(&mut connection).await;
        match &answer {
            Ok(_) => self.shared.taken(command),
            Err(error) => self.shared.failed(number, command, error),
        }
        answer
    }

    /// A call was not answered in time: the server is asked whether it is there.
    pub(super) fn was_too_slow(&self) {
        self.shared.look_now.notify_one();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

impl Shared {
    /// Keeps the connection, for as long as the node runs.
    async fn keep(&self, config: &KeyvalueConfig) {
        let (mut number, mut pause) = (0, REDIAL);
        loop {
            let began = Instant::now();
            let error = match dial(config).await {
                Ok(dialled) => self.until_broken(config, &mut number, dialled).await,
                Err(error) => error,
            };
            self.current.send_replace(None);
            self.report(Status::Lost(error));
            if began.elapsed() > STEADY {
                pause = REDIAL;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(REDIAL_MOST);
        }
    }

    /// Lets calls use a connection until it is no good, and says why it is not.
    async fn until_broken(
        &self,
        config: &KeyvalueConfig,
        number: &mut u64,
        dialled: Dialled,
    ) -> String {
        let Dialled {
            mut connection,
            refusal,
        } = dialled;
        // First what is said of the server: whoever has an answer of it can read that it is back.
        self.report(Status::of(refusal));
        self.take(number, &connection);
        loop {
            let woken = tokio::time::timeout(LOOK, self.look_now.notified()).await;
            if let Some((of, error)) = self.found.lock().take()
                && of == *number
            {
                return error;
            }
            match check(&mut connection).await {
                Ok(None) => self.report(Status::Works),
                Ok(Some(refusal)) => {
                    self.report(Status::Refuses(refusal));
                    // An old master that has lost its replicas: the name may lead elsewhere. Not
                    // for each call that fails.
                    if woken.is_err()
                        && let Ok(better) = dial(config).await
                        && better.refusal.is_none()
                    {
                        connection = better.connection;
                        self.report(Status::Works);
                        self.take(number, &connection);
                    }
                }
                Err(error) => return error,
            }
        }
    }

    fn take(&self, number: &mut u64, connection: &MultiplexedConnection) {
        *number += 1;
        let numbered = Numbered(*number, connection.clone());
        self.current.send_replace(Some(numbered));
    }

    /// What the log says of the server, once for each change, and operators see.
    fn report(&self, status: Status) {
        let former = std::mem::replace(&mut *self.status.lock(), status.clone());
        let server = &self.server;
        let is_new = std::mem::discriminant(&former) != std::mem::discriminant(&status);
        match (status, former) {
            (Status::Lost(error), _) => {
                if is_new {
                    tracing::warn!(
                        server,
                        error,
                        "the key-value server cannot be used, calls fail until it can"
                    );
                }
                self.health.fails(error);
            }
            (Status::Refuses(error), _) => {
                if is_new {
                    tracing::warn!(
                        server,
                        error,
                        "the key-value server refuses changes, they fail until it takes them"
                    );
                }
                self.health.fails(error);
            }
            (Status::Works, former) => {
                self.health.works();
                match former {
                    Status::Works => {}
                    Status::Refuses(_) => {
                        tracing::info!(server, "the key-value server takes changes again");
                    }
                    Status::Lost(_) => tracing::info!(server, "the key-value server is back"),
                }
            }
        }
    }

    fn failed(&self, number: u64, command: &Cmd, error: &RedisError) {
        match Fault::of(error) {
            Fault::Connection => {
                *self.found.lock() = Some((number, explain(error)));
                self.look_now.notify_one();
            }
            // The next look finds it too, and says it.
            Fault::Refusal => {}
            Fault::Call if is_of_the_value(error) => {}
            Fault::Call | Fault::Denied => self.refused(command, error),
        }
    }

    /// The server refuses such calls and takes others: it has no room, or forbids them.
    fn refused(&self, command: &Cmd, error: &RedisError) {
        let mut refused = self.refused.lock();
        let is_said = refused.said.is_some_and(|said| said.elapsed() < SAY_AGAIN);
        if refused.command.is_some() || is_said {
            return;
        }
        *refused = Refused {
            command: Some(name(command)),
            said: Some(Instant::now()),
        };
        tracing::warn!(
            server = self.server,
            command = %String::from_utf8_lossy(&name(command)),
            error = explain(error),
            "the key-value server refuses calls"
        );
    }

    fn taken(&self, command: &Cmd) {
        let mut refused = self.refused.lock();
        if refused
            .command
            .as_ref()
            .is_some_and(|refused| *refused == name(command))
        {
            refused.command = None;
            tracing::info!(
                server = self.server,
                command = %String::from_utf8_lossy(&name(command)),
                "the key-value server takes such calls again"
            );
        }
    }
}

/// A command's name, as it is sent.
fn name(command: &Cmd) -> Vec<u8> {
    match command.args_iter().next() {
        Some(redis::Arg::Simple(name)) => name.to_vec(),
        _ => Vec::new(),
    }
}
