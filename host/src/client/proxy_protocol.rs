//! The PROXY protocol: a header before everything else on a connection, in which a proxy says whose
//! connection it is (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>).
//!
//! Only as many bytes are read as the header has: what follows may be TLS.

use std::io;
use std::net::SocketAddr;

use ppp::v1::{self, Addresses as TextAddresses};
use ppp::v2::{self, Addresses as BinaryAddresses, Command};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The bytes with which a header of version 2 begins. A header of version 1 is at least as long.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The bytes of a header of version 2 before its addresses.
const HEAD_BYTES: usize = 16;

/// The most bytes of a header of version 2. A header can also hold the certificate of a client,
/// which the node does not need.
const HEADER_BYTES: usize = 16 << 10;

/// The most bytes of a header of version 1, with its line break.
const LINE_BYTES: usize = 107;

/// Reads the header of a connection, and returns the address of the client. The result is `None` if
/// the connection is the proxy's own, or if the proxy does not know the address.
///
/// # Errors
///
/// Returns an error when the connection breaks, or when it does not begin with a header.
pub(super) async fn read_proxy_header(
    socket: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![0; SIGNATURE.len()];
    socket.read_exact(&mut header).await?;
    if header == SIGNATURE {
        header.resize(HEAD_BYTES, 0);
        socket.read_exact(&mut header[SIGNATURE.len()..]).await?;
        let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
        if HEAD_BYTES + length > HEADER_BYTES {
            return Err(invalid("the header of the PROXY protocol is too long"));
        }
        header.resize(HEAD_BYTES + length, 0);
        socket.read_exact(&mut header[HEAD_BYTES..]).await?;
        return binary(&header);
    }
    if !header.starts_with(b"PROXY ") {
        return Err(invalid("there is no header of the PROXY protocol"));
    }
    while !header.ends_with(b"\r\n") {
        if header.len() == LINE_BYTES {
            return Err(invalid("the header of the PROXY protocol does not end"));
        }
        // One by one: a byte after the line belongs to the client.
        header.push(socket.read_u8().await?);
    }
    text(&header)
}

fn binary(header: &[u8]) -> io::Result<Option<SocketAddr>> {
    let header = v2::Header::try_from(header).map_err(invalid)?;
    Ok(match (header.command, header.addresses) {
        (Command::Local, _) => None,
        (Command::Proxy, BinaryAddresses::IPv4(addresses)) => {
            Some((addresses.source_address, addresses.source_port).into())
        }
        (Command::Proxy, BinaryAddresses::IPv6(addresses)) => {
            Some((addresses.source_address, addresses.source_port).into())
        }
        (Command::Proxy, BinaryAddresses::Unix(_) | BinaryAddresses::Unspecified) => None,
    })
}

fn text(header: &[u8]) -> io::Result<Option<SocketAddr>> {
    let header = v1::Header::try_from(header).map_err(invalid)?;
    Ok(match header.addresses {
        TextAddresses::Tcp4(addresses) => {
            Some((addresses.source_address, addresses.source_port).into())
        }
        TextAddresses::Tcp6(addresses) => {
            Some((addresses.source_address, addresses.source_port).into())
        }
        TextAddresses::Unknown => None,
    })
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::fuzzing::fuzz;

    const FOLLOWS: &[u8] = b"GET / HTTP/1.1\r\n";

    async fn read(header: &[u8]) -> io::Result<Option<SocketAddr>> {
        let bytes = [header, FOLLOWS].concat();
        let mut rest = &bytes[..];
        let address = read_proxy_header(&mut rest).await?;
        assert_eq!(rest, FOLLOWS, "what follows is left alone");
        Ok(address)
    }

    fn version_2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).expect("a length");
        let head = [&SIGNATURE[..], &[0x20 | command, family]].concat();
        [&head[..], &length.to_be_bytes(), addresses].concat()
    }

    #[tokio::test]
    async fn both_versions_say_the_client_s_address() {
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0x1f, 0x90, 0, 80];
        let mut v6 = [0; 36];
        v6[15] = 1;
        v6[33] = 7;
        // A field of a type that nobody knows.
        let with_field = [&v4[..], &[0xe0, 0, 2, 7, 7]].concat();
        for (header, address) in [
            (
                b"PROXY TCP4 192.0.2.1 10.0.0.1 8080 80\r\n".to_vec(),
                "192.0.2.1:8080",
            ),
            (b"PROXY TCP6 ::1 ::2 1792 80\r\n".to_vec(), "[::1]:1792"),
            (version_2(1, 0x11, &v4), "192.0.2.1:8080"),
            (version_2(1, 0x21, &v6), "[::1]:7"),
            (version_2(1, 0x11, &with_field), "192.0.2.1:8080"),
        ] {
            let read = read(&header).await.expect("a header");
            assert_eq!(read, Some(address.parse().expect("an address")));
        }
        for header in [
            b"PROXY UNKNOWN\r\n".to_vec(),
            b"PROXY UNKNOWN ::1 ::2 1 2\r\n".to_vec(),
            version_2(0, 0, &[]),
            version_2(0, 0x11, &v4),
            version_2(1, 0, &[]),
            version_2(1, 0x31, &[0; 216]),
        ] {
            assert_eq!(read(&header).await.expect("a header"), None, "{header:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_an_error() {
        for header in [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 8080\r\n".to_vec(),
            b"PROXY TCP4 ::1 ::1 1 2\r\n".to_vec(),
            b"PROXY TCP4 1.1.1.1 1.1.1.1 65536 80\r\n".to_vec(),
            [b"PROXY TCP6 ".to_vec(), vec![b'1'; 200]].concat(),
            version_2(2, 0x11, &[0; 12]),
            version_2(1, 0x11, &[0; 4]),
            version_2(1, 0x41, &[0; 12]),
            version_2(1, 0x11, &[0; 20_000]),
            [&SIGNATURE[..], &[0x11, 0x11, 0, 0]].concat(),
        ] {
            let error = read(&header).await.expect_err("no header");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{header:?}");
        }
        let mut cut_off = &b"PROXY TCP4 192"[..];
        let error = read_proxy_header(&mut cut_off).await.expect_err("cut off");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    /// A header is read to its end and no further, and no shorter one is a header.
    #[test]
    fn a_header_ends_where_it_says() {
        let read = |bytes: &[u8]| {
            let mut rest = bytes;
            let read = read_proxy_header(&mut rest).now_or_never();
            (read.expect("all bytes are there"), bytes.len() - rest.len())
        };
        fuzz("proxy-headers", 20_000, |bytes| {
            let (Ok(address), used) = read(bytes) else {
                return;
            };
            assert!(used <= HEADER_BYTES);
            let (again, all) = read(&bytes[..used]);
            assert_eq!((again.expect("the same header"), all), (address, used));
            let (shorter, _) = read(&bytes[..used - 1]);
            assert_eq!(
                shorter.expect_err("no header").kind(),
                io::ErrorKind::UnexpectedEof
            );
        });
    }
}
