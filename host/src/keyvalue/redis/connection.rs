//! The only connection to the server, and the task that maintains it.
//!
//! The task connects, checks every second whether the server still accepts changes, and connects
//! again when the server does not. The task also connects again when a call finds the problem
//! first. The log says once that the server cannot be used, and once that it is back. Without a
//! connection, calls fail at once. The call that finds a broken connection fails too, since nobody
//! knows what the server has done. The pause between two attempts doubles up to `REDIAL_MOST`.

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

/// The interval at which the server is checked.
const LOOK: Duration = Duration::from_secs(1);

/// The first pause before the next attempt to connect. `REDIAL_MOST` is the longest pause.
const REDIAL: Duration = Duration::from_millis(100);
const REDIAL_MOST: Duration = Duration::from_secs(2);

/// The age from which a connection counts as stable. After a stable connection, the pause is the
/// first one again.
const STEADY: Duration = Duration::from_secs(10);

/// The shortest time between two log lines about refused calls.
const SAY_AGAIN: Duration = Duration::from_secs(10);

pub(super) struct RedisConnection {
    shared: Arc<ConnectionState>,
    keeping: JoinHandle<()>,
}

struct ConnectionState {
    server: String,
    current: watch::Sender<Option<Numbered>>,
    /// The error that a call has found, and the number of its connection.
    found: Mutex<Option<(u64, String)>>,
    look_now: Notify,
    refused: Mutex<RefusedCalls>,
    status: Mutex<Status>,
    health: Arc<Health>,
}

/// A connection and its number. An error is reported with the number of its connection.
#[derive(Clone)]
struct Numbered(u64, MultiplexedConnection);

/// The state of the server, as the log and operators see it.
#[derive(Clone, Default)]
enum Status {
    #[default]
    Works,
    /// The server answers reads, but refuses changes, for this reason.
    Refuses(String),
    /// There is no connection, for this reason.
    Lost(String),
}

impl Status {
    fn of(refusal: Option<String>) -> Status {
        refusal.map_or(Status::Works, Status::Refuses)
    }
}

/// The calls that a server refuses while it accepts others.
#[derive(Default)]
struct RefusedCalls {
    /// The refused command, once the log has named it.
    command: Option<Vec<u8>>,
    said: Option<Instant>,
}

impl RedisConnection {
    /// Connects once. A server that cannot be reached now may come back later.
    ///
    /// # Errors
    ///
    /// Returns an error when the configuration is wrong.
    pub(super) async fn open(
        config: &KeyvalueConfig,
        health: Arc<Health>,
    ) -> anyhow::Result<RedisConnection> {
        let server = client(config)?.get_connection_info().addr().to_string();
        let shared = Arc::new(ConnectionState {
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
        Ok(RedisConnection { shared, keeping })
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

    /// Reports that a call was not answered in time, so that the server is checked now.
    pub(super) fn was_too_slow(&self) {
        self.shared.look_now.notify_one();
    }
}

impl Drop for RedisConnection {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

impl ConnectionState {
    /// Maintains the connection for as long as the node runs.
    async fn keep(&self, config: &KeyvalueConfig) {
        let (mut number, mut pause) = (0, REDIAL);
        loop {
            let began = Instant::now();
            let error = match dial(config).await {
                Ok(dialled) => self.until_broken(config, &mut number, dialled).await,
                Err(error) => error.to_string(),
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

    /// Lets calls use a connection until it is broken, and returns the reason.
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
                Err(error) => return error.to_string(),
            }
        }
    }

    fn take(&self, number: &mut u64, connection: &MultiplexedConnection) {
        *number += 1;
        let numbered = Numbered(*number, connection.clone());
        self.current.send_replace(Some(numbered));
    }

    /// Reports the state of the server, to the log once for each change, and to operators.
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

    /// Notes that the server refuses such calls but accepts others, since it has no room or forbids
    /// them.
    fn refused(&self, command: &Cmd, error: &RedisError) {
        let mut refused = self.refused.lock();
        let is_said = refused.said.is_some_and(|said| said.elapsed() < SAY_AGAIN);
        if refused.command.is_some() || is_said {
            return;
        }
        *refused = RefusedCalls {
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

/// The name of a command, as it is sent.
fn name(command: &Cmd) -> Vec<u8> {
    match command.args_iter().next() {
        Some(redis::Arg::Simple(name)) => name.to_vec(),
        _ => Vec::new(),
    }
}
