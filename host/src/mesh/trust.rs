//! Trust between nodes and registers: both sides prove that they know the mesh's secret, and
//! neither ever sends it.
//!
//! Each side draws a nonce. A proof is an HMAC-SHA256 over its purpose, both nonces and the
//! identities of both sides. A proof is valid for one conversation only, since the verifier's nonce
//! is in it. The rest of the connection is neither encrypted nor signed: where others can read or
//! change the traffic, use mutual TLS.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use sha2::Sha256;
use tonic::{Code, Status};

use super::tls::{Tls, TlsFiles};
use crate::log_throttle::{LastLogged, LogThrottle};

/// The shortest secret, in bytes. A secret must not be easy to guess.
const SECRET_BYTES_MIN: usize = 16;

/// A value that is never a valid proof, with or without a secret. This value tells the other side
/// that it is not trusted, so that its operator can read this in its log.
pub(super) const NO_PROOF: &[u8] = b"no";

/// The status code with which a node refuses another node that it cannot reach.
pub(super) const UNREACHED: Code = Code::FailedPrecondition;

/// A nonce: a random number that is used once.
pub(super) type Nonce = [u8; 32];

/// The mesh's secret; without one, nobody has to prove anything.
#[derive(Clone)]
pub struct Secret(Option<Hmac<Sha256>>);

/// The proof that another node must give: the secret, a certificate, or both, as far as they are
/// set. If neither is set, everybody who can connect is trusted.
#[derive(Clone)]
pub struct Trust {
    /// The secret, which is proved and never sent.
    pub secret: Secret,
    /// The certificates and the key for mutual TLS.
    pub tls: Tls,
}

impl Trust {
    /// Reads the secret and the certificates from files. A file that is not named is not used.
    ///
    /// # Errors
    ///
    /// A file cannot be read, the secret is too short, or only some of the files for TLS are named.
    pub fn read(secret: &Path, tls: &TlsFiles) -> anyhow::Result<Trust> {
        Ok(Trust {
            secret: Secret::read(secret)?,
            tls: Tls::read(tls)?,
        })
    }

    /// Whether a secret or certificates are set, so that other nodes must prove themselves.
    pub fn is_set(&self) -> bool {
        self.secret.is_set() || self.tls.is_set()
    }
}

/// The purpose of a proof. A proof for one purpose is not valid for another.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// The node that was dialled proves its identity to the node that dialled.
    LinkAccept,
    /// The node that dialled proves its identity to the other.
    LinkDial,
    /// A register proves its identity to a node.
    JoinRegister,
    /// A node proves its identity to a register.
    JoinNode,
}

/// The data that both sides have exchanged, in the same order on both sides.
pub(super) struct Talk<'a> {
    pub(super) nonces: [&'a [u8]; 2],
    /// The identities of both sides, and other data that must not be changed in transit.
    pub(super) about: &'a [&'a [u8]],
}

/// A log of refused nodes with a limited rate, since these nodes try again several times a second.
#[derive(Default)]
pub(super) struct Refusals {
    unauthenticated: LogThrottle,
    /// The rate limit for nodes for which there is no room.
    full: LogThrottle,
    /// The rate limit for nodes of this mesh that are not reached at the address that they give.
    unreached: LogThrottle,
    last_unreached: Mutex<LastLogged>,
}

impl Refusals {
    /// Logs that a node was refused, or that it disconnected before it was accepted or refused.
    pub(super) fn say(&self, what: &str, from: Option<SocketAddr>, refused: &Status) {
        let from = from.map(|from| from.to_string()).unwrap_or_default();
        let why = refused.message();
        let throttle = match refused.code() {
            Code::Unauthenticated | Code::InvalidArgument => &self.unauthenticated,
            Code::ResourceExhausted => &self.full,
            UNREACHED if self.last_unreached.lock().is(why) => &self.unreached,
            UNREACHED => return,
            // The connection broke: that is the dialler's news.
            _ => return tracing::debug!(from, "a {what} did not come about: {why}"),
        };
        if let Some(unsaid) = throttle.happened() {
            tracing::warn!(from, unsaid, "a {what} was refused: {why}");
        }
    }
}

