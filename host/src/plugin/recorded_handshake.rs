//! A handshake as a recording has it. Whoever has the recording cannot connect with the tokens in it.

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
        path: handshake.path.clone(),
        query: pairs(&handshake.query),
        headers: pairs(&handshake.headers),
        remote_address: handshake.remote_address.clone(),
        subprotocols: subprotocols
            .map(|name| without_signatures(name))
            .collect(),
    }
}
