//! A JSON Web Token: who a client is, said by somebody whose key the plugin's manifest names,
//! and for how long.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::granted::Granted;
use super::handshake::Handshake;
use super::keys::{self, Key, Keys, Kind, PassedOver};
use super::signatures;
use crate::invalid_value::InvalidValue;

/// What a browser, which cannot set headers, may offer as one of its subprotocols.
const SUBPROTOCOL: &str = "bearer.";

/// More leeway than this is a mistake in the unit.
const LEEWAY_MAX: Duration = Duration::from_secs(3600);

/// Keys that one token is tried with, where its header leaves a choice: each costs the time of a
/// signature.
const TRIES_MAX: usize = 16;

/// `[jwt]` of a manifest.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Jwt {
    secret_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    jwks_file: Option<PathBuf>,
    query: Vec<String>,
    /// Empty: any.
    issuer: String,
    /// Empty: any, and then a token that names one is for somebody else.
    audience: String,
    #[serde(with = "humantime_serde")]
    leeway: Duration,
    uid_claim: String,
}

impl Default for Jwt {
    fn default() -> Jwt {
        Jwt {
            secret_file: None,
            key_file: None,
            jwks_file: None,
            query: ["token", "access_token"].map(str::to_owned).to_vec(),
            issuer: String::new(),
            audience: String::new(),
            // Clocks that are set over the network differ by less.
            leeway: Duration::from_secs(10),
            uid_claim: "sub".to_owned(),
        }
    }
}

/// Verifies tokens.
pub(super) struct Tokens {
    keys: Vec<(Key, Validation)>,
    passed_over: PassedOver,
    key_bytes: Vec<u8>,
    query: Vec<String>,
    leeway: Duration,
    uid_claim: String,
}

/// Why a token does not let its client in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// There is none.
    Missing,
    /// Its time is over.
    Expired,
    /// Anything else; the log says what.
    Invalid(String),
}

/// Whether a subprotocol that a client offers is its token.
pub fn carries_token(subprotocol: &str) -> bool {
    subprotocol.starts_with(SUBPROTOCOL)
}

impl Rejected {
    /// What its client is told. How it might be made better is not for whoever made it up.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Rejected::Missing => "a token is required",
            Rejected::Expired => "the token has expired",
            Rejected::Invalid(_) => "the token is not valid",
        }
    }

    /// What the log is told.
    pub(crate) fn why(&self) -> &str {
        match self {
            Rejected::Missing | Rejected::Expired => self.reason(),
            Rejected::Invalid(why) => why,
        }
    }
}

impl Tokens {
    /// Reads the key's file, which is looked for from `folder` on.
    pub(super) fn read(jwt: &Jwt, folder: &Path) -> Result<Tokens, InvalidValue> {
        jwt.check()?;
        signatures::install();
        let (name, kind, file) = match (&jwt.secret_file, &jwt.key_file, &jwt.jwks_file) {
            (Some(file), None, None) => ("jwt.secret_file", Kind::Secret, file),
            (None, Some(file), None) => ("jwt.key_file", Kind::Pem, file),
            (None, None, Some(file)) => ("jwt.jwks_file", Kind::Jwks, file),
            _ => {
                let why = "name one of secret_file, key_file and jwks_file";
                return Err(InvalidValue::new("jwt", why));
            }
        };
        let wrong = |why| InvalidValue::new(name, why);
        let key_bytes = keys::read(&folder.join(file)).map_err(wrong)?;
        let keys = keys::parse(kind, &key_bytes).map_err(wrong)?;
        Ok(Tokens::new(jwt, keys, key_bytes))
    }

    fn new(jwt: &Jwt, keys: Keys, key_bytes: Vec<u8>) -> Tokens {
        let with_validation = |key| {
            let validation = jwt.validation(&key);
            (key, validation)
        };
        Tokens {
            keys: keys.usable.into_iter().map(with_validation).collect(),
            passed_over: keys.passed_over,
            key_bytes,
            query: jwt.query.clone(),
            leeway: jwt.leeway,
            uid_claim: jwt.uid_claim.clone(),
        }
    }

    /// The keys in its file that are no use here.
    pub(super) fn passed_over(&self) -> &PassedOver {
        &self.passed_over
    }

    pub(super) fn key_bytes(&self) -> &[u8] {
        &self.key_bytes
    }

