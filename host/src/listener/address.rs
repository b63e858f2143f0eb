//! The address of a port where clients connect, as the configuration writes it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// The address of a port where clients connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ListenAddress {
    /// A TCP port, written as `HOST:PORT`. Port 0 takes a free port.
    Tcp(String),
    /// A Unix socket, written as `unix:PATH`.
    Unix(PathBuf),
    /// The sockets of this name that systemd hands over, written as `systemd:NAME`.
    Systemd(String),
}

/// Reads one address, or a list of addresses.
///
/// # Errors
///
/// The value is neither, or an address has the wrong form.
pub(crate) fn one_or_many<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<ListenAddress>, D::Error> {
    struct OneOrMany;

    impl<'de> Visitor<'de> for OneOrMany {
        type Value = Vec<ListenAddress>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an address or a list of addresses")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<ListenAddress>, E> {
            Ok(vec![text.parse().map_err(E::custom)?])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vec<ListenAddress>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(list))
        }
    }

    deserializer.deserialize_any(OneOrMany)
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<ListenAddress, String> {
        let address = match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => ListenAddress::Unix(path.into()),
            Some(("systemd", name)) if !name.is_empty() => ListenAddress::Systemd(name.to_owned()),
            _ => match text.rsplit_once(':') {
                Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                    ListenAddress::Tcp(text.to_owned())
                }
                _ => {
                    return Err(format!(
                        "{text:?} is no address: HOST:PORT, unix:PATH or systemd:NAME is one"
                    ));
                }
            },
        };
        Ok(address)
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = String;

    fn try_from(text: String) -> Result<ListenAddress, String> {
        text.parse()
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => f.write_str(address),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
            ListenAddress::Systemd(name) => write!(f, "systemd:{name}"),
        }
    }
}

impl From<ListenAddress> for String {
    fn from(address: ListenAddress) -> String {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_written() {
        for text in [
            "127.0.0.1:8080",
            "[::]:0",
            "localhost:80",
            "unix:/run/a:b.sock",
            "systemd:jackfield.socket",
        ] {
            let address: ListenAddress = text.parse().expect(text);
            assert_eq!(address.to_string(), text);
        }
        for text in [
            "",
            "8080",
            ":8080",
            "localhost",
            "a:99999",
            "unix:",
            "systemd:",
        ] {
            let error = text.parse::<ListenAddress>().expect_err(text);
            assert!(error.contains("HOST:PORT, unix:PATH"), "{error}");
        }
    }
}
