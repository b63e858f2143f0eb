//! What the manifest's rules say of a client that may come in.

use tokio::time::Instant;

/// What was found of a client that may come in.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Granted {
    pub(crate) uid: Option<String>,
    /// When its token expires.
    pub(crate) until: Option<Instant>,
}
