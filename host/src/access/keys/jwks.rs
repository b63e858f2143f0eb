//! A JWK set (RFC 7517). Each key is read independently, so a malformed key does not affect the
//! other keys.
//!
//! Members that do not describe the use of a key (`x5c`, `x5t`, `issuer`, …) are not read, so their
//! values cannot cause errors.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value};

use super::key::{KeyError, Keys, VerificationKey, fitting, shown};

/// The decoder for base64url. A JWK must not contain padding (RFC 7515, section 2), but some
/// issuers write it, so the decoder accepts both forms.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The length of a coordinate on the curve P-256, in bytes.
const COORDINATE_BYTES: usize = 32;

pub(super) fn parse(bytes: &[u8]) -> Result<Keys, KeyError> {
    let wrong = |why: &str| format!("it is no JWK set ({{\"keys\":[…]}}): {why}");
    // Some editors put a byte order mark before a text.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let document = serde_json::from_slice(bytes).map_err(|error| wrong(&error.to_string()))?;
    let mut keys = Keys::default();
    for (place, jwk) in list(document)
        .map_err(|error| wrong(&error.to_string()))?
        .iter()
        .enumerate()
    {
        keys.note(key(jwk), || match jwk.get("kid").and_then(Value::as_str) {
            Some(kid) => format!("the key {}", shown(kid)),
            None => format!("key {}", place + 1),
        });
    }
    keys.not_empty("it has no key for HS256, RS256, ES256 or EdDSA")
}

/// Takes the list of keys out of a JWK set. If the document has no such list, the error says what
/// to do.
fn list(document: Value) -> Result<Vec<Value>, KeyError> {
    let mut members = match document {
        Value::Object(members) => members,
        Value::Array(_) => return Err("it is a list: write {\"keys\":[…]} around it".into()),
        _ => return Err("it is no object".into()),
    };
    let why = match members.remove("keys") {
        Some(Value::Array(keys)) => return Ok(keys),
        Some(_) => "its \"keys\" is no list",
        None if members.contains_key("kty") => "it is one key: write {\"keys\":[…]} around it",
        None if members.contains_key("jwks_uri") => {
            "it is what an issuer says of itself: take the file that its \"jwks_uri\" names"
        }
        None if members.values().any(is_certificate) => {
            "it is a list of certificates: take the same issuer's JWK set"
        }
        None => {
            let has_keys = |member: &Value| member.get("keys").is_some_and(Value::is_array);
            let mut wrapped = members.iter().filter(|(_, member)| has_keys(member));
            return Err(match wrapped.next() {
                Some((name, _)) => {
                    format!("the set is under {}: take that alone", shown(name)).into()
                }
                None => "it has no \"keys\"".into(),
            });
        }
    };
    Err(why.into())
}

fn is_certificate(member: &Value) -> bool {
    let text = member.as_str().unwrap_or_default();
    text.starts_with("-----BEGIN CERTIFICATE")
}

/// Reads a key that can verify tokens. For any other key, the error says why it cannot be used.
fn key(jwk: &Value) -> Result<VerificationKey, KeyError> {
    let jwk = jwk.as_object().ok_or("it is no object")?;
    let kid = text(jwk, "kid")?.map(str::to_owned);
    if let Some(other) = text(jwk, "use")?.filter(|name| *name != "sig") {
        return Err(format!("its use is {}, and not \"sig\"", shown(other)).into());
    }
    match jwk.get("key_ops") {
        None | Some(Value::Null) => {}
        Some(Value::Array(operations)) if operations.iter().any(|name| name == "verify") => {}
        Some(_) => return Err("its key_ops do not have \"verify\"".into()),
    }
    let kty = text(jwk, "kty")?.ok_or("it has no kty")?;
    let key = match (kty, text(jwk, "crv")?) {
        ("oct", _) => DecodingKey::from_secret(&bytes(jwk, "k")?),
        ("RSA", _) => {
            let (n, e) = (number(jwk, "n")?, number(jwk, "e")?);
            DecodingKey::from_rsa_raw_components(&n, &e)
        }
        ("EC", Some("P-256")) => {
            let (x, y) = (coordinate(jwk, "x")?, coordinate(jwk, "y")?);
            DecodingKey::from_ec_der(&[&[4][..], &x, &y].concat())
        }
        ("OKP", Some("Ed25519")) => DecodingKey::from_ed_der(&bytes(jwk, "x")?),
        ("EC" | "OKP", Some(curve)) => {
            let why = "curves are P-256 and Ed25519";
            return Err(format!("its crv is {}: {why}", shown(curve)).into());
        }
        ("EC" | "OKP", None) => return Err("it has no crv".into()),
        _ => return Err(format!("its kty is {}", shown(kty)).into()),
    };
    let key = fitting(kid, key)?;
    match text(jwk, "alg")? {
        Some(named) if named != format!("{:?}", key.algorithm) => Err(format!(
            "its alg is {}, where {:?} is served",
            shown(named),
            key.algorithm
        )
        .into()),
        _ => Ok(key),
    }
}

