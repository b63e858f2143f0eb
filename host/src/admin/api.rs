//! The API, whichever way it is called: what it is made of, and whom a call is about.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::problem::{Problem, Reason};
use super::replay::Replay;
use super::tokens::{Caller, Scope, Tokens};
use super::view::View;
use super::wire;
use crate::plugin::Plugin;
use crate::router::Router;

/// Streams of events that may be open. Beyond: OVERLOADED.
pub(super) const WATCHERS: usize = 256;

/// The API, whichever way it is called.
pub(super) struct Api {
    pub(super) view: Arc<View>,
    pub(super) tokens: Arc<Tokens>,
    /// For streams of events.
    pub(super) watchers: Arc<Semaphore>,
    /// What was sent under idempotency keys.
    pub(super) reaches: Replay<wire::Reach>,
    pub(super) dones: Replay<wire::Done>,
}

/// Who asks, and whose clients it is about.
#[derive(Clone, Copy)]
pub(super) struct Of<'a> {
    pub(super) caller: &'a Caller,
    pub(super) plugin: &'a Plugin,
}

impl<'a> Of<'a> {
    pub(super) fn router(&self) -> &'a Router {
        self.plugin.router()
    }
}

impl Api {
    pub(super) fn new(view: Arc<View>, tokens: Arc<Tokens>) -> Arc<Api> {
        Arc::new(Api {
            view,
            tokens,
            watchers: Arc::new(Semaphore::new(WATCHERS)),
            reaches: Replay::default(),
            dones: Replay::default(),
        })
    }

    /// The plugin that a caller may do this with.
    pub(super) fn plugin(
        &self,
        caller: &Caller,
        scope: Scope,
        name: &str,
    ) -> Result<Arc<Plugin>, Problem> {
        caller.check(scope, name)?;
        let plugins = self.view.plugins().ok_or_else(|| {
            let message = "the node starts: its plugins are not loaded yet";
            Problem::new(Reason::Unreachable, message)
        })?;
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
