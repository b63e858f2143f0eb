//! The settings for spans, which a tracing backend shows.

use std::path::PathBuf;

use documented::DocumentedFields;
use serde::{Deserialize, Serialize};

/// The settings for spans, which the node sends to a collector (OTLP over gRPC).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(default, deny_unknown_fields)]
pub struct TracingConfig {
    /// The collector that gets the spans, such as `http://127.0.0.1:4317`, or `https://HOST:PORT`
    /// for TLS. With an empty text, the node has no spans.
    pub endpoint: String,
    /// The share of clients, timers and calls of the API that have spans, from 0 to 1. A call of the
    /// API with the header `traceparent` has spans if that header says so.
    pub sample_ratio: f64,
    /// Whether a client has spans if the header `traceparent` of its handshake says so. Anybody can
    /// send that header. Without this setting, `sample_ratio` alone decides for clients.
    pub follow_clients: bool,
    /// The name of the service in the spans.
    pub service_name: String,
    /// A file with headers for the collector, one `NAME: VALUE` on each line, for example a token.
    /// An empty path adds none.
    pub headers_file: PathBuf,
    /// A file with certificates of authorities, in PEM. These authorities are trusted in addition
    /// to those that browsers trust. An empty path adds none.
    pub authorities: PathBuf,
}

impl Default for TracingConfig {
    fn default() -> TracingConfig {
        TracingConfig {
            endpoint: String::new(),
            sample_ratio: 0.01,
            follow_clients: false,
            service_name: "jackfield".to_owned(),
            headers_file: PathBuf::new(),
            authorities: PathBuf::new(),
        }
    }
}
