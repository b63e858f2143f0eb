//! What a server's error means: which of them another connection mends.

use redis::{ErrorKind, RedisError};

/// What a server says of a number that cannot be added to.
pub(super) const OVERFLOW: &str = "overflow";

pub(super) const NO_INTEGER: &str = "not an integer";

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection is no good, or leads to a server that is not the one: dial again.
    Connection,
    /// The server is the one, and refuses changes or all calls until it recovers by itself.
    /// Another connection would come to the same server.
    Refusal,
    /// The server's user may not do this.
    Denied,
    /// The call itself is refused, others may not be.
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

/// The error in words, with what to do where that is not plain.
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

/// Whether it is the value that a call is refused for, and not the call.
pub(super) fn is_of_the_value(error: &RedisError) -> bool {
    let said = error.detail().unwrap_or_default();
    [OVERFLOW, NO_INTEGER].iter().any(|why| said.contains(why))
}