    /// Who the client is, and until when; its first token counts.
    pub(super) fn verify(&self, handshake: &Handshake) -> Result<Granted, Rejected> {
        let token = self.token_of(handshake).ok_or(Rejected::Missing)?;
        let claims = self.claims(token)?;
        let uid = match claims.get(&self.uid_claim) {
            Some(Value::String(uid)) if !uid.is_empty() => uid.clone(),
            Some(Value::Number(uid)) if !uid.is_f64() => uid.to_string(),
            _ => {
                let claim = &self.uid_claim;
                return Err(Rejected::Invalid(format!("its claim {claim} is no uid")));
            }
        };
        Ok(Granted {
            uid: Some(uid),
            until: self.expiry(&claims),
        })
    }

    fn token_of<'a>(&self, handshake: &'a Handshake) -> Option<&'a str> {
        let bearer = |value: &'a str| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        };
        let in_header = handshake.header("authorization").filter_map(bearer);
        let in_query = handshake
            .query
            .iter()
            .filter(|(name, _)| self.query.contains(name));
        let in_query = in_query.map(|(_, value)| value.as_str());
        let offered = handshake.subprotocols.iter();
        let offered = offered.filter_map(|name| name.strip_prefix(SUBPROTOCOL));
        in_header
            .chain(in_query)
            .chain(offered)
            .find(|token| !token.is_empty())
    }

    /// What it says, if one of the keys that its header leaves has signed it.
    fn claims(&self, token: &str) -> Result<Map<String, Value>, Rejected> {
        let mut outcome = Err(ErrorKind::InvalidSignature.into());
        for (key, validation) in self.keys_of(token)? {
            outcome = decode(token, &key.key, validation).map(|decoded| decoded.claims);
            let is_of_another = |error: &Error| *error.kind() == ErrorKind::InvalidSignature;
            if !outcome.as_ref().is_err_and(is_of_another) {
                break;
            }
        }
        outcome.map_err(|error| rejected(&error))
    }

    /// The keys for the token's algorithm and kid, those with that kid first. A set may have
    /// several of them (RFC 7517, section 4.5), and a token need not have a kid.
    fn keys_of(&self, token: &str) -> Result<Vec<&(Key, Validation)>, Rejected> {
        let invalid = |why: &str| Rejected::Invalid(why.to_owned());
        let header = decode_header(token)
            .map_err(|_| invalid("it is malformed, or its algorithm is an unknown one"))?;
        if header.crit.is_some() {
            return Err(invalid("it has extensions that must be understood (crit)"));
        }
        let fits = |(key, _): &&(Key, Validation)| {
            let is_meant = key.kid.is_none() || header.kid.is_none() || key.kid == header.kid;
            key.algorithm == header.alg && is_meant
        };
        let mut fitting: Vec<_> = self.keys.iter().filter(fits).collect();
        fitting.sort_by_key(|(key, _)| key.kid != header.kid);
        match fitting.len() {
            0 => Err(invalid("there is no key for its algorithm and kid")),
            1..=TRIES_MAX => Ok(fitting),
            _ => Err(invalid(
                "more keys fit its algorithm and kid than are tried",
            )),
        }
    }

    /// When its time is over; none: in no time that a clock can show.
    fn expiry(&self, claims: &Map<String, Value>) -> Option<Instant> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        let expires = claims.get("exp")?.as_f64()? + self.leeway.as_secs_f64();
        let left = (expires - now.as_secs_f64()).max(0.0);
        Instant::now().checked_add(Duration::try_from_secs_f64(left).ok()?)
    }
}

