//! The HTTP request with which a client asks for a connection.

/// The beginning of the headers that the node adds to a handshake for its plugin. A client cannot set
/// them.
pub(crate) const NODE_HEADERS: &str = "jackfield-";

/// The header with the claims of the client's token, as JSON.
const TOKEN_CLAIMS: &str = "jackfield-token-claims";

/// The beginning of the headers with the parameters in the client's path.
const PATH_PARAMETERS: &str = "jackfield-path-";

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
    /// The handshake as a plugin gets it: with the claims of the client's token, and the parameters in
    /// its path. `None` means that there is nothing to add.
    pub(crate) fn with_findings(
        &self,
        claims: Option<&str>,
        parameters: Vec<(String, String)>,
    ) -> Option<Handshake> {
        let claims = claims.map(|claims| (TOKEN_CLAIMS.to_owned(), claims.to_owned()));
        let parameters = parameters.into_iter();
        let parameters =
            parameters.map(|(name, value)| (format!("{PATH_PARAMETERS}{name}"), value));
        let found: Vec<_> = claims.into_iter().chain(parameters).collect();
        if found.is_empty() {
            return None;
        }
        let own = self.headers.iter();
        let own = own.filter(|(name, _)| !name.starts_with(NODE_HEADERS));
        Some(Handshake {
            path: self.path.clone(),
            query: self.query.clone(),
            headers: own.cloned().chain(found).collect(),
            remote_address: self.remote_address.clone(),
            subprotocols: self.subprotocols.clone(),
        })
    }

    /// The values of the header `name`, which is written in lower case.
    pub(crate) fn header(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.headers.iter().filter(move |(found, _)| found == name);
        named.map(|(_, value)| value.as_str())
    }
}
