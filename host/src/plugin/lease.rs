//! An instance that is checked out, with its generation.

use std::sync::Arc;

use super::answer::Failure;
use super::generation::Generation;
use crate::guest::{GuestFunction, NoInstance, PooledInstance, TrapKind, Trapped};
use crate::id::ClientId;
use crate::tracer::{GENERATION, Span, Tracer};

/// A generation, and one of its instances that is checked out.
pub(super) struct Lease {
    pub(super) generation: Arc<Generation>,
    pub(super) instance: PooledInstance,
}

impl Lease {
    /// Checks an instance of this generation out.
    ///
    /// # Errors
    ///
    /// The generation is retired, or no instance came free in time.
    pub(super) async fn of(generation: Arc<Generation>) -> Result<Lease, NoInstance> {
        let instance = generation.pool.get().await?;
        let lease = Lease {
            generation,
            instance,
        };
        lease.tracer().set_generation(lease.generation.number);
        Ok(lease)
    }

    /// Says in the span of an event which generation has the event.
    pub(super) fn show_in(&self, span: &Span) {
        span.set_number(GENERATION, self.generation.number);
    }

    fn tracer(&self) -> &Tracer {
        self.generation.pool.context().namespace().shared().tracer()
    }

    /// Logs and counts a trap in a client's event. Returns the failure with the plugin's policy for
    /// the client.
    pub(super) fn client_event_trapped(
        &self,
        function: GuestFunction,
        client: ClientId,
        trapped: &Trapped,
    ) -> Failure {
        self.log_trap(function, Some(client), trapped);
        Failure::Trapped(self.generation.policies.on_trap)
    }

    /// Logs a trap and adds it to the counter of its kind.
    pub(super) fn log_trap(
        &self,
        function: GuestFunction,
        client: Option<ClientId>,
        trapped: &Trapped,
    ) {
        let identity = &self.generation.pool.context().identity;
        trapped.kind.counter(&identity.counters).add_one();
        let trace = self.tracer().current_trace();
        self.tracer().fail_current(&trapped.cause);
        // A store that does not answer, or a reload, is not the build's fault.
        if !matches!(trapped.kind, TrapKind::Wait | TrapKind::Retired) {
            self.generation.event_failed();
        }
        if !identity.may_log(trapped.said.len() + trapped.backtrace.len()) {
            return;
        }
        tracing::error!(
            plugin = &*identity.plugin,
            generation = identity.generation,
            function = function.as_str(),
            client = client.map(tracing::field::display),
            kind = trapped.kind.as_str(),
            trace,
            said = %trapped.said,
            backtrace = %trapped.backtrace,
            "an event trapped: {}",
            trapped.cause,
        );
    }
}
