//! The API behind both protocols: its shared state, and the plugin that a call is about.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::audit::AuditRecord;
use super::problem::{Problem, Reason};
use super::replay::Replay;
use super::tokens::{ApiCaller, ApiTokens, TokenScope};
use super::view::View;
use super::wire;
use crate::live_trace::SenderGuard;
use crate::plugin::{Plugin, Plugins};
use crate::router::Router;

/// The most event streams that may be open at once. Opening another one fails with OVERLOADED.
pub(super) const WATCHERS: usize = 256;

/// The most deployments that a node is asked for at once. Another one fails with OVERLOADED.
const DEPLOYS: usize = 4;

/// The API, independent of the protocol of a call.
pub(super) struct Api {
    pub(super) view: Arc<View>,
    pub(super) tokens: Arc<ApiTokens>,
    /// The permits for event streams, one for each open stream.
    pub(super) watchers: Arc<Semaphore>,
    /// The permit for the one copy of the plugins' state that may be under way.
    pub(super) copies: Arc<Semaphore>,
    /// The permits for deployments, one for each that is under way.
    pub(super) deploys: Arc<Semaphore>,
    /// The answers to earlier sends, stored under their idempotency keys.
    pub(super) reaches: Replay<wire::Reach>,
    pub(super) dones: Replay<wire::Done>,
}

/// The caller of a function, and the plugin that the call is about.
#[derive(Clone, Copy)]
pub(super) struct Of<'a> {
    pub(super) caller: &'a ApiCaller,
    pub(super) plugin: &'a Plugin,
}

impl<'a> Of<'a> {
    pub(super) fn router(&self) -> &'a Router {
        self.plugin.router()
    }

    /// Says that the caller sends, to whoever watches those that get it.
    pub(super) fn sender(&self) -> Option<SenderGuard> {
        let traces = self.plugin.namespace().shared().live_traces();
        traces.sends_as(|| format!("api {}", self.caller.name))
    }
}

impl Api {
    pub(super) fn new(view: Arc<View>, tokens: Arc<ApiTokens>) -> Arc<Api> {
        Arc::new(Api {
            view,
            tokens,
            watchers: Arc::new(Semaphore::new(WATCHERS)),
            copies: Arc::new(Semaphore::new(1)),
            deploys: Arc::new(Semaphore::new(DEPLOYS)),
            reaches: Replay::default(),
            dones: Replay::default(),
        })
    }

    /// Ends the node, as SIGTERM does. The answer comes before that.
    pub(super) fn drain(
        &self,
        caller: &ApiCaller,
        request: &wire::DrainRequest,
    ) -> Result<wire::Done, Problem> {
        let record = AuditRecord::new(caller, "drain", "", request);
        let outcome = caller.check_node().map(|()| {
            self.view.ask_for_drain();
            wire::Done {}
        });
        record.end(&outcome);
        outcome
    }

    /// The plugins of the node, once they are loaded.
    pub(super) fn plugins(&self) -> Result<Arc<Plugins>, Problem> {
        self.view.plugins().ok_or_else(|| {
            let message = "the node starts: its plugins are not loaded yet";
            Problem::new(Reason::Unreachable, message)
        })
    }

    /// The plugin `name`, if the caller has this scope for it.
    pub(super) fn plugin(
        &self,
        caller: &ApiCaller,
        scope: TokenScope,
        name: &str,
    ) -> Result<Arc<Plugin>, Problem> {
        caller.check(scope, name)?;
        let plugins = self.plugins()?;
        plugins.get(name).ok_or_else(|| {
            if name.is_empty() {
                return Problem::invalid("the request names no plugin");
            }
            if plugins.may_be_unknown() {
                let message = "the node has just started and does not know yet who has the plugin";
                return Problem::new(Reason::Unreachable, message);
            }
            let shown: String = name.chars().take(64).collect();
            Problem::new(
                Reason::NotFound,
                format!("no plugin {shown:?} on this node"),
            )
        })
    }
}
