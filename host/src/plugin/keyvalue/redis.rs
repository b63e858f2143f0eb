//! State at a Redis or Valkey server: of all nodes that use it.
//!
//! A plugin's bucket is one hash, `jackfield:PLUGIN:BUCKET`. One connection carries all calls,
//! and one task keeps it: it dials, asks each second whether the server still answers, and says
//! once that it is gone and once that it is back. Without a connection calls fail at once; the
//! one that finds it broken fails too, since nobody knows what the server has done.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue,
    RedisError, TlsCertificates,
};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_rustls::rustls::crypto::ring;

use super::super::authorities::Authorities;
use super::change::{not_a_number, too_large};
use super::{Change, Changed, Failure, Place};
use crate::config::KeyvalueConfig;
use crate::limits::KEYVALUE_KEYS_A_PAGE;

/// How long a dial, or an answer to "are you there", may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often the server is asked, and how long the next dial waits after one that failed.
const LOOK: Duration = Duration::from_secs(1);
const REDIAL: Duration = Duration::from_millis(100);

/// The values stay at the server: a page is keys.
const KEYS: &str = "local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2]) \
                    local keys = {} \
                    for i = 1, #page[2], 2 do keys[#keys + 1] = page[2][i] end \
                    return {page[1], keys}";

const SWAP: &str = "local now = redis.call('HGET', KEYS[1], ARGV[1]) \
                    local expected = ARGV[2] == '1' and ARGV[3] \
                    if now ~= expected then return {0, now} end \
                    redis.call('HSET', KEYS[1], ARGV[1], ARGV[4]) \
                    return {1}";

pub(super) struct Redis {
    link: Arc<Link>,
    keeping: JoinHandle<()>,
}

/// The connection, if there is one.
struct Link {
    connection: watch::Sender<Option<MultiplexedConnection>>,
    broken: Notify,
}

impl Redis {
    pub(super) async fn open(config: &KeyvalueConfig) -> anyhow::Result<Redis> {
        let client = client(config)?;
        let first = dial(&client).await;
        let link = Arc::new(Link {
            connection: watch::Sender::new(first.clone().ok()),
            broken: Notify::new(),
        });
        let keeping = tokio::spawn(keep(client, link.clone(), first));
        Ok(Redis { link, keeping })
    }

    pub(super) async fn get(
        &self,
        place: &Place,
        keys: &[String],
    ) -> Result<Vec<Option<Vec<u8>>>, Failure> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = on(place, "HMGET");
        command.arg(keys);
        self.ask(&command).await.map_err(failed)
    }

    pub(super) async fn exists(&self, place: &Place, key: &str) -> Result<bool, Failure> {
        let mut command = on(place, "HEXISTS");
        self.ask(command.arg(key)).await.map_err(failed)
    }

    pub(super) async fn keys(
        &self,
        place: &Place,
        cursor: Option<&str>,
    ) -> Result<(Vec<String>, Option<String>), Failure> {
        let cursor: u64 = match cursor {
            None => 0,
            Some(cursor) => cursor.parse().map_err(|_| {
                Failure::Refused(format!("{cursor:?} is no cursor that list-keys gave"))
            })?,
        };
        let mut script = script(KEYS, place);
        script.arg(cursor).arg(KEYVALUE_KEYS_A_PAGE);
        let (next, keys): (String, Vec<String>) = self.ask(&script).await.map_err(failed)?;
        Ok((keys, (next != "0").then_some(next)))
    }

    pub(super) async fn change(&self, place: &Place, change: Change) -> Result<Changed, Failure> {
        match change {
            Change::Set(values) if values.is_empty() => Ok(Changed::Done),
            Change::Set(values) => {
                let mut command = on(place, "HSET");
                for (key, value) in values {
                    command.arg(key).arg(value);
                }
                self.ask::<()>(&command).await.map_err(failed)?;
                Ok(Changed::Done)
            }
            Change::Delete(keys) if keys.is_empty() => Ok(Changed::Done),
            Change::Delete(keys) => {
                let mut command = on(place, "HDEL");
                command.arg(keys);
                self.ask::<()>(&command).await.map_err(failed)?;
                Ok(Changed::Done)
            }
            Change::Increment(key, delta) => {
                let mut command = on(place, "HINCRBY");
                let asked = self.ask(command.arg(&key).arg(delta)).await;
                let number = asked.map_err(|error| match error.detail().unwrap_or_default() {
                    said if said.contains("overflow") => too_large(&key),
                    said if said.contains("not an integer") => not_a_number(&key),
                    _ => failed(error),
                });
                Ok(Changed::Number(number?))
            }
            Change::Swap {
                key,
                expected,
                value,
            } => {
                let mut script = script(SWAP, place);
                let (is_there, expected) = (expected.is_some(), expected.unwrap_or_default());
                script.arg(key).arg(i32::from(is_there));
                script.arg(expected).arg(value);
                let (done, now) = match self.ask(&script).await.map_err(failed)? {
                    redis::Value::Array(said) => {
                        let mut said = said.into_iter();
                        (said.next(), said.next())
                    }
                    _ => (None, None),
                };
                match (done, now) {
                    (Some(redis::Value::Int(1)), _) => Ok(Changed::Done),
                    (Some(redis::Value::Int(0)), now) => Ok(Changed::Differs(match now {
                        Some(redis::Value::BulkString(now)) => Some(now),
                        _ => None,
                    })),
                    _ => Err(Failure::Failed(
                        "the server's answer makes no sense".to_owned(),
                    )),
                }
            }
        }
    }

    /// A call was not answered in time: the server is asked whether it is there.
    pub(super) fn was_too_slow(&self) {
        self.link.broken.notify_one();
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let connection = self.link.connection.borrow().clone();
        let Some(mut connection) = connection else {
            let why = (
                ErrorKind::Io,
                "the server cannot be reached (keyvalue.store)",
            );
            return Err(why.into());
        };
        let answer = command.query_async(&mut connection).await;
        if let Err(error) = &answer
            && error.is_unrecoverable_error()
        {
            self.link.broken.notify_one();
        }
        answer
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

/// Keeps the connection, for as long as the node runs.
async fn keep(client: Client, link: Arc<Link>, first: Result<MultiplexedConnection, String>) {
    let server = client.get_connection_info().addr().to_string();
    let mut dialled = first;
    let mut is_gone = false;
    loop {
        match dialled {
            Ok(connection) => {
                if std::mem::replace(&mut is_gone, false) {
                    tracing::info!(server, "the key-value server is back");
                }
                link.connection.send_replace(Some(connection.clone()));
                let error = until_broken(connection, &link).await;
                link.connection.send_replace(None);
                is_gone = true;
                tracing::warn!(
                    server,
                    error,
                    "the key-value server does not answer, calls fail until it does"
                );
            }
            Err(error) => {
                if !std::mem::replace(&mut is_gone, true) {
                    tracing::warn!(
                        server,
                        error,
                        "the key-value server cannot be reached, calls fail until it can"
                    );
                }
                tokio::time::sleep(REDIAL).await;
            }
        }
        dialled = dial(&client).await;
    }
}

async fn until_broken(mut connection: MultiplexedConnection, link: &Link) -> String {
    loop {
        // At once when a call has found it broken: it may be wrong, or speak of the last one.
        let _ = tokio::time::timeout(LOOK, link.broken.notified()).await;
        let ping = redis::cmd("PING");
        let pong = ping.query_async::<()>(&mut connection);
        match tokio::time::timeout(PATIENCE, pong).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return format!("no answer within {PATIENCE:?}"),
        }
    }
}

