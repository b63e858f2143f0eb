//! The keys from a file that verify tokens. Each key is for exactly one algorithm, so a token
//! cannot make the node use a public key as a secret, or verify without a key.
//!
//! The key sets of real issuers also contain keys for other uses (RFC 7517, section 5). Such keys
//! are skipped and reported. A file without any usable key is an error.

mod jwks;
mod key;
mod pem;

use std::path::Path;

use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value};

use self::key::fitting;
use super::signatures;
use crate::file;

pub(super) use self::key::{KeyError, Keys, PassedOver, VerificationKey};

/// The largest size of a key file, in bytes. The key set of a large issuer has about 10 KB.
const KEY_FILE_BYTES: u64 = 1 << 20;

/// The format of a key file.
#[derive(Clone, Copy)]
pub(super) enum KeyFormat {
    Secret,
    Pem,
    Jwks,
}

/// Reads the bytes of a key file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, KeyError> {
    file::read(path, KEY_FILE_BYTES)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()).into())
}

/// Parses the keys in the bytes of a key file.
///
/// # Errors
///
/// Returns a text when the file has no usable key. The text says what is wrong with the file and
/// what to do about it.
pub(super) fn parse(kind: KeyFormat, bytes: &[u8]) -> Result<Keys, KeyError> {
    match kind {
        KeyFormat::Secret => Ok(Keys {
            usable: vec![secret(bytes)?],
            passed_over: PassedOver::default(),
        }),
        KeyFormat::Pem => pem::parse(bytes),
        KeyFormat::Jwks => jwks::parse(bytes),
    }
}

/// Signs a token with the secret in a file, as a node verifies it.
pub(super) fn sign(path: &Path, claims: &Map<String, Value>) -> Result<String, KeyError> {
    let bytes = read(path)?;
    // It must be one that a node takes.
    secret(&bytes)?;
    Ok(signatures::sign(without_line_end(&bytes), claims))
}

fn secret(bytes: &[u8]) -> Result<VerificationKey, KeyError> {
    fitting(None, DecodingKey::from_secret(without_line_end(bytes)))
}

/// Returns a secret without what an editor or `echo` leaves at its end.
fn without_line_end(bytes: &[u8]) -> &[u8] {
    let mut secret = bytes;
    while let Some(shorter) = secret.strip_suffix(b"\n").or(secret.strip_suffix(b"\r")) {
        secret = shorter;
    }
    secret
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
        assert!(
            error.to_string().contains("has 1048577 bytes, more than"),
            "{error}"
        );
    }
}
