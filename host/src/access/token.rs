//! JSON Web Tokens. A token says who a client is, and for how long. An issuer signs the token, and
//! the plugin's manifest names the issuer's key.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::granted::Granted;
use super::handshake::Handshake;
use super::keys::{self, KeyFormat, Keys, PassedOver, VerificationKey};
use super::signatures;
use crate::invalid_value::InvalidValue;

/// The prefix of a subprotocol that contains a token. A browser cannot set headers, but it can
/// offer its token as a subprotocol.
const SUBPROTOCOL: &str = "bearer.";

/// The largest allowed leeway. A larger value is a mistake in the unit.
const LEEWAY_MAX: Duration = Duration::from_secs(3600);

/// The most keys that one token is tried with, if several keys fit its header. Each try costs the
/// time of one signature check.
const TRIES_MAX: usize = 16;

/// Signs a token with the secret in the file that a manifest names (`jwt.secret_file`).
///
/// # Errors
///
/// The file cannot be read, or its secret is too short.
pub(crate) fn sign_token(
    secret_file: &Path,
    claims: &Map<String, Value>,
) -> anyhow::Result<String> {
    Ok(keys::sign(secret_file, claims)?)
}

/// The section `[jwt]` of a manifest.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Jwt {
    secret_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    jwks_file: Option<PathBuf>,
    query: Vec<String>,
    /// The required issuer of the tokens. An empty text allows any issuer.
    issuer: String,
    /// The required audience of the tokens. With an empty text, a token that names an audience is
    /// rejected, since it is meant for somebody else.
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

/// The verifier of the tokens of a plugin's clients.
pub(super) struct TokenVerifier {
    keys: Vec<(VerificationKey, Validation)>,
    passed_over: PassedOver,
    key_bytes: Vec<u8>,
    query: Vec<String>,
    leeway: Duration,
    uid_claim: String,
}

/// The reason why a client's token was not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// The client has sent no token.
    Missing,
    /// The client's token has expired.
    Expired,
    /// The token is not valid for another reason. The text describes the reason for the log.
    Invalid(String),
}

/// Whether a subprotocol that a client offers contains its token.
pub fn carries_token(subprotocol: &str) -> bool {
    subprotocol.starts_with(SUBPROTOCOL)
}

impl Rejected {
    /// The reason that the client receives. Details are left out, since they would help somebody
    /// who forges tokens.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Rejected::Missing => "a token is required",
            Rejected::Expired => "the token has expired",
            Rejected::Invalid(_) => "the token is not valid",
        }
    }

    /// The reason that the log receives, with its details.
    pub(crate) fn why(&self) -> &str {
        match self {
            Rejected::Missing | Rejected::Expired => self.reason(),
            Rejected::Invalid(why) => why,
        }
    }
}

impl TokenVerifier {
    /// Reads the key file that `jwt` names. The path of the file is relative to `folder`.
    pub(super) fn read(jwt: &Jwt, folder: &Path) -> Result<TokenVerifier, InvalidValue> {
        jwt.check()?;
        signatures::install();
        let (name, kind, file) = match (&jwt.secret_file, &jwt.key_file, &jwt.jwks_file) {
            (Some(file), None, None) => ("jwt.secret_file", KeyFormat::Secret, file),
            (None, Some(file), None) => ("jwt.key_file", KeyFormat::Pem, file),
            (None, None, Some(file)) => ("jwt.jwks_file", KeyFormat::Jwks, file),
            _ => {
                let why = "name one of secret_file, key_file and jwks_file";
                return Err(InvalidValue::new("jwt", why));
            }
        };
        let wrong = |error: keys::KeyError| InvalidValue::new(name, error.to_string());
        let key_bytes = keys::read(&folder.join(file)).map_err(wrong)?;
        let keys = keys::parse(kind, &key_bytes).map_err(wrong)?;
        Ok(TokenVerifier::new(jwt, keys, key_bytes))
    }

    fn new(jwt: &Jwt, keys: Keys, key_bytes: Vec<u8>) -> TokenVerifier {
        let with_validation = |key| {
            let validation = jwt.validation(&key);
            (key, validation)
        };
        TokenVerifier {
            keys: keys.usable.into_iter().map(with_validation).collect(),
            passed_over: keys.passed_over,
            key_bytes,
            query: jwt.query.clone(),
            leeway: jwt.leeway,
            uid_claim: jwt.uid_claim.clone(),
        }
    }

    /// The keys in the key file that cannot be used here.
    pub(super) fn passed_over(&self) -> &PassedOver {
        &self.passed_over
    }

    pub(super) fn key_bytes(&self) -> &[u8] {
        &self.key_bytes
    }

    /// Verifies the client's token, and returns its uid and its expiry. Only the first token in the
    /// request counts.
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
            claims: serde_json::to_string(&claims).ok(),
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

    /// Verifies the signature of a token and returns its claims. The keys that fit the token's
    /// header are tried one after another.
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

