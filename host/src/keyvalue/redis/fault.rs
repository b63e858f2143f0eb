//! The meaning of a server's errors: which of them a new connection can repair.

use redis::{ErrorKind, RedisError};

/// The text in a server's error for a number that would overflow.
pub(super) const OVERFLOW: &str = "overflow";

pub(super) const NO_INTEGER: &str = "not an integer";

/// The kind of a server error, which decides what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection is broken, or it leads to the wrong server. A new connection is needed.
    Connection,
    /// The server is the right one, but it refuses changes or all calls until it recovers by
    /// itself. A new connection would lead to the same server.
    Refusal,
    /// The server's user may not run this command.
    Denied,
    /// The server refuses this call, but may accept others.
    Call,
}

impl Fault {
    pub(super) fn of(error: &RedisError) -> Fault {
        match error.code() {
            // A replica, one that has lost its master, one that starts, one that knows us not.
            Some("READONLY" | "MASTERDOWN" | "LOADING" | "NOAUTH" | "WRONGPASS") => {
                Fault::Connection
            }
            // Its disk, its replicas, a script that runs too long.
            Some("MISCONF" | "NOREPLICAS" | "BUSY") => Fault::Refusal,
            Some("NOPERM") => Fault::Denied,
            Some(_) => Fault::Call,
            None if error.kind() == ErrorKind::UnexpectedReturnType => Fault::Call,
            None => Fault::Connection,
        }
    }
}

/// The error in words, with advice where the error alone is not clear.
pub(super) fn explain(error: &RedisError) -> String {
    let said = match error.code() {
        Some(code) => format!("{code} {}", error.detail().unwrap_or_default()),
        None => error.to_string(),
    };
    let advice = match error.code() {
        Some("MOVED" | "ASK" | "CROSSSLOT" | "TRYAGAIN" | "CLUSTERDOWN") => {
            "it is one of a Redis Cluster, which keeps keys at several servers: name a server \
             without cluster mode in keyvalue.store, or a proxy that speaks for the cluster"
        }
        Some("READONLY" | "MASTERDOWN") => {
            "it is a replica: the name in keyvalue.store has to lead to its master"
        }
        Some("NOAUTH" | "WRONGPASS") => "its password is what keyvalue.password_file has to have",
        None if error.kind() == ErrorKind::AuthenticationFailed => {
            "its password is what keyvalue.password_file has to have"
        }
        _ => return said,
    };
    format!("{said} ({advice})")
}

/// Whether the call is refused because of the stored value, and not because of the call itself.
pub(super) fn is_of_the_value(error: &RedisError) -> bool {
    let said = error.detail().unwrap_or_default();
    [OVERFLOW, NO_INTEGER].iter().any(|why| said.contains(why))
}
