//! A pool of instances: those of one generation.
//!
//! An event checks out the instance that was used last: it is warm, and the others become old
//! enough to be freed. An instance goes back to the pool only if its event ended well. The pool
//! grows with the events under way, up to `instances`; beyond that, an event queues for
//! `call_wait`. A closed pool takes no new events. When its last event has ended or was cancelled,
//! its `on-stop` runs and its instances are freed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant as Time};

use parking_lot::Mutex;
use scopeguard::ScopeGuard;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio_util::sync::CancellationToken;

use super::bounded::bounded;
use super::component::{ComponentError, Linked};
use super::context::Context;
use super::event_times::EventProgress;
use super::exports::Exports;
use super::instance::{Guest, Instance};
use super::memory::MemoryUsedUp;

/// How often an event asks again for an instance while there is no room or no memory for one.
const FULL_RETRY: Duration = Duration::from_millis(10);

/// The pool of instances of one generation.
pub(crate) struct Pool {
    pub(super) context: Arc<Context>,
    exports: Exports<Guest>,
    has_driver: bool,
    idle: Mutex<Idle>,
    permits: Arc<Semaphore>,
    returned: Notify,
    /// The token that ends the events of a closed pool.
    pub(super) retired: CancellationToken,
}

/// The idle instances of a pool; the one used last is the last of the vector.
#[derive(Default)]
struct Idle {
    instances: Vec<Instance>,
    /// The lowest number of idle instances since the last trim: so many instances were not needed.
    least: usize,
}

impl Idle {
    fn pop(&mut self) -> Option<Instance> {
        let popped = self.instances.pop();
        self.least = self.least.min(self.instances.len());
        popped
    }

    /// Takes out the instances that were not needed since the last call, except one.
    fn take_unneeded(&mut self) -> Vec<Instance> {
        let unneeded = self.least.saturating_sub(1);
        let taken = self.instances.drain(..unneeded).collect();
        self.least = self.instances.len();
        taken
    }
}

/// An instance that is checked out. When it is dropped, the instance goes back to the pool, unless
/// it is in the middle of an event or worn.
pub(crate) struct PooledInstance(ScopeGuard<CheckedOut, fn(CheckedOut)>);

/// An instance with the pool that it belongs to, and its permit.
pub(super) struct CheckedOut {
    pub(super) pool: Arc<Pool>,
    pub(super) instance: Instance,
    permit: Option<OwnedSemaphorePermit>,
    /// Whether an event is under way or ended badly, so that the instance cannot be entered again.
    pub(super) in_event: bool,
}

/// The reason why a pool gives out no instance.
#[derive(Debug)]
pub(crate) enum NoInstance {
    /// The pool is closed: its generation is retired.
    Retired,
    /// No instance became free within `call_wait`, or no instance could be made.
    Overloaded,
}

impl Pool {
    /// An empty pool for the instances of a component.
    pub(crate) fn new(linked: Linked, context: Context) -> Arc<Pool> {
        context.processors.know(&context.usage.processor);
        Arc::new(Pool {
            permits: Arc::new(Semaphore::new(context.limits.instances)),
            context: Arc::new(context),
            exports: linked.exports,
            has_driver: linked.has_driver,
            idle: Mutex::default(),
            returned: Notify::new(),
            retired: CancellationToken::new(),
        })
    }

    /// The context that all instances of the pool share.
    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// Whether the component exports `call-handler`.
    pub(crate) fn takes_calls(&self) -> bool {
        self.exports.call_handler.is_some()
    }

    /// Whether the component exports `timer-handler`.
    pub(crate) fn hears_timers(&self) -> bool {
        self.exports.timer_handler.is_some()
    }

    /// Whether the component takes several messages at once.
    pub(crate) fn takes_turns(&self) -> bool {
        self.exports.turn_handler.is_some()
    }

    /// Ends the turns under way before their next message, which is for another generation.
    pub(crate) fn supersede(&self) {
        self.context.is_superseded.store(true, Ordering::Release);
    }

    /// Whether the component imports `set-timer`.
    pub(crate) fn sets_timers(&self) -> bool {
        self.exports.sets_timers
    }

    /// Returns how many instances are in an event, and how many are idle.
    pub(crate) fn instances(&self) -> (usize, usize) {
        let free = self.permits.available_permits();
        let busy = self.context.limits.instances.saturating_sub(free);
        (busy, self.idle.lock().instances.len())
    }

    /// Makes an instance, for `on-start`, and checks it out.
    ///
    /// # Errors
    ///
    /// The component cannot be instantiated.
    pub(crate) async fn first(self: &Arc<Self>) -> Result<PooledInstance, ComponentError> {
        let instance = self
            .make(&self.retired)
            .await
            .map_err(ComponentError::Instantiate)?;
        let permit = self.permits.clone().try_acquire_owned().ok();
        Ok(self.check_out(instance, permit))
    }

