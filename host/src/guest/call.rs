//! Calls into plugins, from backends and from other plugins: who calls, and what comes of it.

use std::pin::Pin;

use crate::limits::CALL_DEPTH;

/// The node's plugins, as far as a guest can call them. Whoever holds it for a guest holds it
/// weakly, since it holds the guests.
pub(crate) trait Callees: Send + Sync {
    /// Calls `method` of the plugin of that name, and waits for its answer.
    fn call<'a>(
        &'a self,
        plugin: &'a str,
        caller: Caller<'a>,
        method: &'a str,
        payload: &'a [u8],
    ) -> Calling<'a>;
}

/// A call that is under way.
pub(crate) type Calling<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, CallError>> + Send + 'a>>;

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller<'a> {
    /// A backend: the name of the token it calls with, or nothing.
    Api(&'a str),
    /// A plugin of this node.
    Plugin {
        /// Its name.
        name: &'a str,
        /// How many calls deep the event is that calls: 0 for a client's.
        depth: u32,
    },
}

impl Caller<'_> {
    pub(crate) fn depth(self) -> u32 {
        match self {
            Caller::Api(_) => 0,
            Caller::Plugin { depth, .. } => depth,
        }
    }
}

/// What kind of error a caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallErrorCode {
    /// There is no such method.
    UnknownMethod,
    /// The payload is not what the method takes.
    InvalidArgument,
    /// What the call is about is not there.
    NotFound,
    /// The caller may not do that.
    Denied,
    /// The call would pass a limit.
    LimitExceeded,
    /// Later it may work.
    Overloaded,
    /// What is needed for it is not there.
    Unavailable,
    /// It went wrong, perhaps after it had its effect.
    Failed,
}

impl CallErrorCode {
    /// The code as the contract writes it: `not-found`.
    pub fn as_str(self) -> &'static str {
        match self {
            CallErrorCode::UnknownMethod => "unknown-method",
            CallErrorCode::InvalidArgument => "invalid-argument",
            CallErrorCode::NotFound => "not-found",
            CallErrorCode::Denied => "denied",
            CallErrorCode::LimitExceeded => "limit-exceeded",
            CallErrorCode::Overloaded => "overloaded",
            CallErrorCode::Unavailable => "unavailable",
            CallErrorCode::Failed => "failed",
        }
    }
}

/// Why a call has no answer. What the log has to say of it has been said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// `on-call` answered this.
    #[error("{message}")]
    Refused {
        /// What the plugin calls it.
        code: CallErrorCode,
        /// Its own words.
        message: String,
    },
    /// The plugin can't be called.
    #[error("the plugin exports no call-handler")]
    NoHandler,
    /// The plugin does not want to be called by this one.
    #[error("the plugin's manifest does not name {caller:?} under [calls] allow")]
    Denied {
        /// Who called.
        caller: String,
    },
    /// The method and the payload, or the answer, are too long.
    #[error("the {what} has {bytes} bytes, more than {limit} (call_bytes)")]
    TooLarge {
        /// Which of them.
        what: &'static str,
        /// What it has.
        bytes: usize,
        /// What it may have.
        limit: usize,
    },
    /// Too many calls within calls.
    #[error("this is a call within {CALL_DEPTH} others, the most there may be")]
    TooDeep,
    /// `on-call` trapped.
    #[error("the plugin failed at this call")]
    Trapped,
    /// No instance was to be had within `call_wait`.
    #[error("the plugin is too busy, try again later")]
    Overloaded,
    /// The plugin's file is gone, or the node ends: backends are not served any more.
    #[error("the plugin ends")]
    Draining,
    /// Another node had the call, and went while it was at it.
    #[error("the node that ran the call went; the call may have had its effect")]
    Lost,
    /// What another node says of a call that came to it.
    #[error("{message}")]
    There {
        /// What kind of error it is.
        code: CallErrorCode,
        /// The method and the payload, or the answer, are too long.
        is_too_large: bool,
        /// For a person.
        message: String,
    },
    /// There is no such plugin, or it has no generation: its file is gone, or never loaded.
    #[error("no such plugin runs here")]
    Absent,
}

impl CallError {
    /// What kind of error it is, for whoever called.
    pub fn code(&self) -> CallErrorCode {
        match self {
            CallError::Refused { code, .. } | CallError::There { code, .. } => *code,
            CallError::NoHandler => CallErrorCode::UnknownMethod,
            CallError::Denied { .. } => CallErrorCode::Denied,
            CallError::TooLarge { .. } | CallError::TooDeep => CallErrorCode::LimitExceeded,
            CallError::Overloaded => CallErrorCode::Overloaded,
            CallError::Draining | CallError::Absent => CallErrorCode::Unavailable,
            CallError::Trapped | CallError::Lost => CallErrorCode::Failed,
        }
    }
}