    /// The keys with the token's algorithm that fit its `kid`. Keys with exactly this `kid` come
    /// first. A key set may contain several keys with one `kid` (RFC 7517, section 4.5), and a
    /// token need not have a `kid`.
    fn keys_of(&self, token: &str) -> Result<Vec<&(VerificationKey, Validation)>, Rejected> {
        let invalid = |why: &str| Rejected::Invalid(why.to_owned());
        let header = decode_header(token)
            .map_err(|_| invalid("it is malformed, or its algorithm is an unknown one"))?;
        if header.crit.is_some() {
            return Err(invalid("it has extensions that must be understood (crit)"));
        }
        let fits = |(key, _): &&(VerificationKey, Validation)| {
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

    /// The time when a token expires, with the leeway added. `None` means that the clock cannot
    /// represent this time.
    fn expiry(&self, claims: &Map<String, Value>) -> Option<Instant> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        let expires = claims.get("exp")?.as_f64()? + self.leeway.as_secs_f64();
        let left = (expires - now.as_secs_f64()).max(0.0);
        Instant::now().checked_add(Duration::try_from_secs_f64(left).ok()?)
    }
}

/// The debug output does not show the keys.
impl std::fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenVerifier").finish_non_exhaustive()
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

    /// The checks that a token signed with `key` must pass.
    fn validation(&self, key: &VerificationKey) -> Validation {
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

/// Describes a verification error in our own words. The texts of the crate may contain parts of the
/// token.
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
    use crate::fuzzing;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    const SECRET: &[u8] = b"a secret of more than 32 bytes, for tests";

    fn tokens(jwt: &Jwt) -> TokenVerifier {
        signatures::install();
        let keys = keys::parse(KeyFormat::Secret, SECRET).expect("a good secret");
        TokenVerifier::new(jwt, keys, Vec::new())
    }

    /// A token with this header and these claims, signed with `SECRET`.
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

    fn verify(tokens: &TokenVerifier, token: &str) -> Result<Granted, Rejected> {
        tokens.verify(&Handshake {
            query: vec![("token".to_owned(), token.to_owned())],
            ..Handshake::default()
        })
    }

    const HEADER: &str = r#"{"alg":"HS256"}"#;

    #[test]
    fn a_token_that_is_signed_here_is_taken_and_a_short_secret_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), [SECRET, b"\n"].concat()).expect("a secret");
        let claims = json!({ "sub": "ada", "exp": 9_999_999_999_u64, "role": "é" });
        let claims = claims.as_object().expect("claims");
        let token = sign_token(file.path(), claims).expect("a token");
        let granted = verify(&tokens(&Jwt::default()), &token);
        assert!(granted.is_ok_and(|granted| granted.uid.as_deref() == Some("ada")));
        std::fs::write(file.path(), "short").expect("a secret");
        let error = sign_token(file.path(), claims).expect_err("too short");
        assert!(error.to_string().contains("at least 32 bytes"), "{error}");
    }

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

    /// The test secret with the number `number`.
    fn secret(number: usize) -> Vec<u8> {
        format!("the secret {number} of more than 32 bytes, for tests").into_bytes()
    }

    /// A key set of test secrets with these key ids.
    fn set(kids: &[Option<&str>]) -> TokenVerifier {
        signatures::install();
        let key = |(number, kid)| {
            let secret = URL_SAFE_NO_PAD.encode(secret(number));
            json!({ "kty": "oct", "k": secret, "kid": kid })
        };
        let keys: Vec<_> = kids.iter().enumerate().map(key).collect();
        let text = json!({ "keys": keys }).to_string();
        let keys = keys::parse(KeyFormat::Jwks, text.as_bytes()).expect("good secrets");
        TokenVerifier::new(&Jwt::default(), keys, Vec::new())
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

    /// Whatever else comes is refused, and nothing panics.
    #[test]
    fn only_the_tokens_that_were_signed_are_accepted() {
        let tokens = tokens(&Jwt::default());
        let signed = fuzzing::corpus("tokens");
        let mut good = 0;
        fuzzing::fuzz("tokens", 20_000, |bytes| {
            let token = String::from_utf8_lossy(bytes);
            if verify(&tokens, &token).is_ok() {
                assert!(signed.iter().any(|signed| signed == bytes));
                good += 1;
            }
        });
        assert!(good >= 3, "{good}");
    }

    /// Whoever has the key may sign anything: nothing panics, and nobody is somebody else.
    #[test]
    fn a_client_is_who_its_claims_say() {
        let tokens = tokens(&Jwt::default());
        let mut good = 0;
        fuzzing::fuzz("claims", 20_000, |bytes| {
            let claims = String::from_utf8_lossy(bytes);
            let Ok(granted) = verify(&tokens, &signed(HEADER, &claims)) else {
                return;
            };
            let claims: Map<String, Value> = serde_json::from_str(&claims).expect("an object");
            let uid = match &claims["sub"] {
                Value::String(uid) => uid.clone(),
                other => other.to_string(),
            };
            assert!(!uid.is_empty());
            assert_eq!(granted.uid, Some(uid));
            assert!(claims["exp"].as_f64() > Some(0.0));
            good += 1;
        });
        assert!(good > 100, "{good}");
    }
}
