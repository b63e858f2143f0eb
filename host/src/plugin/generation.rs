//! A generation: one loaded build of a plugin, and its pool of instances.
//!
//! An event checks one instance out, the one used last (it is warm, and the others age out),
//! and gives it back only after an event that ended well. The pool grows with the events
//! under way, up to `instances`; beyond that an event queues for `call_wait`. A retired
//! generation takes no new events; when its last one has ended, or was cut, its `on-stop`
//! runs and it is freed.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Poll;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError};

use super::access::Access;
use super::call::{CallErrorCode, Caller};
use super::contract::{Host, Optional, PluginPre, types};
use super::instance::{Guest, Instance, Whose};
use super::manifest::Manifest;
use super::routes::Routes;
use super::rules::Rules;
use super::trap::{Cut, Kind, Trapped};
use crate::policy::Policies;
use crate::registry::{Client, Serving, ServingState};

/// How often an event asks again for an instance while the engine has no room for one.
const FULL_RETRY: Duration = Duration::from_millis(10);

/// What makes a generation new: the digest of its component and its manifest.
pub(super) type Digest = [u8; 32];

/// One loaded build of a plugin.
pub(super) struct Generation {
    pub(super) host: Arc<Host>,
    pub(super) policies: Policies,
    pub(super) routes: Routes,
    pub(super) access: Access,
    /// What its manifest demands of who comes in; none: it has no manifest.
    pub(super) rules: Option<Rules>,
    pub(super) digest: Digest,
    /// The plugins that may call it.
    pub(super) callers: Vec<String>,
    pub(super) optional: Optional,
    /// A timer that nobody handles has been logged.
    pub(super) has_told_of_timers: AtomicBool,
    pre: PluginPre<Guest>,
    idle: Mutex<Idle>,
    permits: Arc<Semaphore>,
    returned: Notify,
    cut: Arc<Cut>,
}

/// The instances that wait for an event, the one used last on top.
#[derive(Default)]
struct Idle {
    instances: Vec<Instance>,
    /// The fewest there were since the last look: so many were not needed.
    least: usize,
}

impl Idle {
    fn pop(&mut self) -> Option<Instance> {
        let popped = self.instances.pop();
        self.least = self.least.min(self.instances.len());
        popped
    }

    /// Takes out those that were not needed since the last call, but one.
    fn take_unneeded(&mut self) -> Vec<Instance> {
        let unneeded = self.least.saturating_sub(1);
        let taken = self.instances.drain(..unneeded).collect();
        self.least = self.instances.len();
        taken
    }
}

/// An instance, checked out: dropped, it goes back to the pool, unless it is in the middle of
/// an event or worn.
pub(super) struct Lease {
    generation: Arc<Generation>,
    instance: Option<Instance>,
    permit: Option<OwnedSemaphorePermit>,
    in_event: bool,
}

/// Why there is no instance to be had.
#[derive(Debug)]
pub(super) enum NoInstance {
    /// The generation is retired: look at the slot again.
    Retired,
    /// None was free for `call_wait`, or none could be made.
    Overloaded,
}

impl Generation {
    pub(super) fn new(
        host: Host,
        manifest: Manifest,
        digest: Digest,
        pre: PluginPre<Guest>,
        optional: Optional,
    ) -> Arc<Generation> {
        let permits = Arc::new(Semaphore::new(host.limits.instances));
        Arc::new(Generation {
            host: Arc::new(host),
            policies: manifest.policies,
            routes: manifest.routes,
            access: manifest.access,
            rules: manifest.rules,
            digest,
            callers: manifest.callers,
            optional,
            has_told_of_timers: AtomicBool::new(false),
            pre,
            idle: Mutex::default(),
            permits,
            returned: Notify::new(),
            cut: Arc::default(),
        })
    }

    /// How the plugin is run with it, as other nodes are told.
    pub(super) fn serving(&self, state: ServingState) -> Serving {
        let limits = &self.host.limits;
        Serving {
            state,
            routes: self.routes.written(),
            uid: self.policies.uid,
            overflow: self.policies.overflow,
            refuse: self.policies.refuse,
            patience: limits.call_wait + limits.wait_timeout,
        }
    }

