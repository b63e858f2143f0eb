//! Connecting to the server behind a name: to the one that accepts changes.
//!
//! Each attempt begins anew: the files with the password and the authorities are read, the name is
//! looked up, and all its addresses are tried at once. After a failover, a name leads to another
//! address, or to several addresses of which one is the master. A server proves that it is the
//! master by a command that changes nothing. The commands `ROLE` and `INFO` do not help, since
//! operators forbid them, and a proxy in front of the server does not know them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::io::AsyncDNSResolver;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, RedisFuture, TlsCertificates,
};
use tokio_rustls::rustls::crypto::ring;

use super::fault::{Fault, explain};
use crate::authorities::Authorities;
use crate::config::KeyvalueConfig;

/// The time for each step: a lookup of a name, a connection, or an answer to the check for changes.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// The most addresses of a name that are tried. No set of replicas has more addresses.
const ADDRESSES: usize = 16;

/// A connection to a server that answers.
pub(super) struct Dialled {
    pub(super) connection: MultiplexedConnection,
    /// The reason why the server refuses changes for now, if it does.
    pub(super) refusal: Option<String>,
}

/// Why no connection came about, or why one is of no use, in words for operators.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct DialError(String);

/// Connects to the server of this configuration. A server that accepts changes is preferred to one
/// that only answers reads.
pub(super) async fn dial(config: &KeyvalueConfig) -> Result<Dialled, DialError> {
    let dialled = async {
        let reading = config.clone();
        // Files of a mount that has gone hold up this thread, and no other.
        let client = tokio::task::spawn_blocking(move || client(&reading)).await??;
        let addresses = look_up(client.get_connection_info().addr()).await?;
        anyhow::Ok((client, addresses))
    };
    let (client, addresses) = match tokio::time::timeout(PATIENCE * 2, dialled).await {
        Ok(found) => found.map_err(|error| DialError(format!("{error:#}")))?,
        Err(_) => {
            return Err(DialError(format!(
                "its name is not looked up within {:?}",
                PATIENCE * 2
            )));
        }
    };
    let mut dials: FuturesUnordered<_> = addresses
        .into_iter()
        .take(ADDRESSES)
        .map(|address| dial_one(&client, address))
        .collect();
    let (mut second_best, mut errors) = (None, Vec::new());
    while let Some(dialled) = dials.next().await {
        match dialled {
            Ok(dialled) if dialled.refusal.is_none() => return Ok(dialled),
            Ok(dialled) => second_best = Some(dialled),
            Err(DialError(error)) => errors.push(error),
        }
    }
    second_best.ok_or_else(|| DialError(errors.join("; ")))
}

/// Checks whether the server accepts changes. If the server refuses changes for now but answers
/// reads, the result is the reason.
///
/// # Errors
///
/// Returns an error when the server does not answer, or when it is not the master.
pub(super) async fn check(
    connection: &mut MultiplexedConnection,
) -> Result<Option<String>, DialError> {
    // No plugin has an empty name, so there is no such hash.
    let mut command = redis::cmd("HDEL");
    command.arg("jackfield::").arg("-");
    let answer = command.query_async::<()>(connection);
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(())) => Ok(None),
        Ok(Err(error)) => match Fault::of(&error) {
            Fault::Refusal => Ok(Some(explain(&error))),
            // Whoever grants each plugin's keys by themselves does not grant this one.
            Fault::Denied => Ok(None),
            Fault::Connection | Fault::Call => Err(DialError(explain(&error))),
        },
        Err(_) => Err(DialError(format!("no answer within {PATIENCE:?}"))),
    }
}

/// Creates a client from the configuration, with the current content of its files.
///
/// # Errors
///
/// Returns an error when the address is not valid, or when a file cannot be read or is empty.
pub(super) fn client(config: &KeyvalueConfig) -> anyhow::Result<Client> {
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
            .with_context(|| format!("keyvalue.password_file: {file} cannot be read"))?;
        let password = password.trim_end_matches(['\r', '\n']);
        anyhow::ensure!(
            !password.is_empty(),
            "keyvalue.password_file: {file} has no password in it"
        );
        let settings = info.redis_settings().clone();
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

async fn look_up(address: &ConnectionAddr) -> anyhow::Result<Vec<SocketAddr>> {
    let (ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }) = address
    else {
        anyhow::bail!("{address} is no HOST:PORT");
    };
    let found = tokio::net::lookup_host((host.as_str(), *port)).await;
    let found: Vec<_> = found
        .with_context(|| format!("the name {host} is not found"))?
        .collect();
    anyhow::ensure!(!found.is_empty(), "the name {host} has no address");
    Ok(found)
}

async fn dial_one(client: &Client, address: SocketAddr) -> Result<Dialled, DialError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        // Each call has its own.
        .set_response_timeout(None)
        // The name is still what the server's certificate has to be for.
        .set_dns_resolver(Resolved(address));
    let dialled = client.get_multiplexed_async_connection_with_config(&config);
    let failed = |why: String| DialError(format!("{address}: {why}"));
    let mut connection = dialled.await.map_err(|error| failed(explain(&error)))?;
    let refusal = check(&mut connection).await;
    let refusal = refusal.map_err(|DialError(why)| failed(why))?;
    Ok(Dialled {
        connection,
        refusal,
    })
}

/// The resolver for one fixed address. The crate's own resolver connects to whichever address
/// answers first, even to a replica.
struct Resolved(SocketAddr);

impl AsyncDNSResolver for Resolved {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        _host: &'b str,
        _port: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        let address: Box<dyn Iterator<Item = SocketAddr> + Send> =
            Box::new(std::iter::once(self.0));
        Box::pin(std::future::ready(Ok(address)))
    }
}