    /// Checks an instance out of the pool.
    ///
    /// # Errors
    ///
    /// The pool is closed, or no instance became free in time.
    pub(crate) async fn get(self: &Arc<Self>) -> Result<PooledInstance, NoInstance> {
        let permit = match self.permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(TryAcquireError::Closed) => return Err(NoInstance::Retired),
            Err(TryAcquireError::NoPermits) => self.queue_for_permit().await?,
        };
        Ok(self.check_out(self.instance().await?, Some(permit)))
    }

    /// Takes an idle instance, or makes a new one. While there is no room or no memory for a new one,
    /// this tries again, for `call_wait` at most.
    async fn instance(&self) -> Result<Instance, NoInstance> {
        if let Some(instance) = self.pop_idle() {
            return Ok(instance);
        }
        let deadline = Time::now() + self.context.limits.call_wait;
        loop {
            let error = match self.make(&self.retired).await {
                Ok(instance) => return Ok(instance),
                Err(error) => error,
            };
            let is_full =
                error.is::<wasmtime::PoolConcurrencyLimitError>() || error.is::<MemoryUsedUp>();
            if !is_full || Time::now() > deadline {
                let identity = &self.context.identity;
                let (plugin, generation) = (&*identity.plugin, identity.generation);
                tracing::warn!(plugin, generation, %error, "no instance could be made");
                identity.counters.events_overloaded.add_one();
                return Err(NoInstance::Overloaded);
            }
            tokio::time::sleep(FULL_RETRY).await;
            if let Some(instance) = self.pop_idle() {
                return Ok(instance);
            }
        }
    }

    /// Frees the idle instances that were not needed since the last call, except one.
    pub(crate) async fn trim(&self) {
        let unneeded = self.idle.lock().take_unneeded();
        for instance in unneeded {
            drop(instance);
            tokio::task::yield_now().await;
        }
    }

    /// Closes the pool: it takes no more events, waits for those under way, cancels them after
    /// `retire_timeout`, and runs `on-stop`.
    pub(crate) async fn retire(self: Arc<Self>) {
        self.permits.close();
        let timeout = self.context.limits.retire_timeout;
        if tokio::time::timeout(timeout, self.all_returned())
            .await
            .is_err()
        {
            self.retired.cancel();
            self.all_returned().await;
        }
        if self.exports.lifecycle.is_some() {
            self.stop().await;
        }
        // Each takes up to milliseconds to free: not all of them in one go.
        while let Some(instance) = self.pop_idle() {
            drop(instance);
            tokio::task::yield_now().await;
        }
        let identity = &self.context.identity;
        let (plugin, generation) = (&*identity.plugin, identity.generation);
        tracing::debug!(plugin, generation, "generation freed");
    }

    fn pop_idle(&self) -> Option<Instance> {
        self.idle.lock().pop()
    }

    async fn stop(self: &Arc<Self>) {
        let instance = match self.pop_idle() {
            Some(mut instance) => {
                instance.outlive_generation();
                Ok(instance)
            }
            None => self.make(&CancellationToken::new()).await,
        };
        let stopped = match instance {
            Ok(instance) => {
                let mut instance = self.check_out(instance, None);
                instance.on_stop().await.map_err(|t| t.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = stopped {
            let identity = &self.context.identity;
            let (plugin, generation) = (&*identity.plugin, identity.generation);
            tracing::error!(plugin, generation, error, "on-stop failed");
        }
    }

    async fn all_returned(&self) {
        while self.permits.available_permits() < self.context.limits.instances {
            self.returned.notified().await;
        }
    }

    async fn queue_for_permit(&self) -> Result<OwnedSemaphorePermit, NoInstance> {
        let acquire = self.permits.clone().acquire_owned();
        match tokio::time::timeout(self.context.limits.call_wait, acquire).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(NoInstance::Retired),
            Err(_) => {
                self.context.identity.counters.events_overloaded.add_one();
                Err(NoInstance::Overloaded)
            }
        }
    }

    async fn make(&self, retired: &CancellationToken) -> wasmtime::Result<Instance> {
        self.context.identity.counters.instances_made.add_one();
        let made = Instance::new(&self.exports, self.has_driver, &self.context, retired);
        // A component's start functions are the guest's code too, and may wait.
        let made = bounded(made, &self.context, None, &EventProgress::default()).await;
        made.unwrap_or_else(|_| {
            Err(wasmtime::Error::msg(
                "instantiating it took longer than wait_timeout",
            ))
        })
    }

    fn check_out(
        self: &Arc<Self>,
        instance: Instance,
        permit: Option<OwnedSemaphorePermit>,
    ) -> PooledInstance {
        let checked_out = CheckedOut {
            pool: self.clone(),
            instance,
            permit,
            in_event: false,
        };
        PooledInstance(scopeguard::guard(checked_out, CheckedOut::give_back))
    }
}

impl PooledInstance {
    pub(super) fn checked_out(&mut self) -> &mut CheckedOut {
        &mut self.0
    }

    pub(super) fn instance(&self) -> &Instance {
        &self.0.instance
    }

    /// Whether the instance can take another event.
    pub(crate) fn is_usable(&self) -> bool {
        !self.0.in_event
    }

    /// The memory of the instance after it was made, in bytes.
    pub(crate) fn initial_bytes(&self) -> usize {
        self.0.instance.initial_bytes()
    }
}

impl CheckedOut {
    fn give_back(mut self) {
        self.instance.rest();
        let pool = &self.pool;
        if self.in_event {
            // Its call was given up in the middle, or trapped: it cannot be entered again.
            drop(self.instance);
        } else if self.instance.is_worn() {
            pool.context.identity.counters.instances_recycled.add_one();
            drop(self.instance);
        } else {
            pool.idle.lock().instances.push(self.instance);
        }
        drop(self.permit);
        if pool.permits.is_closed() {
            pool.returned.notify_one();
        }
    }
}
