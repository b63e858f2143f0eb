//! Handshakes as a test writes them.

use crate::Handshake;

impl Handshake {
    /// Makes the handshake of a browser that asks for this path and query, for a test.
    ///
    /// There are no headers and no subprotocols, and the address is `127.0.0.1:51234`.
    ///
    /// ```
    /// use jackfield_sdk::Handshake;
    ///
    /// let handshake = Handshake::get("/lobby?name=Ada+Lovelace&mood=%3A%29");
    /// assert_eq!(handshake.path, "/lobby");
    /// assert_eq!(handshake.query("name"), Some("Ada Lovelace"));
    /// assert_eq!(handshake.query("mood"), Some(":)"));
    ///
    /// let subprotocols = vec!["v1.chat".to_owned()];
    /// let handshake = Handshake { subprotocols, ..Handshake::get("/lobby") };
    /// assert_eq!(handshake.subprotocols, ["v1.chat"]);
    /// ```
    pub fn get(target: &str) -> Handshake {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let query = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        });
        Handshake {
            path: path.to_owned(),
            query: query.collect(),
            remote_address: "127.0.0.1:51234".to_owned(),
            ..Handshake::default()
        }
    }
}

/// A part of a query, as the node decodes it. A `%` that no two hexadecimal digits follow stays.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).and_then(|two| str::from_utf8(two).ok());
        let digits = digits.filter(|two| two.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let escaped = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        let (byte, length) = match (first, escaped) {
            (b'%', Some(byte)) => (byte, 3),
            (b'+', _) => (b' ', 1),
            (&byte, _) => (byte, 1),
        };
        bytes.push(byte);
        rest = &rest[length..];
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_as_a_node_decodes_it() {
        let handshake =
            Handshake::get("/a%20b?x=1&&x=2&flag&e=&%C3%A9=caf%c3%a9&odd=100%+%zz&u=é=");
        assert_eq!(handshake.path, "/a%20b", "as it came");
        let expected = [
            ("x", "1"),
            ("x", "2"),
            ("flag", ""),
            ("e", ""),
            ("é", "café"),
            ("odd", "100% %zz"),
            ("u", "é="),
        ];
        let found = handshake.query.iter();
        assert!(found.map(|(name, value)| (&**name, &**value)).eq(expected));
        assert!(Handshake::get("/").query.is_empty());
        assert!(Handshake::get("/?").query.is_empty());
    }
}
