//! Public keys in PEM (RFC 7468). Each block is read independently, any text may stand around the
//! blocks, and both kinds of line endings are accepted.

use jsonwebtoken::DecodingKey;

use super::key::{KeyError, Keys, VerificationKey, fitting, shown};

const BEGIN: &str = "-----BEGIN ";

/// The beginning of a public key on P-256, in base64. These bytes name the curve (RFC 5480) and say
/// that both coordinates follow. Keys on other curves have the same length, so the length does not
/// show the curve.
const P256: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE";

pub(super) fn parse(bytes: &[u8]) -> Result<Keys, KeyError> {
    let text = String::from_utf8_lossy(bytes);
    let mut keys = Keys::default();
    for (place, block) in text.split(BEGIN).skip(1).enumerate() {
        let (label, body) = block.split_once("-----").unwrap_or((block, ""));
        keys.note(public_key(label, body, block), || {
            format!("block {} ({})", place + 1, shown(label))
        });
    }
    keys.not_empty(
        "it has no public key in PEM: `openssl pkey -in PRIVATE -pubout` makes one, \
         `openssl x509 -in CERTIFICATE -noout -pubkey` takes a certificate's",
    )
}

fn public_key(label: &str, body: &str, block: &str) -> Result<VerificationKey, KeyError> {
    if !matches!(label, "PUBLIC KEY" | "RSA PUBLIC KEY") {
        return Err("it is no public key".into());
    }
    let pem = format!("{BEGIN}{block}");
    let pem = pem.as_bytes();
    let is_p256 = || {
        body.split_ascii_whitespace()
            .collect::<String>()
            .starts_with(P256)
    };
    let key = DecodingKey::from_ed_pem(pem)
        .or_else(|_| DecodingKey::from_rsa_pem(pem))
        .or_else(|error| match is_p256() {
            true => DecodingKey::from_ec_pem(pem),
            false => Err(error),
        });
    let key = key.map_err(|_| "it is no key for RS256, ES256 (P-256) or EdDSA (Ed25519)")?;
    fitting(None, key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use data_encoding::HEXLOWER;
    use jsonwebtoken::Algorithm;

    /// The DER bytes before the point of a key, in hexadecimal. This constant and `SECP256K1` come
    /// from RFC 5480, and `ED25519` comes from RFC 8410.
    const P256: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
    const SECP256K1: &str = "3056301006072a8648ce3d020106052b8104000a034200";
    const ED25519: &str = "302a300506032b6570032100";

    fn block(label: &str, prefix: &str, point: &[u8]) -> String {
        let prefix = HEXLOWER.decode(prefix.as_bytes()).expect("hex");
        let body = STANDARD.encode([&prefix[..], point].concat());
        let lines: Vec<_> = body
            .as_bytes()
            .chunks(64)
            .map(String::from_utf8_lossy)
            .collect();
        format!(
            "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
            lines.join("\n")
        )
    }

    fn ed25519() -> String {
        block("PUBLIC KEY", ED25519, &[7; 32])
    }

    fn on_curve(prefix: &str) -> String {
        block("PUBLIC KEY", prefix, &[&[4][..], &[7; 64]].concat())
    }

    #[test]
    fn every_public_key_in_it_counts() {
        let both = format!("{}{}", ed25519(), on_curve(P256));
        for (text, passed_over) in [
            (both.clone(), 0),
            (both.replace('\n', "\r\n"), 0),
            (
                format!(
                    "\u{feff}Public-VerificationKey: (256 bit)\npub:\n    04:a0\n{both}the end"
                ),
                0,
            ),
            (format!("{both}{}", on_curve(SECP256K1)), 1),
            (format!("{}{both}", block("CERTIFICATE", "3000", &[])), 1),
            (
                format!(
                    "{}{both}",
                    block("EC PARAMETERS", "06082a8648ce3d030107", &[])
                ),
                1,
            ),
            (format!("{}{both}", block("PRIVATE KEY", "3000", &[])), 1),
            (format!("{both}-----BEGIN PUBLIC KEY-----\nhalf"), 1),
        ] {
            let keys = parse(text.as_bytes()).expect("two keys");
            let algorithms: Vec<_> = keys.usable.iter().map(|key| key.algorithm).collect();
            assert_eq!(algorithms, [Algorithm::EdDSA, Algorithm::ES256], "{text}");
            let said = keys.passed_over.to_string();
            assert_eq!(said.matches("block").count(), passed_over, "{said}");
        }
    }

    #[test]
    fn a_file_without_one_says_what_to_do() {
        for (text, why) in [
            (String::new(), "makes one"),
            ("no key".to_owned(), "makes one"),
            (
                on_curve(SECP256K1),
                "block 1 (\"PUBLIC KEY\"): it is no key for",
            ),
            (
                block("EC PRIVATE KEY", "3000", &[]),
                "block 1 (\"EC PRIVATE KEY\"): it is no public key",
            ),
            ("-----BEGIN ".to_owned(), "it is no public key"),
        ] {
            let error = parse(text.as_bytes()).err().expect("no key");
            assert!(
                error.to_string().starts_with("it has no public key in PEM"),
                "{error}"
            );
            assert!(error.to_string().contains(why), "{text}: {error}");
        }
    }
}
