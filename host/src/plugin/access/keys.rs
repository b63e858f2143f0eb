//! The keys that tokens are verified with, from a file. A key is for one algorithm: no token
//! can say that a public key is a secret, or that it needs none.
//!
//! What real issuers publish has keys for other uses beside (RFC 7517, section 5): those are
//! passed over and named, and a file without any usable key is the error.

mod jwks;
mod pem;

use std::fmt;
use std::path::Path;

use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};

use super::super::file;

/// Bytes of a secret. A shorter one can be guessed (RFC 7518, section 3.2).
const SECRET_BYTES_MIN: usize = 32;

/// Bits of an RSA key's modulus.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// What an RSA key in DER has beside its modulus.
const RSA_DER_BYTES: usize = 8;

/// What a file of keys may weigh. A large issuer's set has some 10 KB.
const KEY_FILE_BYTES: u64 = 1 << 20;

/// Keys that were passed over and are named; of the others there is a number.
const NAMED_MAX: usize = 8;

/// Letters of a name or value out of a file that a line shows.
const SHOWN_MAX: usize = 64;

/// A key, and the algorithm that it is for.
pub(super) struct Key {
    pub(super) kid: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// What kind of file it is.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Secret,
    Pem,
    Jwks,
}

/// A file's keys.
#[derive(Default)]
pub(super) struct Keys {
    pub(super) usable: Vec<Key>,
    pub(super) passed_over: PassedOver,
}

/// The keys of a file that tokens are not verified with, and why.
#[derive(Debug, Default)]
pub(super) struct PassedOver {
    named: Vec<String>,
    unnamed: usize,
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

impl Keys {
    /// Takes a key, or notes by this name why it is none.
    fn note(&mut self, key: Result<Key, String>, name: impl FnOnce() -> String) {
        let passed_over = &mut self.passed_over;
        match key {
            Ok(key) => self.usable.push(key),
            Err(_) if passed_over.named.len() == NAMED_MAX => passed_over.unnamed += 1,
            Err(why) => passed_over.named.push(format!("{}: {why}", name())),
        }
    }

    /// The same keys, if there is a usable one.
    ///
    /// # Errors
    ///
    /// This sentence, and what is wrong with each.
    fn not_empty(self, otherwise: &str) -> Result<Keys, String> {
        match (self.usable.is_empty(), self.passed_over.is_empty()) {
            (false, _) => Ok(self),
            (true, true) => Err(otherwise.to_owned()),
            (true, false) => Err(format!("{otherwise}; {}", self.passed_over)),
        }
    }
}

impl PassedOver {
    pub(super) fn is_empty(&self) -> bool {
        self.named.is_empty()
    }
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.named.join("; "))?;
        match self.unnamed {
            0 => Ok(()),
            unnamed => write!(f, "; and {unnamed} more"),
        }
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

/// A name or value out of a file, as a line shows it.
fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// The key with its algorithm; or what is wrong with it.
fn fitting(kid: Option<String>, key: DecodingKey) -> Result<Key, String> {
    use jsonwebtoken::AlgorithmFamily::{Ec, Ed, Hmac, Rsa};
    let (algorithm, fits, wanted) = match (key.family(), key.kind()) {
        (Hmac, DecodingKeyKind::SecretOrDer(secret)) if secret.len() < SECRET_BYTES_MIN => {
            return Err(format!(
                "a secret for HS256 has at least {SECRET_BYTES_MIN} bytes, and this one has {}: \
                 `openssl rand -hex 32` makes one",
                secret.len()
            ));
        }
        (Hmac, _) => (Algorithm::HS256, true, ""),
        (Rsa, kind) => {
            let fits = match kind {
                DecodingKeyKind::SecretOrDer(der) => {
                    let most = RSA_BITS.end() / 8 + 2 * RSA_DER_BYTES;
                    (RSA_BITS.start() / 8 + RSA_DER_BYTES..=most).contains(&der.len())
                }
                DecodingKeyKind::RsaModulusExponent { n, e } => {
                    RSA_BITS.contains(&bits(n)) && is_exponent(e) && is_odd(n)
                }
            };
            let wanted = "an RSA key has 2048 to 8192 bits, and an odd exponent from 3 on";
            (Algorithm::RS256, fits, wanted)
        }
        (Ec, kind) => {
            let fits = matches!(kind, DecodingKeyKind::SecretOrDer(point) if point.len() == 65);
            let wanted = "an EC key must be on the curve P-256, for ES256";
            (Algorithm::ES256, fits, wanted)
        }
        (Ed, kind) => {
            let fits = matches!(kind, DecodingKeyKind::SecretOrDer(point) if point.len() == 32);
            let wanted = "an EdDSA key must be on the curve Ed25519";
            (Algorithm::EdDSA, fits, wanted)
        }
    };
    match fits {
        true => Ok(Key {
            kid,
            algorithm,
            key,
        }),
        false => Err(wanted.to_owned()),
    }
}

/// Bits of a number that begins with no zero byte.
fn bits(number: &[u8]) -> usize {
    let zeros = number.first().map_or(0, |byte| byte.leading_zeros());
    number.len() * 8 - zeros as usize
}

/// Whether ring takes it: odd, from 3 on, of 33 bits at most.
fn is_exponent(exponent: &[u8]) -> bool {
    is_odd(exponent) && (2..=33).contains(&bits(exponent))
}

fn is_odd(number: &[u8]) -> bool {
    number.last().is_some_and(|byte| byte & 1 == 1)
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