fn text<'a>(jwk: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, KeyError> {
    match jwk.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("its {name} is no text").into()),
    }
}

fn bytes(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, KeyError> {
    let text = text(jwk, name)?.ok_or_else(|| format!("it has no {name}"))?;
    // Not the decoder's own words, which show what stands there: it may be a secret.
    let decoded = BASE64.decode(text);
    decoded.map_err(|_| format!("its {name} is no base64url").into())
}

/// Decodes a number and removes its leading zero bytes. Some libraries write such a zero byte to
/// mark the number as positive.
fn number(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, KeyError> {
    let mut bytes = bytes(jwk, name)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.drain(..zeros);
    Ok(bytes)
}

/// Decodes a coordinate to its full length. Some libraries leave leading zero bytes out, or write
/// one zero byte too many.
fn coordinate(jwk: &Map<String, Value>, name: &str) -> Result<[u8; COORDINATE_BYTES], KeyError> {
    let number = number(jwk, name)?;
    let mut coordinate = [0; COORDINATE_BYTES];
    let place = COORDINATE_BYTES.checked_sub(number.len());
    let place =
        place.ok_or_else(|| format!("its {name} has more than {COORDINATE_BYTES} bytes"))?;
    coordinate[place..].copy_from_slice(&number);
    Ok(coordinate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn encoded(bytes: &[u8]) -> String {
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
    }

    /// An RSA modulus of `bits` bits whose factors nobody knows.
    fn modulus(bits: usize) -> Vec<u8> {
        vec![0xff; bits / 8]
    }

    /// An RSA key with the additional members `more`.
    fn rsa(more: &Value) -> Value {
        let mut key = json!({ "kty": "RSA", "n": encoded(&modulus(2048)), "e": "AQAB" });
        for (name, value) in more.as_object().expect("members") {
            key[name] = value.clone();
        }
        key
    }

    fn ec(more: &Value) -> Value {
        let (x, y) = (encoded(&[7; 32]), encoded(&[8; 32]));
        let mut key = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y });
        for (name, value) in more.as_object().expect("members") {
            key[name] = value.clone();
        }
        key
    }

    /// The keys of the set that are used, each written as `ALGORITHM kid`.
    fn used(keys: &[Value]) -> Vec<String> {
        let set = json!({ "keys": keys }).to_string();
        let keys = parse(set.as_bytes()).unwrap_or_default().usable;
        let name = |key: &VerificationKey| {
            format!("{:?} {}", key.algorithm, key.kid.as_deref().unwrap_or("-"))
        };
        keys.iter().map(name).collect()
    }

    /// The key sets have the same form as those of the issuers, but contain our own keys.
    #[test]
    fn what_issuers_publish_is_read() {
        let certificate = json!(["MIIDQjCCAiqgAwIBAgIGATz/FuLiMA0GCSqGSIb3DQEB"]);
        let chain = |more: Value| {
            let mut key = rsa(&more);
            key["x5c"] = certificate.clone();
            key["x5t"] = json!("gOb93fUYOXdpY4xI5QUyVrKIWvM");
            key
        };
        for (issuer, keys, expected) in [
            (
                "Auth0",
                vec![
                    chain(json!({ "use": "sig", "alg": "RS256", "kid": "1" })),
                    chain(json!({ "use": "sig", "alg": "RS256", "kid": "2" })),
                ],
                vec!["RS256 1", "RS256 2"],
            ),
            (
                "Keycloak",
                vec![
                    chain(json!({ "use": "enc", "alg": "RSA-OAEP", "kid": "enc" })),
                    chain(json!({ "use": "sig", "alg": "RS256", "kid": "sig", "x5t#S256": "x" })),
                    json!({ "kty": "OKP", "crv": "Ed448", "x": "AA", "use": "sig", "alg": "EdDSA" }),
                ],
                vec!["RS256 sig"],
            ),
            (
                "Entra",
                vec![chain(json!({
                    "use": "sig", "kid": "a", "issuer": "https://login.example.com/{tenantid}/v2.0",
                    "cloud_instance_name": "example.com", "nbf": 1_493_763_266,
                }))],
                vec!["RS256 a"],
            ),
            (
                "Okta, Google, Cognito, Apple",
                vec![
                    rsa(&json!({ "alg": "RS256", "use": "sig", "kid": "b", "status": "ACTIVE" })),
                    rsa(&json!({ "alg": "RS256", "use": "sig", "kid": "c" })),
                ],
                vec!["RS256 b", "RS256 c"],
            ),
            (
                "Supabase",
                vec![ec(&json!({
                    "alg": "ES256", "use": "sig", "kid": "d", "ext": true, "key_ops": ["verify"],
                }))],
                vec!["ES256 d"],
            ),
            (
                "Ory, and one id for several algorithms",
                vec![
                    rsa(&json!({ "alg": "RS512", "use": "sig", "kid": "e" })),
                    rsa(&json!({ "alg": "PS256", "use": "sig", "kid": "e" })),
                    rsa(&json!({ "alg": "RS256", "use": "sig", "kid": "e" })),
                    ec(&json!({ "alg": "ES256", "use": "sig", "kid": "e" })),
                ],
                vec!["RS256 e", "ES256 e"],
            ),
            (
                "no kid, and what is to come",
                vec![
                    json!({ "kty": "AKP", "alg": "ML-DSA-44", "pub": "AA", "kid": "f" }),
                    json!({ "kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "alg": "ES256K" }),
                    json!({ "kty": "OKP", "crv": "X25519", "x": "AA", "use": "enc" }),
                    rsa(&json!({})),
                    ec(&json!({ "kid": "g" })),
                ],
                vec!["RS256 -", "ES256 g"],
            ),
        ] {
            assert_eq!(used(&keys), expected, "{issuer}");
        }
    }

    #[test]
    fn what_libraries_write_beside_the_standard_is_understood() {
        let mut short = modulus(2048);
        short.insert(0, 0);
        let padded = |text: &str| format!("{text}{}", "=".repeat((4 - text.len() % 4) % 4));
        for (what, key) in [
            ("a sign before n", rsa(&json!({ "n": encoded(&short) }))),
            ("a sign before e", rsa(&json!({ "e": "AAEAAQ" }))),
            (
                "padding",
                rsa(&json!({ "n": padded(&encoded(&modulus(2048))) })),
            ),
            ("bits that mean nothing", rsa(&json!({ "e": "Ax" }))),
            ("no zero before x", ec(&json!({ "x": encoded(&[7; 31]) }))),
            (
                "one zero too many",
                ec(&json!({ "x": encoded(&[&[0][..], &[7; 32]].concat()) })),
            ),
            (
                "nulls",
                rsa(&json!({ "use": null, "alg": null, "kid": null, "key_ops": null })),
            ),
            (
                "odd members",
                rsa(&json!({ "x5c": "no list", "x5u": 7, "x5t": [1], "exp": {} })),
            ),
        ] {
            assert_eq!(used(&[key]).len(), 1, "{what}");
        }
        let set = json!({ "keys": [ec(&json!({}))], "next": 7 });
        let marked = format!("\u{feff}{set}\r\n");
        let marked = parse(marked.as_bytes()).expect("a set");
        assert_eq!(marked.usable.len(), 1);
    }

    #[test]
    fn what_is_no_use_is_passed_over_and_said_to_be() {
        for (key, why) in [
            (json!(null), "key 2: it is no object"),
            (json!([]), "key 2: it is no object"),
            (json!({}), "key 2: it has no kty"),
            (json!({ "kty": 7 }), "its kty is no text"),
            (rsa(&json!({ "kid": 7 })), "key 2: its kid is no text"),
            (
                rsa(&json!({ "kid": "a", "use": "enc" })),
                "the key \"a\": its use is \"enc\"",
            ),
            (rsa(&json!({ "use": ["sig"] })), "its use is no text"),
            (
                rsa(&json!({ "key_ops": ["encrypt"] })),
                "its key_ops do not have",
            ),
            (rsa(&json!({ "key_ops": [] })), "its key_ops do not have"),
            (
                rsa(&json!({ "key_ops": "verify" })),
                "its key_ops do not have",
            ),
            (
                rsa(&json!({ "alg": "RS384" })),
                "its alg is \"RS384\", where RS256 is served",
            ),
            (rsa(&json!({ "alg": "ES256" })), "its alg is \"ES256\""),
            (rsa(&json!({ "alg": 256 })), "its alg is no text"),
            (
                rsa(&json!({ "n": encoded(&modulus(1024)) })),
                "an RSA key has 2048",
            ),
            (
                rsa(&json!({ "n": encoded(&modulus(2040)) })),
                "an RSA key has 2048",
            ),
            (
                rsa(&json!({ "n": encoded(&modulus(8200)) })),
                "an RSA key has 2048",
            ),
            (rsa(&json!({ "n": "" })), "an RSA key has 2048"),
            (rsa(&json!({ "n": "no base64!" })), "its n is no base64url"),
            (rsa(&json!({ "n": null })), "it has no n"),
            (rsa(&json!({ "n": 7 })), "its n is no text"),
            (rsa(&json!({ "e": "AQ" })), "an odd exponent"),
            (rsa(&json!({ "e": "AQAA" })), "an odd exponent"),
            (rsa(&json!({ "e": "AQAAAAAB" })), "an odd exponent"),
            (ec(&json!({ "crv": "P-384" })), "its crv is \"P-384\""),
            (ec(&json!({ "crv": null })), "it has no crv"),
            (ec(&json!({ "crv": "Ed25519" })), "its crv is \"Ed25519\""),
            (
                ec(&json!({ "x": encoded(&[7; 33]) })),
                "its x has more than 32 bytes",
            ),
            (ec(&json!({ "y": null })), "it has no y"),
            (
                json!({ "kty": "OKP", "crv": "Ed25519", "x": "AAAA" }),
                "on the curve Ed25519",
            ),
            (
                json!({ "kty": "oct", "k": "c2hvcnQ" }),
                "at least 32 bytes, and this one has 5",
            ),
            (
                json!({ "kty": "oct", "k": "s3cret!" }),
                "its k is no base64url",
            ),
            (json!({ "kty": "later" }), "its kty is \"later\""),
        ] {
            let set = json!({ "keys": [ec(&json!({})), key] }).to_string();
            let keys = parse(set.as_bytes()).expect("a good key beside");
            assert_eq!(keys.usable.len(), 1, "{key}");
            let said = keys.passed_over.to_string();
            assert!(said.contains(why), "{key}: {said}");
            assert!(!said.contains("s3cret"), "{said}");
            let alone = json!({ "keys": [key] }).to_string();
            let error = parse(alone.as_bytes()).err().expect("no usable key");
            let why = why.replace("key 2", "key 1");
            assert!(
                error.to_string().starts_with("it has no key for")
                    && error.to_string().contains(&why),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_said_of_many_keys_is_short() {
        let long = "k".repeat(100_000);
        let key = |place| json!({ "kty": long, "kid": format!("{place}{long}") });
        let keys: Vec<_> = (0..1_000).map(key).collect();
        let set = json!({ "keys": keys }).to_string();
        let error = parse(set.as_bytes()).err().expect("no usable key");
        assert!(error.to_string().ends_with("; and 992 more"), "{error}");
        assert!(
            error.to_string().len() < 2_000,
            "{} bytes",
            error.to_string().len()
        );
    }

    #[test]
    fn what_is_no_set_is_told_what_to_do() {
        for (document, hint) in [
            (String::new(), "EOF while parsing"),
            ("<html>".to_owned(), "expected value at line 1"),
            ("7".to_owned(), "it is no object"),
            ("{}".to_owned(), "it has no \"keys\""),
            (json!({ "keys": {} }).to_string(), "its \"keys\" is no list"),
            (
                ec(&json!({})).to_string(),
                "it is one key: write {\"keys\":[…]} around",
            ),
            (
                json!([ec(&json!({}))]).to_string(),
                "it is a list: write {\"keys\":[…]} around",
            ),
            (
                json!({ "issuer": "https://a", "jwks_uri": "https://a/keys" }).to_string(),
                "take the file that its \"jwks_uri\" names",
            ),
            (
                json!({ "a1b2": "-----BEGIN CERTIFICATE-----\nMII" }).to_string(),
                "it is a list of certificates",
            ),
            (
                json!({ "status": 200, "jwks": { "keys": [] } }).to_string(),
                "the set is under \"jwks\": take that alone",
            ),
        ] {
            let error = parse(document.as_bytes()).err().expect("no set");
            assert!(error.to_string().starts_with("it is no JWK set"), "{error}");
            assert!(error.to_string().contains(hint), "{document}: {error}");
        }
    }
}