async fn dial(client: &Client) -> Result<MultiplexedConnection, String> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        // Each call has its own.
        .set_response_timeout(None);
    let dialled = client.get_multiplexed_async_connection_with_config(&config);
    match tokio::time::timeout(PATIENCE * 2, dialled).await {
        Ok(dialled) => dialled.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {:?}", PATIENCE * 2)),
    }
}

fn client(config: &KeyvalueConfig) -> anyhow::Result<Client> {
    use redis::IntoConnectionInfo as _;
    let mut info = config.store.as_str().into_connection_info()?;
    anyhow::ensure!(
        info.redis_settings().password().is_none(),
        "a password does not belong into an address, which is shown: put it into a file and name \
         that with keyvalue.password_file"
    );
    if !config.password_file.as_os_str().is_empty() {
        let file = config.password_file.display();
        let password = std::fs::read_to_string(&config.password_file)
            .with_context(|| format!("{file} cannot be read"))?;
        let settings = info.redis_settings().clone();
        let password = password.trim_end_matches(['\r', '\n']);
        info = info.set_redis_settings(settings.set_password(password));
    }
    match info.addr() {
        ConnectionAddr::TcpTls { insecure: true, .. } => anyhow::bail!(
            "a server is not trusted unseen: name who has signed its certificate with \
             keyvalue.authorities"
        ),
        ConnectionAddr::TcpTls { .. } => encrypted(info, config),
        _ => Ok(Client::open(info)?),
    }
}

fn encrypted(info: ConnectionInfo, config: &KeyvalueConfig) -> anyhow::Result<Client> {
    // What the crate would take itself, if no other crate brings a second one.
    let _ = ring::default_provider().install_default();
    let authorities = Authorities::read("keyvalue.authorities", &config.authorities)?;
    let certificates = TlsCertificates {
        client_tls: None,
        root_cert: authorities.map(|authorities| authorities.pem),
    };
    Ok(Client::build_with_tls(info, certificates)?)
}

fn hash(place: &Place) -> String {
    format!("jackfield:{}:{}", place.plugin, place.bucket)
}

fn on(place: &Place, command: &str) -> Cmd {
    let mut command = redis::cmd(command);
    command.arg(hash(place));
    command
}

fn script(script: &str, place: &Place) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(script).arg(1).arg(hash(place));
    command
}

fn failed(error: RedisError) -> Failure {
    Failure::Failed(error.to_string())
}
