//! The HTTP request with which a client asks for a connection.

/// The data of a client's handshake, as its HTTP request contained it.
#[derive(Debug, Default)]
pub struct Handshake {
    /// The path of the HTTP request.
    pub path: String,
    /// The names and values of the query's parameters.
    pub query: Vec<(String, String)>,
    /// The header names in lower case, with their values.
    pub headers: Vec<(String, String)>,
    /// The address and port of the peer.
    pub remote_address: String,
    /// The subprotocols that the client offers.
    pub subprotocols: Vec<String>,
}

impl Handshake {
    /// The values of the header `name`, which is written in lower case.
    pub(crate) fn header(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.headers.iter().filter(move |(found, _)| found == name);
        named.map(|(_, value)| value.as_str())
    }
}