/// Without its keys.
impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Jwt {
    fn check(&self) -> Result<(), InvalidValue> {
        if self.leeway > LEEWAY_MAX {
            let why = format!("is {:?}, but {LEEWAY_MAX:?} is the most", self.leeway);
            return Err(InvalidValue::new("jwt.leeway", why));
        }
        let names = [("jwt.uid_claim", &self.uid_claim)].into_iter();
        for (key, name) in names.chain(self.query.iter().map(|name| ("jwt.query", name))) {
            if name.is_empty() {
                return Err(InvalidValue::new(
                    key,
                    "is empty: write a name, or leave it out",
                ));
            }
        }
        Ok(())
    }

    /// What tokens of this key must have in them.
    fn validation(&self, key: &Key) -> Validation {
        let mut validation = Validation::new(key.algorithm);
        validation.leeway = self.leeway.as_secs();
        validation.validate_nbf = true;
        // A token is over *at* its `exp` (RFC 7519, section 4.1.4), and not a second later.
        validation.reject_tokens_expiring_in_less_than = 1;
        if !self.issuer.is_empty() {
            validation.set_issuer(&[&self.issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        if !self.audience.is_empty() {
            validation.set_audience(&[&self.audience]);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        validation
    }
}

/// In our own words: the crate's may have parts of the token in them.
fn rejected(error: &Error) -> Rejected {
    let why = match error.kind() {
        ErrorKind::ExpiredSignature => return Rejected::Expired,
        ErrorKind::ImmatureSignature => "it is not valid yet (nbf)",
        ErrorKind::InvalidSignature => "its signature is wrong",
        ErrorKind::InvalidIssuer => "it is another issuer's (iss)",
        ErrorKind::InvalidAudience => "it is for another audience (aud)",
        ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => {
            return Rejected::Invalid(format!("its claim {claim} is missing or malformed"));
        }
        _ => "it is malformed",
    };
    Rejected::Invalid(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    const SECRET: &[u8] = b"a secret of more than 32 bytes, for tests";

    fn tokens(jwt: &Jwt) -> Tokens {
        signatures::install();
        let keys = keys::parse(Kind::Secret, SECRET).expect("a good secret");
        Tokens::new(jwt, keys, Vec::new())
    }

    /// This header and these claims, signed.
    fn signed(header: &str, claims: &str) -> String {
        signed_with(SECRET, header, claims)
    }

    fn signed_with(secret: &[u8], header: &str, claims: &str) -> String {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let message = format!(
            "{}.{}",
            encode(header.as_bytes()),
            encode(claims.as_bytes())
        );
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
        let tag = ring::hmac::sign(&key, message.as_bytes());
        format!("{message}.{}", encode(tag.as_ref()))
    }

    fn verify(tokens: &Tokens, token: &str) -> Result<Granted, Rejected> {
        tokens.verify(&Handshake {
            query: vec![("token".to_owned(), token.to_owned())],
            ..Handshake::default()
        })
    }

    const HEADER: &str = r#"{"alg":"HS256"}"#;

    #[test]
    fn an_expiry_beyond_all_clocks_is_none() {
        let tokens = tokens(&Jwt::default());
        for exp in ["1e15", "9007199254740993", "18446744073709551615", "1.8e19"] {
            let claims = format!(r#"{{"sub":"ada","exp":{exp}}}"#);
            let granted = verify(&tokens, &signed(HEADER, &claims));
            assert!(
                granted.is_ok_and(|granted| granted.uid.as_deref() == Some("ada")),
                "{exp}"
            );
        }
    }

    #[test]
    fn claims_of_all_shapes_are_answered() {
        let tokens = tokens(&Jwt::default());
        for claims in [
            "",
            "{",
            "null",
            "[]",
            "1",
            "\"ada\"",
            "{}",
            r#"{"sub":"ada"}"#,
            r#"{"sub":"ada","exp":null}"#,
            r#"{"sub":"ada","exp":"9999999999"}"#,
            r#"{"sub":"ada","exp":-1}"#,
            r#"{"sub":"ada","exp":0}"#,
            r#"{"sub":"ada","exp":1e400}"#,
            r#"{"sub":"ada","exp":9999999999,"nbf":"soon"}"#,
            r#"{"sub":"ada","exp":9999999999,"nbf":1e30}"#,
            r#"{"sub":"ada","exp":9999999999,"aud":{"a":1}}"#,
            r#"{"sub":"","exp":9999999999}"#,
            r#"{"sub":1.5,"exp":9999999999}"#,
            r#"{"sub":["ada"],"exp":9999999999}"#,
            r#"{"exp":9999999999}"#,
        ] {
            let verified = verify(&tokens, &signed(HEADER, claims));
            let allowed = claims.contains(r#""aud":{"#);
            assert!(verified.is_err() || allowed, "{claims}: {verified:?}");
        }
        let number = verify(&tokens, &signed(HEADER, r#"{"sub":42,"exp":9999999999}"#));
        assert_eq!(number.expect("a good token").uid.as_deref(), Some("42"));
    }

    #[test]
    fn headers_of_all_shapes_are_answered() {
        let tokens = tokens(&Jwt::default());
        let claims = r#"{"sub":"ada","exp":9999999999}"#;
        assert!(verify(&tokens, &signed(r#"{"alg":"HS256","kid":"7"}"#, claims)).is_ok());
        for header in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"alg":null}"#,
            r#"{"alg":"none"}"#,
            r#"{"alg":"None"}"#,
            r#"{"alg":"HS512"}"#,
            r#"{"alg":"RS256"}"#,
            r#"{"alg":"hs256"}"#,
            r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
            r#"{"alg":["HS256"]}"#,
        ] {
            let verified = verify(&tokens, &signed(header, claims));
            assert!(
                matches!(verified, Err(Rejected::Invalid(_))),
                "{header}: {verified:?}"
            );
        }
    }

    /// The secret of that number.
    fn secret(number: usize) -> Vec<u8> {
        format!("the secret {number} of more than 32 bytes, for tests").into_bytes()
    }

    /// Secrets with these ids, in a set.
    fn set(kids: &[Option<&str>]) -> Tokens {
        signatures::install();
        let key = |(number, kid)| {
            let secret = URL_SAFE_NO_PAD.encode(secret(number));
            json!({ "kty": "oct", "k": secret, "kid": kid })
        };
        let keys: Vec<_> = kids.iter().enumerate().map(key).collect();
        let text = json!({ "keys": keys }).to_string();
        let keys = keys::parse(Kind::Jwks, text.as_bytes()).expect("good secrets");
        Tokens::new(&Jwt::default(), keys, Vec::new())
    }

    #[test]
    fn all_keys_that_may_be_meant_are_tried() {
        let tokens = set(&[Some("a"), Some("b"), Some("a"), None]);
        let claims = r#"{"sub":"ada","exp":9999999999}"#;
        let over = r#"{"sub":"ada","exp":1}"#;
        for (number, kid, fits) in [
            (0, Some("a"), true),
            (2, Some("a"), true),
            (1, Some("a"), false),
            (1, Some("b"), true),
            (3, Some("b"), true),
            (3, Some("c"), true),
            (0, Some("c"), false),
            (0, None, true),
            (1, None, true),
            (3, None, true),
            (4, None, false),
        ] {
            let header = json!({ "alg": "HS256", "kid": kid }).to_string();
            let token = signed_with(&secret(number), &header, claims);
            assert_eq!(verify(&tokens, &token).is_ok(), fits, "{number} {kid:?}");
            // Whoever has signed it says what is wrong with it, and not the key tried last.
            let verified = verify(&tokens, &signed_with(&secret(number), &header, over));
            let expected = match fits {
                true => Rejected::Expired,
                false => Rejected::Invalid("its signature is wrong".to_owned()),
            };
            assert_eq!(verified, Err(expected), "{number} {kid:?}");
        }
    }

    #[test]
    fn a_token_is_tried_with_so_many_keys_and_no_more() {
        let claims = r#"{"sub":"ada","exp":9999999999}"#;
        let last = signed_with(&secret(TRIES_MAX - 1), HEADER, claims);
        assert!(verify(&set(&[None; TRIES_MAX]), &last).is_ok());
        let verified = verify(&set(&[None; TRIES_MAX + 1]), &last);
        assert!(
            matches!(&verified, Err(Rejected::Invalid(why)) if why.contains("more keys fit")),
            "{verified:?}"
        );
    }

    /// Every change of a letter, a cut, a doubled or a moved part is refused, and nothing
    /// panics.
    #[test]
    fn a_token_that_was_tampered_with_is_refused() {
        let tokens = tokens(&Jwt::default());
        let good = signed(HEADER, r#"{"sub":"ada","exp":9999999999}"#);
        let mut seed = 1_u32;
        let mut next = |below: usize| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as usize % below
        };
        for _ in 0..20_000 {
            let mut bytes = good.clone().into_bytes();
            for _ in 0..=next(3) {
                let at = next(bytes.len());
                match next(5) {
                    0 => bytes[at] = b".-_=AZaz09{}\0\xff %"[next(16)],
                    1 => bytes.truncate(at.max(1)),
                    2 => bytes.insert(at, b"A.=\n"[next(4)]),
                    3 => {
                        bytes.remove(at);
                    }
                    _ => bytes.rotate_left(at),
                }
                if bytes.is_empty() {
                    bytes.push(b'.');
                }
            }
            let token = String::from_utf8_lossy(&bytes);
            let verified = verify(&tokens, &token);
            assert!(verified.is_err() || token == good, "{token}: {verified:?}");
        }
    }
}
