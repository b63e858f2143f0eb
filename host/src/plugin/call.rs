//! Calls: a backend, or another plugin of the node, asks and waits for the answer.
//!
//! A call is an event of the callee like others, on the caller's own task: dropped with it, its
//! instance is dropped too. What it may carry is bounded by the callee's `call_bytes`, and how
//! deep calls may go within calls by `CALL_DEPTH`, since each keeps an instance.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::RwLock;

use super::generation::{Generation, Lease, NoInstance};
use super::{Plugin, log_trap};
use crate::limits::CALL_DEPTH;
use crate::mesh::Elsewhere;

/// A node's plugins, by name: the way from one of them to another. Who holds it for a guest
/// holds it weakly, since it is the one that holds the plugins.
pub(super) type Directory = RwLock<BTreeMap<String, Arc<Plugin>>>;

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
    pub(super) fn depth(self) -> u32 {
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

impl Plugin {
    /// Calls the plugin's `on-call`, and waits for its answer. A backend's goes to another node
    /// where the plugin does not run here.
    pub async fn on_call(
        &self,
        caller: Caller<'_>,
        method: &str,
        payload: &[u8],
    ) -> Result<Vec<u8>, CallError> {
        match (self.call_here(caller, method, payload).await, caller) {
            (Err(CallError::Absent | CallError::Draining), Caller::Api(token))
                if self.elsewhere() == Elsewhere::Open =>
            {
                self.call_elsewhere(token, method, payload).await
            }
            (answered, _) => answered,
        }
    }

    /// The same, of the generation that runs here.
    pub(super) async fn call_here(
        &self,
        caller: Caller<'_>,
        method: &str,
        payload: &[u8],
    ) -> Result<Vec<u8>, CallError> {
        let mut lease = self
            .lease_for_call(caller, method.len() + payload.len())
            .await?;
        let counters = self.namespace().registry().counters();
        counters.calls_in.add_one();
        let limit = lease.generation().host.limits.call_bytes;
        match lease.on_call(caller, method, payload).await {
            Ok(Ok(answer)) => check_bytes("answer", answer.len(), limit).map(|()| answer),
            Ok(Err((code, message))) => {
                check_bytes("error's message", message.len(), limit)?;
                Err(CallError::Refused { code, message })
            }
            Err(trapped) => {
                log_trap(&lease, "on-call", None, &trapped);
                Err(CallError::Trapped)
            }
        }
    }

    /// An instance, for a call that the generation takes.
    async fn lease_for_call(&self, caller: Caller<'_>, bytes: usize) -> Result<Lease, CallError> {
        loop {
            let generation = self.slot.load_full().ok_or(CallError::Absent)?;
            // Events under way may need each other to end, and those that call have not ended.
            if matches!(caller, Caller::Api(_)) && self.draining.load(Ordering::Relaxed) {
                return Err(CallError::Draining);
            }
            generation.check_call(caller, bytes)?;
            match generation.lease().await {
                Ok(lease) => return Ok(lease),
                Err(NoInstance::Retired) => tokio::task::yield_now().await,
                Err(NoInstance::Overloaded) => return Err(CallError::Overloaded),
            }
        }
    }
}

impl Generation {
    /// Whether it takes this call.
    fn check_call(&self, caller: Caller<'_>, bytes: usize) -> Result<(), CallError> {
        if !self.optional.call_handler {
            return Err(CallError::NoHandler);
        }
        if let Caller::Plugin { name, .. } = caller
            && !self.callers.iter().any(|allowed| allowed == name)
        {
            let caller = name.to_owned();
            return Err(CallError::Denied { caller });
        }
        if caller.depth() >= CALL_DEPTH {
            return Err(CallError::TooDeep);
        }
        check_bytes("call", bytes, self.host.limits.call_bytes)
    }
}

fn check_bytes(what: &'static str, bytes: usize, limit: usize) -> Result<(), CallError> {
    match bytes {
        _ if bytes > limit => Err(CallError::TooLarge { what, bytes, limit }),
        _ => Ok(()),
    }
}
