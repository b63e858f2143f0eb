//! A handshake as a recording has it: its JSON Web Tokens have no signatures, so that nobody can connect
//! with them.

use crate::access::{Handshake, without_signatures};
use crate::live_trace::{TraceConnecting, TracePair};

/// What a recording has of a handshake.
pub(super) fn recorded(handshake: &Handshake) -> TraceConnecting {
    let pairs = |pairs: &[(String, String)]| {
        let pair = |(name, value): &(String, String)| TracePair {
            name: name.clone(),
            value: without_signatures(value),
        };
        pairs.iter().map(pair).collect()
    };
    let subprotocols = handshake.subprotocols.iter();
    TraceConnecting {
        path: without_signatures(&handshake.path),
        query: pairs(&handshake.query),
        headers: pairs(&handshake.headers),
        remote_address: handshake.remote_address.clone(),
        subprotocols: subprotocols.map(|name| without_signatures(name)).collect(),
    }
}
