//! Access control: the rules of a plugin's manifest for clients that connect. The node checks these
//! rules before it asks the plugin.
//!
//! ```toml
//! origins = ["https://example.com", "https://*.example.com"]
//! require_origin = true
//! subprotocols = ["v2.chat", "v1.chat"]
//! require_subprotocol = true
//! require_client_certificate = true
//!
//! require_uid = { header = "businessId", query = "businessId" }
//! # or
//! [jwt]
//! key_file = "chat.pem"
//! ```
//!
//! The check is a plain function from a handshake to an answer. Key files are read together with
//! the manifest.

mod granted;
mod handshake;
mod keys;
mod origins;
mod signatures;
mod subprotocols;
mod token;
mod uid;
mod unsigned_token;

use std::path::Path;

use self::origins::Origins;
use self::subprotocols::Subprotocols;
use self::token::{Rejected, TokenVerifier};
use crate::invalid_value::InvalidValue;

pub(crate) use self::granted::Granted;
pub use self::handshake::Handshake;
pub(crate) use self::handshake::NODE_HEADERS;
pub use self::subprotocols::is_token;
pub use self::token::carries_token;
pub(crate) use self::token::{Jwt, sign_token};
pub(crate) use self::uid::RequireUid;
pub(crate) use self::unsigned_token::{with_signatures, without_signatures};

/// The header in which the node tells a plugin the certificate of a client, in DER and base64 (RFC
/// 9440). A client cannot set it.
pub(crate) const CLIENT_CERTIFICATE: &str = "client-cert";

/// The access rules of a manifest, as they are written there.
#[derive(Debug, Default)]
pub(crate) struct Requirements {
    pub(crate) origins: Vec<String>,
    pub(crate) require_origin: bool,
    pub(crate) subprotocols: Vec<String>,
    pub(crate) require_subprotocol: bool,
    pub(crate) require_client_certificate: bool,
    pub(crate) require_uid: Option<RequireUid>,
    pub(crate) jwt: Option<Jwt>,
}

/// The access rules of a plugin, checked and ready for use.
#[derive(Debug, Default)]
pub(crate) struct Access {
    origins: Origins,
    subprotocols: Subprotocols,
    require_client_certificate: bool,
    identity: UidSource,
}

/// The source of a client's uid.
#[derive(Debug, Default)]
enum UidSource {
    /// The plugin gives the client its uid, if it gives one at all.
    #[default]
    Plugin,
    /// The request contains the client's uid, in its query or in a header.
    Request(RequireUid),
    /// The client's token contains the uid.
    Token(Box<TokenVerifier>),
}

/// The reason why a client may not connect.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// The request has no allowed origin: HTTP status 403.
    Origin,
    /// A required part of the request is missing or appears twice: HTTP status 400. The text names
    /// that part.
    Incomplete(String),
    /// The client's token is missing or not valid: HTTP status 401.
    Token(Rejected),
}

impl Access {
    /// Checks the access rules of a manifest and reads its key file. The paths of files in the
    /// manifest are relative to `folder`, the manifest's folder.
    ///
    /// # Errors
    ///
    /// Returns an error when a rule cannot be used, or when the key file cannot be read or has no
    /// usable key.
    pub(crate) fn new(written: &Requirements, folder: &Path) -> Result<Access, InvalidValue> {
        let identity = match (&written.require_uid, &written.jwt) {
            (None, None) => UidSource::Plugin,
            (Some(required), None) => UidSource::Request(required.checked()?.clone()),
            (None, Some(jwt)) => UidSource::Token(Box::new(TokenVerifier::read(jwt, folder)?)),
            (Some(_), Some(_)) => {
                let why = "[jwt] says already where the uid comes from: keep one of the two";
                return Err(InvalidValue::new("require_uid", why));
            }
        };
        Ok(Access {
            origins: Origins::parse(&written.origins, written.require_origin)?,
            subprotocols: Subprotocols::parse(&written.subprotocols, written.require_subprotocol)?,
            require_client_certificate: written.require_client_certificate,
            identity,
        })
    }

    /// The content of the key file, or no bytes without a key file. When the content changes, the
    /// plugin gets a new generation.
    pub(crate) fn key_bytes(&self) -> &[u8] {
        match &self.identity {
            UidSource::Token(tokens) => tokens.key_bytes(),
            UidSource::Plugin | UidSource::Request(_) => &[],
        }
    }

    /// The keys of the key file that cannot verify tokens, with the reasons. `None` means that
    /// there are no such keys.
    pub(crate) fn keys_passed_over(&self) -> Option<String> {
        match &self.identity {
            UidSource::Token(tokens) if !tokens.passed_over().is_empty() => {
                Some(tokens.passed_over().to_string())
            }
            UidSource::Plugin | UidSource::Request(_) | UidSource::Token(_) => None,
        }
    }

    /// Checks whether a client may connect.
    ///
    /// # Errors
    ///
    /// Returns the reason when a rule of the manifest does not allow the client to connect.
    pub(crate) fn check(&self, handshake: &Handshake) -> Result<Granted, Denied> {
        if !self.origins.allow(handshake) {
            return Err(Denied::Origin);
        }
        if handshake.header("origin").nth(1).is_some() {
            // Whoever else reads it may take the other one (RFC 6454, section 7.3).
            let why = "the header Origin may be there once";
            return Err(Denied::Incomplete(why.to_owned()));
        }
        if let Some(missing) = self.subprotocols.missing(&handshake.subprotocols) {
            return Err(Denied::Incomplete(missing));
        }
        if self.require_client_certificate && handshake.header(CLIENT_CERTIFICATE).next().is_none()
        {
            let why = "a client certificate is required, over TLS";
            return Err(Denied::Incomplete(why.to_owned()));
        }
        match &self.identity {
            UidSource::Plugin => Ok(Granted::default()),
            UidSource::Request(required) => match required.find(handshake) {
                Some(uid) => Ok(Granted {
                    uid: Some(uid.to_owned()),
                    ..Granted::default()
                }),
                None => Err(Denied::Incomplete(required.to_string())),
            },
            UidSource::Token(tokens) => tokens.verify(handshake).map_err(Denied::Token),
        }
    }

    /// The subprotocol for a client whose plugin has chosen none: the preferred one among those
    /// that are `offered`.
    pub(crate) fn subprotocol(&self, offered: &[String]) -> Option<String> {
        self.subprotocols.choose(offered)
    }
}
