//! The HTTP request with which a client asks to come in.

/// A client's handshake, as its HTTP request said it.
#[derive(Debug, Default)]
pub struct Handshake {
    /// The request's path.
    pub path: String,
    /// The query's names and values.
    pub query: Vec<(String, String)>,
    /// Header names in lower case, and their values.
    pub headers: Vec<(String, String)>,
    /// The peer's address and port.
    pub remote_address: String,
    /// The offered subprotocols.
    pub subprotocols: Vec<String>,
}

impl Handshake {
    /// The values of a header, whose name is in lower case.
    pub(crate) fn header(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.headers.iter().filter(move |(found, _)| found == name);
        named.map(|(_, value)| value.as_str())
    }
}
