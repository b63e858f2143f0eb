//! Calls: a backend, or another plugin of the node, asks a plugin and waits for the answer.
//!
//! A call is handled like any other event of the called plugin, but on the caller's own task. If
//! that task is dropped, the call and its instance are dropped too. The `call_bytes` of the called
//! plugin limits the size of a call. `CALL_DEPTH` limits how deep calls may go within calls, since
//! each call keeps an instance.

use super::generation::Generation;
use super::handle::Plugin;
use super::lease::Lease;
use super::slot::Slot;
use crate::guest::{CallError, Caller, GuestFunction, NoInstance};
use crate::limits::CALL_DEPTH;
use crate::mesh::Elsewhere;
use crate::tracer::{SpanKind, within};

impl Plugin {
    /// Calls the plugin's `on-call`, and waits for the answer. A backend's call goes to another
    /// node if the plugin does not run on this one.
    ///
    /// # Errors
    ///
    /// The plugin runs nowhere or drains, does not take the call, has no free instance, traps, or
    /// answers with an error. The node that got the call may also go away, or not answer in time.
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

    /// Calls `on-call` of the generation that runs on this node.
    pub(super) async fn call_here(
        &self,
        caller: Caller<'_>,
        method: &str,
        payload: &[u8],
    ) -> Result<Vec<u8>, CallError> {
        let lease = self
            .lease_for_call(caller, method.len() + payload.len())
            .await?;
        let tracer = self.namespace().shared().tracer();
        let span = tracer.child("on-call", SpanKind::Internal);
        if let Some(span) = &span {
            span.set("jackfield.plugin", self.name().to_owned());
            span.set("jackfield.method", method.to_owned());
            lease.show_in(span);
        }
        within(span.as_ref(), self.run_call(lease, caller, method, payload)).await
    }

    async fn run_call(
        &self,
        mut lease: Lease,
        caller: Caller<'_>,
        method: &str,
        payload: &[u8],
    ) -> Result<Vec<u8>, CallError> {
        let counters = self.namespace().shared().counters();
        counters.calls_in.add_one();
        let limit = lease.generation.limits().call_bytes;
        let answered = lease.instance.on_call(caller, method, payload).await;
        match answered.ok_or(CallError::NoHandler)? {
            Ok(Ok(answer)) => check_bytes("answer", answer.len(), limit).map(|()| answer),
            Ok(Err((code, message))) => {
                check_bytes("error's message", message.len(), limit)?;
                Err(CallError::Refused { code, message })
            }
            Err(trapped) => {
                lease.log_trap(GuestFunction::Call, None, &trapped);
                Err(CallError::Trapped)
            }
        }
    }

    /// Checks out an instance for a call, if the generation takes the call.
    async fn lease_for_call(&self, caller: Caller<'_>, bytes: usize) -> Result<Lease, CallError> {
        loop {
            let generation = self.running().ok_or(CallError::Absent)?;
            // Events under way may need each other to end, and those that call have not ended.
            if matches!(caller, Caller::Api(_)) && matches!(**self.slot(), Slot::Draining(_)) {
                return Err(CallError::Draining);
            }
            generation.check_call(caller, bytes)?;
            match Lease::of(generation).await {
                Ok(lease) => return Ok(lease),
                Err(NoInstance::Retired) => tokio::task::yield_now().await,
                Err(NoInstance::Overloaded) => return Err(CallError::Overloaded),
            }
        }
    }
}

impl Generation {
    /// Checks whether the generation takes this call.
    fn check_call(&self, caller: Caller<'_>, bytes: usize) -> Result<(), CallError> {
        if !self.pool.takes_calls() {
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
        check_bytes("call", bytes, self.limits().call_bytes)
    }
}

fn check_bytes(what: &'static str, bytes: usize, limit: usize) -> Result<(), CallError> {
    match bytes {
        _ if bytes > limit => Err(CallError::TooLarge { what, bytes, limit }),
        _ => Ok(()),
    }
}
