//! Calls into plugins, from backends and from other plugins: their callers, results and errors.

use std::pin::Pin;

use crate::limits::CALL_DEPTH;

/// The node's plugins, as a guest calls them. A guest must hold this by a weak reference, since the
/// plugins hold their guests.
pub(crate) trait Callees: Send + Sync {
    /// Calls `method` of the plugin with that name, and waits for its answer.
    fn call<'a>(
        &'a self,
        plugin: &'a str,
        caller: Caller<'a>,
        method: &'a str,
        payload: &'a [u8],
    ) -> Calling<'a>;
}

/// The future of a call that is under way.
pub(crate) type Calling<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, CallError>> + Send + 'a>>;

/// The caller of a plugin: a backend or another plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller<'a> {
    /// A backend, with the name of the token that it uses, or an empty name.
    Api(&'a str),
    /// A plugin of this node.
    Plugin {
        /// The name of the calling plugin.
        name: &'a str,
        /// The depth of the calling event in a chain of calls: 0 if no plugin or backend has called
        /// it.
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

/// The kind of error that the caller of a plugin gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallErrorCode {
    /// The plugin has no such method.
    UnknownMethod,
    /// The payload is not what the method takes.
    InvalidArgument,
    /// The thing that the call is about does not exist.
    NotFound,
    /// The caller may not make this call.
    Denied,
    /// The call would exceed a limit.
    LimitExceeded,
    /// The plugin is too busy now; the call may work later.
    Overloaded,
    /// Something that the call needs is not available, for example the plugin itself.
    Unavailable,
    /// The call failed, perhaps after it had its effect.
    Failed,
}

impl CallErrorCode {
    /// The code as the contract writes it, for example `not-found`.
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

/// The reason why a call has no answer. Everything that belongs into the log is logged already.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The plugin's `on-call` answered with an error.
    #[error("{message}")]
    Refused {
        /// The kind of error, as the plugin gave it.
        code: CallErrorCode,
        /// The plugin's own message.
        message: String,
    },
    /// The plugin does not export `call-handler`, so it can't be called.
    #[error("the plugin exports no call-handler")]
    NoHandler,
    /// The plugin's manifest does not allow this caller.
    #[error("the plugin's manifest does not name {caller:?} under [calls] allow")]
    Denied {
        /// The name of the caller.
        caller: String,
    },
    /// The call (method and payload) or its answer is too long.
    #[error("the {what} has {bytes} bytes, more than {limit} (call_bytes)")]
    TooLarge {
        /// The part that is too long: the call or the answer.
        what: &'static str,
        /// The length of the part, in bytes.
        bytes: usize,
        /// The longest permitted length, in bytes (`call_bytes`).
        limit: usize,
    },
    /// The call is nested too deeply within other calls.
    #[error("this is a call within {CALL_DEPTH} others, the most there may be")]
    TooDeep,
    /// The plugin's `on-call` trapped.
    #[error("the plugin failed at this call")]
    Trapped,
    /// No instance became free within `call_wait`.
    #[error("the plugin is too busy, try again later")]
    Overloaded,
    /// The plugin's file is gone, or the node ends: calls of backends are not served any more.
    #[error("the plugin ends")]
    Draining,
    /// Another node ran the call, and was lost before it answered.
    #[error("the node that ran the call went; the call may have had its effect")]
    Lost,
    /// The error that another node gave for a call that it ran.
    #[error("{message}")]
    There {
        /// The kind of error, as the other node gave it.
        code: CallErrorCode,
        /// Whether the call (method and payload) or its answer was too long.
        is_too_large: bool,
        /// A message for a person.
        message: String,
    },
    /// No such plugin runs here: its file is gone, or was never loaded.
    #[error("no such plugin runs here")]
    Absent,
}

impl CallError {
    /// The kind of this error, for the caller.
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
