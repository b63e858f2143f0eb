//! Makes keys, and tokens that are signed with them: by hand, so that nothing here is the
//! node's own.

use std::process::Command;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use serde_json::{Value, json};

/// What comes before the point in a public key of P-256 in DER (RFC 5480), and of Ed25519
/// (RFC 8410).
const P256: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
const ED25519: &str = "302a300506032b6570032100";

/// Before an RSA key in PKCS #1 (RFC 8017): the algorithm's name.
const RSA: &str = "300d06092a864886f70d0101010500";

/// A key that signs tokens.
pub(crate) enum Signer {
    Hs256(String),
    Rs256(Box<RsaKeyPair>),
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

impl Signer {
    pub(crate) fn hs256() -> Result<Signer> {
        let secret: [u8; 32] = made(ring::rand::generate(&SystemRandom::new()))?.expose();
        Ok(Signer::Hs256(STANDARD.encode(secret)))
    }

    /// All tests' one RSA key: to find its primes takes a second.
    pub(crate) fn rs256() -> Result<Signer> {
        static KEY: OnceLock<Vec<u8>> = OnceLock::new();
        let key = KEY.get_or_init(rsa_key);
        let pair = RsaKeyPair::from_pkcs8(key).or_else(|_| RsaKeyPair::from_der(key));
        Ok(Signer::Rs256(Box::new(made(pair)?)))
    }

    pub(crate) fn es256() -> Result<Signer> {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = made(EcdsaKeyPair::generate_pkcs8(algorithm, &random))?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random);
        Ok(Signer::Es256(made(pair)?))
    }

    pub(crate) fn ed_dsa() -> Result<Signer> {
        let key = made(Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()))?;
        let pair = Ed25519KeyPair::from_pkcs8(key.as_ref());
        Ok(Signer::EdDsa(made(pair)?))
    }

    /// The algorithm's name in a token's header.
    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            Signer::Hs256(_) => "HS256",
            Signer::Rs256(_) => "RS256",
            Signer::Es256(_) => "ES256",
            Signer::EdDsa(_) => "EdDSA",
        }
    }

    /// The key under `[jwt]` for what tokens are verified with, and the file's content.
    pub(crate) fn file(&self) -> Result<(&'static str, String)> {
        let spki = |prefix, point: &[u8]| anyhow::Ok([&hex(prefix)?[..], point].concat());
        let der = match self {
            Signer::Hs256(secret) => return Ok(("secret_file", format!("{secret}\n"))),
            Signer::Rs256(key) => {
                let key = key.public_key().as_ref();
                let bits = der(0x03, &[&[0][..], key].concat());
                der(0x30, &[hex(RSA)?, bits].concat())
            }
            Signer::Es256(pair) => spki(P256, pair.public_key().as_ref())?,
            Signer::EdDsa(pair) => spki(ED25519, pair.public_key().as_ref())?,
        };
        let text = STANDARD.encode(der);
        let lines: Vec<_> = text
            .as_bytes()
            .chunks(64)
            .map(str::from_utf8)
            .collect::<Result<_, _>>()?;
        let pem = lines.join("\n");
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{pem}\n-----END PUBLIC KEY-----\n");
        Ok(("key_file", pem))
    }

    /// The same as a JWK.
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Signer::Hs256(secret) => {
                json!({ "kty": "oct", "kid": kid, "k": text(secret.as_bytes()) })
            }
            Signer::Rs256(key) => {
                let key: PublicKeyComponents<Vec<u8>> = key.public().into();
                let (n, e) = (text(&key.n), text(&key.e));
                json!({ "kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": n, "e": e })
            }
            Signer::Es256(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "kid": kid, "crv": "P-256", "x": text(x), "y": text(y) })
            }
            Signer::EdDsa(pair) => {
                let x = text(pair.public_key().as_ref());
                json!({ "kty": "OKP", "kid": kid, "crv": "Ed25519", "x": x })
            }
        }
    }

    /// A token with these claims.
    pub(crate) fn token(&self, claims: &Value) -> Result<String> {
        self.token_with(&json!({ "typ": "JWT", "alg": self.algorithm() }), claims)
    }

    /// A token with a header that may say anything.
    pub(crate) fn token_with(&self, header: &Value, claims: &Value) -> Result<String> {
        let message = message(header, claims);
        let signature = match self {
            Signer::Hs256(secret) => hmac(secret.as_bytes(), &message),
            Signer::Rs256(key) => {
                let pair = key;
                let mut signature = vec![0; pair.public().modulus_len()];
                let random = SystemRandom::new();
                let message = message.as_bytes();
                made(pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature))?;
                signature
            }
            Signer::Es256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message.as_bytes());
                made(signature)?.as_ref().to_vec()
            }
            Signer::EdDsa(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        };
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// What is signed of a token.
pub(crate) fn message(header: &Value, claims: &Value) -> String {
    let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", text(header), text(claims))
}

/// A token that takes this for its secret, whatever it is.
pub(crate) fn hs256_with(secret: &[u8], claims: &Value) -> String {
    let message = message(&json!({ "alg": "HS256" }), claims);
    let signature = URL_SAFE_NO_PAD.encode(hmac(secret, &message));
    format!("{message}.{signature}")
}

/// So many seconds from now, or before it.
pub(crate) fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX) + seconds
}

/// A new RSA key, which ring cannot make: in PKCS #8 or #1, as the version of openssl has it.
fn rsa_key() -> Vec<u8> {
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-outform", "DER"])
        .output()
        .expect("openssl: apt-get install openssl");
    assert!(made.status.success(), "{made:?}");
    made.stdout
}

/// ring's errors are no `std::error::Error` without its feature `std`.
fn made<T>(made: Result<T, impl std::fmt::Display>) -> Result<T> {
    made.map_err(|error| anyhow!("ring: {error}"))
}

fn hmac(secret: &[u8], message: &str) -> Vec<u8> {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    ring::hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
}

/// A value of that tag in DER.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let [.., high, low] = content.len().to_be_bytes();
    let head = match (high, low) {
        (0, 0..=0x7f) => vec![tag, low],
        _ => vec![tag, 0x82, high, low],
    };
    [&head[..], content].concat()
}

fn hex(text: &str) -> Result<Vec<u8>> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).context("hex");
    (0..text.len()).step_by(2).map(byte).collect()
}
