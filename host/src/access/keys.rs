//! The keys that tokens are verified with, from a file. A key is for one algorithm: no token
//! can say that a public key is a secret, or that it needs none.
//!
//! What real issuers publish has keys for other uses beside (RFC 7517, section 5): those are
//! passed over and named, and a file without any usable key is the error.

mod jwks;
mod key;
mod pem;

use std::path::Path;

use jsonwebtoken::DecodingKey;

use self::key::fitting;
use crate::file;

pub(super) use self::key::{Key, Keys, PassedOver};

/// What a file of keys may weigh. A large issuer's set has some 10 KB.
const KEY_FILE_BYTES: u64 = 1 << 20;

/// What kind of file it is.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Secret,
    Pem,
    Jwks,
}

/// Reads a file's bytes.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    file::read(path, KEY_FILE_BYTES)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

/// The keys in it.
///
/// # Errors
///
/// What is wrong with the file, and what to do, where it has no usable key.
pub(super) fn parse(kind: Kind, bytes: &[u8]) -> Result<Keys, String> {
    match kind {
        Kind::Secret => Ok(Keys {
            usable: vec![secret(bytes)?],
            passed_over: PassedOver::default(),
        }),
        Kind::Pem => pem::parse(bytes),
        Kind::Jwks => jwks::parse(bytes),
    }
}

fn secret(bytes: &[u8]) -> Result<Key, String> {
    let mut secret = bytes;
    // What an editor or `echo` leaves is not meant.
    while let Some(shorter) = secret.strip_suffix(b"\n").or(secret.strip_suffix(b"\r")) {
        secret = shorter;
    }
    fitting(None, DecodingKey::from_secret(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_keys_is_not_read_beyond_what_it_may_weigh() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(KEY_FILE_BYTES).expect("room");
        assert!(read(file.path()).is_ok());
        file.as_file().set_len(KEY_FILE_BYTES + 1).expect("room");
        let error = read(file.path()).expect_err("a byte too many");
        assert!(error.contains("has 1048577 bytes, more than"), "{error}");
    }
}