    /// Makes a first instance and runs `on-start` in it; answers how much memory it began with.
    pub(super) async fn start(self: &Arc<Self>) -> wasmtime::Result<Result<usize, Refusal>> {
        let instance = self.make().await?;
        let initial_bytes = instance.initial_bytes();
        let permit = self.permits.clone().try_acquire_owned().ok();
        let mut lease = self.lease_of(instance, permit);
        Ok(match lease.on_start().await {
            Ok(Ok(())) => Ok(initial_bytes),
            Ok(Err(reason)) => Err(Refusal::Refused(reason)),
            Err(trapped) => Err(Refusal::Trapped(trapped)),
        })
    }

    /// Checks an instance out.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease, NoInstance> {
        let permit = match self.permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(TryAcquireError::Closed) => return Err(NoInstance::Retired),
            Err(TryAcquireError::NoPermits) => self.queue_for_permit().await?,
        };
        Ok(self.lease_of(self.instance().await?, Some(permit)))
    }

    /// An idle instance, or a new one. When the engine has no room for another, one may come
    /// back within `call_wait`.
    async fn instance(&self) -> Result<Instance, NoInstance> {
        if let Some(instance) = self.pop_idle() {
            return Ok(instance);
        }
        let deadline = Instant::now() + self.host.limits.call_wait;
        loop {
            let error = match self.make().await {
                Ok(instance) => return Ok(instance),
                Err(error) => error,
            };
            let is_full = error.is::<wasmtime::PoolConcurrencyLimitError>();
            if !is_full || Instant::now() > deadline {
                let (plugin, generation) = (self.host.plugin(), self.host.generation);
                tracing::warn!(plugin, generation, %error, "no instance could be made");
                let counters = self.host.namespace().registry().counters();
                counters.events_overloaded.add_one();
                return Err(NoInstance::Overloaded);
            }
            tokio::time::sleep(FULL_RETRY).await;
            if let Some(instance) = self.pop_idle() {
                return Ok(instance);
            }
        }
    }

    /// Frees the instances that were not needed since the last call.
    pub(super) async fn trim(&self) {
        let unneeded = self.idle.lock().take_unneeded();
        for instance in unneeded {
            drop(instance);
            tokio::task::yield_now().await;
        }
    }

    /// Takes no more events; waits for those under way, cuts them after `retire_timeout`, and
    /// runs `on-stop`.
    pub(super) async fn retire(self: Arc<Self>) {
        self.permits.close();
        let timeout = self.host.limits.retire_timeout;
        if tokio::time::timeout(timeout, self.all_returned())
            .await
            .is_err()
        {
            self.cut.cut();
            self.all_returned().await;
            self.cut.end();
        }
        if self.optional.lifecycle {
            self.stop().await;
        }
        // Each takes up to milliseconds to free: not all of them in one go.
        while let Some(instance) = self.pop_idle() {
            drop(instance);
            tokio::task::yield_now().await;
        }
        let (plugin, generation) = (self.host.plugin(), self.host.generation);
        tracing::debug!(plugin, generation, "generation freed");
    }

    fn pop_idle(&self) -> Option<Instance> {
        self.idle.lock().pop()
    }

    async fn stop(self: &Arc<Self>) {
        let instance = match self.pop_idle() {
            Some(instance) => Ok(instance),
            None => self.make().await,
        };
        let stopped = match instance {
            Ok(instance) => self
                .lease_of(instance, None)
                .on_stop()
                .await
                .map_err(|t| t.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = stopped {
            let (plugin, generation) = (self.host.plugin(), self.host.generation);
            tracing::error!(plugin, generation, error, "on-stop failed");
        }
    }

    async fn all_returned(&self) {
        while self.permits.available_permits() < self.host.limits.instances {
            self.returned.notified().await;
        }
    }

    async fn queue_for_permit(&self) -> Result<OwnedSemaphorePermit, NoInstance> {
        let acquire = self.permits.clone().acquire_owned();
        match tokio::time::timeout(self.host.limits.call_wait, acquire).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(NoInstance::Retired),
            Err(_) => {
                self.host
                    .namespace()
                    .registry()
                    .counters()
                    .events_overloaded
                    .add_one();
                Err(NoInstance::Overloaded)
            }
        }
    }

    async fn make(&self) -> wasmtime::Result<Instance> {
        self.host
            .namespace()
            .registry()
            .counters()
            .instances_made
            .add_one();
        let made = Instance::new(&self.pre, self.optional, &self.host, &self.cut);
        // A component's start functions are the guest's code too, and may wait.
        let limit = self.host.limits.wait_timeout;
        let too_slow = || {
            Err(wasmtime::Error::msg(
                "instantiating it took longer than wait_timeout",
            ))
        };
        bounded(made, limit, self)
            .await
            .unwrap_or_else(|_| too_slow())
    }

    fn lease_of(
        self: &Arc<Self>,
        instance: Instance,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Lease {
        Lease {
            generation: self.clone(),
            instance: Some(instance),
            permit,
            in_event: false,
        }
    }
}

/// Why a generation did not start.
pub(super) enum Refusal {
    /// `on-start` answered this error.
    Refused(String),
    /// `on-start` trapped.
    Trapped(Trapped),
}

/// Runs one call of the instance to its end, with its limits. A macro, since each call is
/// another future that borrows the instance.
macro_rules! event {
    ($lease:ident, $client:expr, $is_last:literal, |$instance:ident| $call:expr) => {{
        $lease.in_event = true;
        let limits = &$lease.generation.host.limits;
        let Some($instance) = $lease.instance.as_mut() else {
            return Err(Lease::spent());
        };
        $instance.begin($client, $is_last);
        let generation = &$lease.generation;
        let ended = bounded($call, limits.wait_timeout, generation).await;
        $lease.ended(ended)
    }};
}

impl Lease {
    pub(super) fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    pub(super) async fn on_connect(
        &mut self,
        client: Whose<&Arc<Client>>,
        handshake: types::Handshake<'_>,
    ) -> Result<Result<types::Acceptance, types::Refusal>, Trapped> {
        event!(self, Some(client), false, |instance| {
            let handler = instance.plugin.jackfield_plugin_handler();
            handler.call_on_connect(&mut instance.store, client.id_text(), handshake)
        })
    }

    pub(super) async fn on_message(
        &mut self,
        client: Whose<&Arc<Client>>,
        message: types::MessageParam<'_>,
    ) -> Result<(), Trapped> {
        event!(self, Some(client), false, |instance| {
            let handler = instance.plugin.jackfield_plugin_handler();
            handler.call_on_message(&mut instance.store, client.id_text(), message)
        })
    }

    pub(super) async fn on_close(
        &mut self,
        client: Whose<&Arc<Client>>,
        departure: types::Departure<'_>,
    ) -> Result<(), Trapped> {
        event!(self, Some(client), true, |instance| {
            let handler = instance.plugin.jackfield_plugin_handler();
            handler.call_on_close(&mut instance.store, client.id_text(), departure)
        })
    }

    async fn on_start(&mut self) -> Result<Result<(), String>, Trapped> {
        event!(self, None, false, |instance| {
            let Some(lifecycle) = &instance.lifecycle else {
                self.in_event = false;
                return Ok(Ok(()));
            };
            lifecycle
                .jackfield_plugin_lifecycle()
                .call_on_start(&mut instance.store)
        })
    }

    async fn on_stop(&mut self) -> Result<(), Trapped> {
        event!(self, None, false, |instance| {
            let Some(lifecycle) = &instance.lifecycle else {
                return Ok(());
            };
            lifecycle
                .jackfield_plugin_lifecycle()
                .call_on_stop(&mut instance.store)
        })
    }

    /// The generation must export it: `check_call` says whether it does.
    pub(super) async fn on_call(
        &mut self,
        caller: Caller<'_>,
        method: &str,
        payload: &[u8],
    ) -> Result<Result<Vec<u8>, (CallErrorCode, String)>, Trapped> {
        let (depth, caller) = (caller.depth() + 1, caller.into());
        let answered = event!(self, None, false, |instance| {
            let Some(handler) = &instance.call_handler else {
                return Err(Lease::spent());
            };
            instance.store.data_mut().event_mut().depth = depth;
            handler.jackfield_plugin_call_handler().call_on_call(
                &mut instance.store,
                &caller,
                method,
                payload,
            )
        })?;
        // Here and not where each event begins: all the others are no calls.
        if let Some(instance) = &mut self.instance {
            instance.store.data_mut().event_mut().depth = 0;
        }
        Ok(answered.map_err(|error| (error.code.into(), error.message)))
    }

    /// The generation must export it.
    pub(super) async fn on_timer(&mut self, name: &str) -> Result<(), Trapped> {
        event!(self, None, false, |instance| {
            let Some(handler) = &instance.timer_handler else {
                return Err(Lease::spent());
            };
            handler
                .jackfield_plugin_timer_handler()
                .call_on_timer(&mut instance.store, name)
        })
    }

    /// An event that ended badly takes its instance with it: it cannot be entered again.
    fn ended<T>(&mut self, ended: Result<wasmtime::Result<T>, GivenUp>) -> Result<T, Trapped> {
        if let Ok(Ok(value)) = ended {
            self.in_event = false;
            return Ok(value);
        }
        let Some(instance) = self.instance.take() else {
            return Err(Lease::spent());
        };
        let guest = instance.store.data();
        let limits = &self.generation.host.limits;
        Err(match ended {
            Ok(Ok(_)) => Lease::spent(),
            Ok(Err(error)) => Trapped::new(&error, guest),
            Err(GivenUp::Waited) => {
                let cause = format!(
                    "it took longer than {:?} (wait_timeout)",
                    limits.wait_timeout
                );
                Trapped::given_up(Kind::Wait, cause, guest)
            }
            Err(GivenUp::Cut) => {
                let cause = "its generation was replaced and it did not end in time".to_owned();
                Trapped::given_up(Kind::Retired, cause, guest)
            }
        })
    }

    /// A lease whose instance trapped is not used again; saying so beats a panic.
    fn spent() -> Trapped {
        Trapped {
            kind: Kind::Other,
            cause: "its instance has trapped already".to_owned(),
            said: String::new(),
            backtrace: String::new(),
        }
    }

    /// Whether it can take another event.
    pub(super) fn is_usable(&self) -> bool {
        self.instance.is_some() && !self.in_event
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(mut instance) = self.instance.take() {
            instance.rest();
            if self.in_event {
                // Its call was given up in the middle: it cannot be entered again.
                drop(instance);
            } else if instance.is_worn() {
                self.generation
                    .host
                    .namespace()
                    .registry()
                    .counters()
                    .instances_recycled
                    .add_one();
            } else {
                self.generation.idle.lock().instances.push(instance);
            }
        }
        drop(self.permit.take());
        if self.generation.permits.is_closed() {
            self.generation.returned.notify_one();
        }
    }
}

enum GivenUp {
    Waited,
    Cut,
}

/// Waits for a call, but not beyond `wait` and not once its generation is cut. Most calls end
/// at the first poll; only the others get a timer.
async fn bounded<T>(
    call: impl Future<Output = T>,
    wait: Duration,
    generation: &Generation,
) -> Result<T, GivenUp> {
    let mut call = pin!(call);
    let mut bound = None;
    poll_fn(|context| {
        let _running = generation.host.ticker.run();
        if let Poll::Ready(value) = call.as_mut().poll(context) {
            return Poll::Ready(Ok(value));
        }
        let bound = bound.get_or_insert_with(|| {
            Box::pin(async move {
                tokio::select! {
                    () = tokio::time::sleep(wait) => GivenUp::Waited,
                    () = generation.cut.told() => GivenUp::Cut,
                }
            })
        });
        bound.as_mut().poll(context).map(Err)
    })
    .await
}
