//! The keys that tokens are verified with, from a file. A key is for one algorithm: no token
//! can say that a public key is a secret, or that it needs none.

use std::path::Path;

use jsonwebtoken::errors::Error;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};

/// Bytes of a secret. A shorter one can be guessed (RFC 7518, section 3.2).
const SECRET_BYTES_MIN: usize = 32;

/// Bytes of an RSA key's modulus: 2048 to 8192 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// What an RSA key in DER has beside its modulus.
const RSA_DER_BYTES: usize = 8;

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

/// Reads a file's bytes.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

/// The keys in it.
pub(super) fn parse(kind: Kind, bytes: &[u8]) -> Result<Vec<Key>, String> {
    match kind {
        Kind::Secret => Ok(vec![secret(bytes)?]),
        Kind::Pem => Ok(vec![pem(bytes)?]),
        Kind::Jwks => jwks(bytes),
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

fn pem(bytes: &[u8]) -> Result<Key, String> {
    let is_public = [
        &b"-----BEGIN PUBLIC KEY-----"[..],
        b"-----BEGIN RSA PUBLIC KEY-----",
    ]
    .iter()
    .any(|begin| bytes.windows(begin.len()).any(|window| window == *begin));
    let key = DecodingKey::from_ed_pem(bytes)
        .or_else(|_| DecodingKey::from_ec_pem(bytes))
        .or_else(|_| DecodingKey::from_rsa_pem(bytes));
    match key {
        Ok(key) if is_public => fitting(None, key),
        _ => Err(
            "it has no public key in PEM: `openssl pkey -in PRIVATE -pubout` makes one, \
             `openssl x509 -in CERTIFICATE -noout -pubkey` takes a certificate's"
                .to_owned(),
        ),
    }
}

fn jwks(bytes: &[u8]) -> Result<Vec<Key>, String> {
    let set: JwkSet = serde_json::from_slice(bytes)
        .map_err(|error| format!("it is no JWK set ({{\"keys\":[…]}}): {error}"))?;
    let mut keys: Vec<Key> = Vec::new();
    for jwk in set.keys.iter().filter(|jwk| is_of_use(jwk)) {
        let kid = jwk.common.key_id.clone();
        let key = DecodingKey::from_jwk(jwk).map_err(|error: Error| error.to_string());
        let key = key
            .and_then(|key| fitting(kid.clone(), key))
            .map_err(|error| format!("its key {kid:?}: {error}"))?;
        if keys.iter().any(|other| other.kid == kid) {
            return Err(format!("it has two keys with the kid {kid:?}"));
        }
        keys.push(key);
    }
    match keys.is_empty() {
        true => Err("it has no key for HS256, RS256, ES256 or EdDSA".to_owned()),
        false => Ok(keys),
    }
}

/// Whether tokens may be signed with it; a set may have other keys beside.
fn is_of_use(jwk: &Jwk) -> bool {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::OctetKey(_) => Algorithm::HS256,
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        _ => return false,
    };
    let common = &jwk.common;
    let is_for_it = |named| Algorithm::try_from(named).is_ok_and(|named| named == algorithm);
    common.key_algorithm.is_none_or(is_for_it)
        && !matches!(common.public_key_use, Some(PublicKeyUse::Encryption))
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
            let bytes = match kind {
                DecodingKeyKind::SecretOrDer(der) => der.len().saturating_sub(RSA_DER_BYTES),
                DecodingKeyKind::RsaModulusExponent { n, .. } => n.len(),
            };
            let fits = bytes >= *RSA_BYTES.start() && bytes <= *RSA_BYTES.end() + RSA_DER_BYTES;
            (Algorithm::RS256, fits, "an RSA key has 2048 to 8192 bits")
        }
        (Ec, kind) => {
            let fits = matches!(kind, DecodingKeyKind::SecretOrDer(point) if point.len() == 65);
            (
                Algorithm::ES256,
                fits,
                "an EC key must be on the curve P-256, for ES256",
            )
        }
        (Ed, kind) => {
            let fits = matches!(kind, DecodingKeyKind::SecretOrDer(point) if point.len() == 32);
            (
                Algorithm::EdDSA,
                fits,
                "an EdDSA key must be on the curve Ed25519",
            )
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
