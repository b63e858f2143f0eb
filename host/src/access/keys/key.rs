//! A key that verifies tokens, and the record of the keys that cannot be used.

use std::fmt;

use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};

/// The shortest allowed secret, in bytes. A shorter secret can be guessed (RFC 7518, section 3.2).
const SECRET_BYTES_MIN: usize = 32;

/// The allowed sizes of an RSA key's modulus, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The bytes that an RSA key in DER has in addition to its modulus, at least. At most, there are
/// twice as many.
const RSA_DER_BYTES: usize = 8;

/// The most skipped keys that are named in a message. Further skipped keys are only counted.
const NAMED_MAX: usize = 8;

/// The most characters of a name or value from a file that a message shows.
const SHOWN_MAX: usize = 64;

/// Why a key, or a file of keys, cannot be used, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in crate::access) struct KeyError(String);

impl From<String> for KeyError {
    fn from(why: String) -> KeyError {
        KeyError(why)
    }
}

impl From<&str> for KeyError {
    fn from(why: &str) -> KeyError {
        KeyError(why.to_owned())
    }
}

/// A key, together with the algorithm that it is for.
pub(in crate::access) struct VerificationKey {
    pub(in crate::access) kid: Option<String>,
    pub(in crate::access) algorithm: Algorithm,
    pub(in crate::access) key: DecodingKey,
}

/// The keys of one key file: the usable ones and those that were skipped.
#[derive(Default)]
pub(in crate::access) struct Keys {
    pub(in crate::access) usable: Vec<VerificationKey>,
    pub(in crate::access) passed_over: PassedOver,
}

/// The keys of a file that cannot verify tokens, with the reasons.
#[derive(Debug, Default)]
pub(in crate::access) struct PassedOver {
    named: Vec<String>,
    unnamed: usize,
}

impl Keys {
    /// Adds a usable key. For a key that cannot be used, its `name` and the reason are recorded.
    pub(super) fn note(
        &mut self,
        key: Result<VerificationKey, KeyError>,
        name: impl FnOnce() -> String,
    ) {
        let passed_over = &mut self.passed_over;
        match key {
            Ok(key) => self.usable.push(key),
            Err(_) if passed_over.named.len() == NAMED_MAX => passed_over.unnamed += 1,
            Err(why) => passed_over.named.push(format!("{}: {why}", name())),
        }
    }

    /// Returns the keys if at least one of them is usable.
    ///
    /// # Errors
    ///
    /// Returns a text when no key is usable. The text is `otherwise`, followed by what is wrong
    /// with each key.
    pub(super) fn not_empty(self, otherwise: &str) -> Result<Keys, KeyError> {
        match (self.usable.is_empty(), self.passed_over.is_empty()) {
            (false, _) => Ok(self),
            (true, true) => Err(otherwise.into()),
            (true, false) => Err(format!("{otherwise}; {}", self.passed_over).into()),
        }
    }
}

impl PassedOver {
    pub(in crate::access) fn is_empty(&self) -> bool {
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

/// Quotes a name or value from a file for a message, and shortens a long one.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Finds the algorithm of a key and checks the key for it. The error says what is wrong with the
/// key.
pub(super) fn fitting(kid: Option<String>, key: DecodingKey) -> Result<VerificationKey, KeyError> {
    use jsonwebtoken::AlgorithmFamily::{Ec, Ed, Hmac, Rsa};
    let (algorithm, fits, wanted) = match (key.family(), key.kind()) {
        (Hmac, DecodingKeyKind::SecretOrDer(secret)) if secret.len() < SECRET_BYTES_MIN => {
            return Err(format!(
                "a secret for HS256 has at least {SECRET_BYTES_MIN} bytes, and this one has {}: \
                 `openssl rand -hex 32` makes one",
                secret.len()
            )
            .into());
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
        true => Ok(VerificationKey {
            kid,
            algorithm,
            key,
        }),
        false => Err(wanted.into()),
    }
}

/// The number of bits in a number whose first byte is not zero.
fn bits(number: &[u8]) -> usize {
    let zeros = number.first().map_or(0, |byte| byte.leading_zeros());
    number.len() * 8 - zeros as usize
}

/// Whether the crate `ring` accepts this RSA exponent: an odd number of at least 3, with at most 33
/// bits.
fn is_exponent(exponent: &[u8]) -> bool {
    is_odd(exponent) && (2..=33).contains(&bits(exponent))
}

fn is_odd(number: &[u8]) -> bool {
    number.last().is_some_and(|byte| byte & 1 == 1)
}
