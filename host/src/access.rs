//! Access: what a manifest asks of who comes in, seen to before the plugin is asked.
//!
//! ```toml
//! origins = ["https://example.com", "https://*.example.com"]
//! require_origin = true
//! subprotocols = ["v2.chat", "v1.chat"]
//! require_subprotocol = true
//!
//! require_uid = { header = "businessId", query = "businessId" }
//! # or
//! [jwt]
//! key_file = "chat.pem"
//! ```
//!
//! A plain function from a handshake to an answer; files are read when the manifest is.

mod granted;
mod handshake;
mod keys;
mod origins;
mod signatures;
mod subprotocols;
mod token;
mod uid;

use std::path::Path;

use self::origins::Origins;
use self::subprotocols::Subprotocols;
use self::token::{Rejected, Tokens};
use crate::invalid_value::InvalidValue;

pub(crate) use self::granted::Granted;
pub use self::handshake::Handshake;
pub use self::subprotocols::is_token;
pub(crate) use self::token::Jwt;
pub use self::token::carries_token;
pub(crate) use self::uid::RequireUid;

/// What a manifest says of who may come in, as it is written.
#[derive(Debug, Default)]
pub(crate) struct Requirements {
    pub(crate) origins: Vec<String>,
    pub(crate) require_origin: bool,
    pub(crate) subprotocols: Vec<String>,
    pub(crate) require_subprotocol: bool,
    pub(crate) require_uid: Option<RequireUid>,
    pub(crate) jwt: Option<Jwt>,
}

/// Who may come in.
#[derive(Debug, Default)]
pub(crate) struct Access {
    origins: Origins,
    subprotocols: Subprotocols,
    identity: Identity,
}

/// Where a client's uid comes from.
#[derive(Debug, Default)]
enum Identity {
    /// From the plugin, if it has one.
    #[default]
    Plugin,
    /// From the request, as it says.
    Request(RequireUid),
    /// From a token.
    Token(Box<Tokens>),
}

/// Why a client may not come in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// A page of another origin: 403.
    Origin,
    /// What the request must say is missing, or said twice: 400, and what that is.
    Incomplete(String),
    /// Its token: 401.
    Token(Rejected),
}

impl Access {
    /// From a manifest in this folder, which its files' paths start from.
    pub(crate) fn new(written: &Requirements, folder: &Path) -> Result<Access, InvalidValue> {
        let identity = match (&written.require_uid, &written.jwt) {
            (None, None) => Identity::Plugin,
            (Some(required), None) => Identity::Request(required.checked()?.clone()),
            (None, Some(jwt)) => Identity::Token(Box::new(Tokens::read(jwt, folder)?)),
            (Some(_), Some(_)) => {
                let why = "[jwt] says already where the uid comes from: keep one of the two";
                return Err(InvalidValue::new("require_uid", why));
            }
        };
        Ok(Access {
            origins: Origins::parse(&written.origins, written.require_origin)?,
            subprotocols: Subprotocols::parse(&written.subprotocols, written.require_subprotocol)?,
            identity,
        })
    }

    /// What its key file had in it: another content makes another generation.
    pub(crate) fn key_bytes(&self) -> &[u8] {
        match &self.identity {
            Identity::Token(tokens) => tokens.key_bytes(),
            Identity::Plugin | Identity::Request(_) => &[],
        }
    }

    /// The keys in that file that tokens are not verified with, and why; none: there are none.
    pub(crate) fn keys_passed_over(&self) -> Option<String> {
        match &self.identity {
            Identity::Token(tokens) if !tokens.passed_over().is_empty() => {
                Some(tokens.passed_over().to_string())
            }
            Identity::Plugin | Identity::Request(_) | Identity::Token(_) => None,
        }
    }

    /// Whether a client may come in.
    pub(crate) fn check(&self, handshake: &Handshake) -> Result<Granted, Denied> {
        if !self.origins.allow(handshake) {
            return Err(Denied::Origin);
        }
        if handshake.header("origin").nth(1).is_some() {
            // Whoever else reads it may take the other one (RFC 6454, section 7.3).
            let why = "the header Origin may be there once";
            return Err(Denied::Incomplete(why.to_owned()));
        }
        self.subprotocols
            .check(&handshake.subprotocols)
            .map_err(Denied::Incomplete)?;
        match &self.identity {
            Identity::Plugin => Ok(Granted::default()),
            Identity::Request(required) => match required.find(handshake) {
                Some(uid) => Ok(Granted {
                    uid: Some(uid.to_owned()),
                    until: None,
                }),
                None => Err(Denied::Incomplete(required.to_string())),
            },
            Identity::Token(tokens) => tokens.verify(handshake).map_err(Denied::Token),
        }
    }

    /// The subprotocol for a client whose plugin has chosen none.
    pub(crate) fn subprotocol(&self, offered: &[String]) -> Option<String> {
        self.subprotocols.choose(offered)
    }
}
