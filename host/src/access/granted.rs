//! The result of the manifest's rules for a client that may connect.

use tokio::time::Instant;

/// The data that the rules have found about a client that may connect.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Granted {
    pub(crate) uid: Option<String>,
    /// The time when the client's token expires. `None` means that there is no token, or that its
    /// expiry is too far away for the clock.
    pub(crate) until: Option<Instant>,
    /// The claims of the client's token, as JSON, if it has one.
    pub(crate) claims: Option<String>,
}