impl Secret {
    /// A secret with this text; an empty text means no secret.
    pub(super) fn new(text: &str) -> Secret {
        let key = (!text.is_empty()).then(|| Hmac::new_from_slice(text.as_bytes()));
        // An HMAC takes a key of any length.
        Secret(key.and_then(Result::ok))
    }

    /// Reads a secret from a file, without the line break at its end. An empty path means no
    /// secret.
    fn read(file: &Path) -> anyhow::Result<Secret> {
        if file.as_os_str().is_empty() {
            return Ok(Secret::new(""));
        }
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("the secret file {} cannot be read", file.display()))?;
        let text = text.trim_end_matches(['\n', '\r']);
        anyhow::ensure!(
            text.len() >= SECRET_BYTES_MIN,
            "the secret in {} has {} bytes, fewer than {SECRET_BYTES_MIN}: `openssl rand -hex 32` makes a good one",
            file.display(),
            text.len()
        );
        Ok(Secret::new(text))
    }

    /// Whether the secret is set.
    pub fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// A proof that this side knows the secret; it is empty if no secret is set.
    pub(super) fn prove(&self, purpose: Purpose, talk: &Talk<'_>) -> Vec<u8> {
        match &self.0 {
            None => Vec::new(),
            Some(key) => mac(key, purpose, talk).finalize().into_bytes().to_vec(),
        }
    }

    /// Whether `proof` shows that the other side knows the secret. If no secret is set, only an
    /// empty proof is valid.
    pub(super) fn accepts(&self, proof: &[u8], purpose: Purpose, talk: &Talk<'_>) -> bool {
        match &self.0 {
            None => proof.is_empty(),
            // Compared in constant time.
            Some(key) => mac(key, purpose, talk).verify_slice(proof).is_ok(),
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_set() { "a secret" } else { "none" })
    }
}

/// A new nonce, from the system's randomness.
pub(super) fn nonce() -> Result<Nonce, getrandom::Error> {
    let mut nonce = Nonce::default();
    getrandom::fill(&mut nonce)?;
    Ok(nonce)
}

fn mac(key: &Hmac<Sha256>, purpose: Purpose, talk: &Talk<'_>) -> Hmac<Sha256> {
    let purpose: &[u8] = match purpose {
        Purpose::LinkAccept => b"jackfield link accept",
        Purpose::LinkDial => b"jackfield link dial",
        Purpose::JoinRegister => b"jackfield join register",
        Purpose::JoinNode => b"jackfield join node",
    };
    let mut mac = key.clone();
    for part in [purpose].iter().chain(&talk.nonces).chain(talk.about) {
        // With its length, or two parts could be cut differently and read the same.
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk<'a>(about: &'a [&'a [u8]]) -> Talk<'a> {
        Talk {
            nonces: [&[1; 32], &[2; 32]],
            about,
        }
    }

    #[test]
    fn a_proof_is_good_for_its_secret_purpose_and_talk_only() {
        let (ours, theirs) = (Secret::new("blue"), Secret::new("green"));
        let told = talk(&[b"a", b"bc"]);
        let proof = ours.prove(Purpose::LinkDial, &told);
        assert!(ours.accepts(&proof, Purpose::LinkDial, &told));
        assert!(!theirs.accepts(&proof, Purpose::LinkDial, &told));
        assert!(!ours.accepts(&proof, Purpose::LinkAccept, &told));
        assert!(!ours.accepts(&proof, Purpose::LinkDial, &talk(&[b"ab", b"c"])));
        assert!(!ours.accepts(&proof[1..], Purpose::LinkDial, &told));
        assert!(!ours.accepts(&[], Purpose::LinkDial, &told));
    }

    #[test]
    fn who_has_no_secret_takes_no_proof_and_gives_none() {
        let none = Secret::new("");
        let told = talk(&[]);
        assert_eq!(none.prove(Purpose::LinkDial, &told), Vec::<u8>::new());
        assert!(none.accepts(&[], Purpose::LinkDial, &told));
        assert!(!none.accepts(&[0; 32], Purpose::LinkDial, &told));
        assert_eq!(format!("{:?}", Secret::new("blue")), "a secret");
    }
}
