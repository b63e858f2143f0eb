//! A plugin, as its clients' tasks, the folder and the API hold it.
//!
//! An event loads the slot, checks out one of the generation's instances, and runs on the task of
//! the client whose event it is. A reload swaps the slot. Events under way finish on the old
//! generation, every client's next event goes to the new one, and no client ever goes back. While there
//! is a canary, each event has the generation that is for its client.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::answer::Failure;
use super::canary_member::CanaryClients;
use super::drain_reason::DrainReason;
use super::generation::{Digest, Generation};
use super::lease::Lease;
use super::peer_events::PeerEvents;
use super::probation::Probation;
use super::slot::Slot;
use crate::guest::{EventTimes, NoInstance, Usage};
use crate::log_throttle::LogThrottle;
use crate::manifest::{FormerRules, Routes};
use crate::mesh::{Elsewhere, Mesh};
use crate::policy::Policies;
use crate::rate_limiter::{RateLimits, RateQueue};
use crate::registry::{
    EventKind, Namespace, Registry, Serving, ServingBuild, ServingSource, ServingState, now_ms,
};
use crate::router::Router;

/// The pause before `lease_patiently` asks for an instance again.
const LEASE_RETRY: Duration = Duration::from_millis(50);

/// How many generations of a plugin the metrics show, those that were loaded last.
const TIMED_GENERATIONS: usize = 4;

/// The most bytes that are kept of the reason why a load failed. Other nodes leave longer texts out.
const FAILURE_BYTES: usize = 1 << 10;

/// Chooses the generation of an event among those of the slot.
pub(super) type Choose<'a> =
    &'a (dyn Fn(&Slot<Generation>) -> Option<&Arc<Generation>> + Send + Sync);

/// The delay of a message that comes too fast for its plugin.
pub(crate) type Delay = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A plugin: business logic as a component, named by its file.
pub struct Plugin {
    pub(super) router: Router,
    /// What the plugin uses of the processors and the memory.
    pub(super) usage: Arc<Usage>,
    pub(super) mesh: Option<Arc<Mesh>>,
    /// The slot with the plugin's generation. Each event reads the slot, and only `change_slot`
    /// changes it.
    slot: ArcSwap<Slot<Generation>>,
    /// A lock that is held while the slot changes and the change is reported.
    transition: Mutex<()>,
    pub(super) loads: AtomicU64,
    pub(super) sessions: AtomicUsize,
    pub(super) session_ended: Notify,
    /// The clients on this node that the canary is for, wherever it runs.
    pub(super) canary_clients: CanaryClients,
    /// The rules for clients that come in, from the manifest of the plugin's last generation,
    /// running or removed.
    pub(super) former_rules: Mutex<Option<FormerRules>>,
    /// The events of other nodes' clients that are under way here.
    pub(super) peer_events: PeerEvents,
    /// The number of calls that went to other nodes.
    pub(super) calls: AtomicU64,
    pub(super) retiring: TaskTracker,
    /// Why the last load failed, if it did.
    failure: Mutex<Option<String>>,
    /// The build to go back to, if this one fails.
    pub(super) last_good: Mutex<Option<Digest>>,
    /// How long the events of the last generations took, by the generation's number.
    times: Mutex<VecDeque<(u64, Arc<EventTimes>)>>,
    /// The rates of what the plugin's clients on this node send, all together.
    rates: Arc<RateQueue>,
    delayed: LogThrottle,
}

impl Plugin {
    pub(super) fn new(
        name: &str,
        registry: &Arc<Registry>,
        mesh: Option<&Arc<Mesh>>,
        retiring: &TaskTracker,
        rates: RateLimits,
    ) -> Plugin {
        Plugin {
            router: Router::new(registry.open(name), mesh.cloned()),
            usage: Arc::default(),
            mesh: mesh.cloned(),
            former_rules: Mutex::default(),
            peer_events: PeerEvents::default(),
            calls: AtomicU64::new(0),
            slot: ArcSwap::default(),
            transition: Mutex::default(),
            loads: AtomicU64::new(0),
            sessions: AtomicUsize::new(0),
            session_ended: Notify::new(),
            canary_clients: CanaryClients::default(),
            retiring: retiring.clone(),
            failure: Mutex::default(),
            last_good: Mutex::default(),
            times: Mutex::default(),
            rates: Arc::new(RateQueue::new(rates)),
            delayed: LogThrottle::default(),
        }
    }

    /// Returns the plugin's name: the component's file name without `.wasm`.
    pub fn name(&self) -> &str {
        self.namespace().name()
    }

    /// Returns the namespace: the plugin's clients on this node.
    pub fn namespace(&self) -> &Arc<Namespace> {
        self.router.namespace()
    }

    /// Returns the router that reaches the plugin's clients, here and at other nodes.
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// Counts a message of one of the plugin's clients, of so many bytes. Returns false if it comes
    /// too fast for the plugin.
    pub(crate) fn takes_message(&self, bytes: usize) -> bool {
        self.rates.is_off() || self.rates.take(bytes)
    }

    /// Waits until a message that comes too fast for the plugin may come, and counts it. The future
    /// must be polled or dropped, since the messages of other clients wait for it.
    pub(crate) fn delay(&self, bytes: usize) -> Delay {
        self.namespace()
            .shared()
            .counters()
            .messages_delayed
            .add_one();
        if let Some(unsaid) = self.delayed.happened() {
            tracing::warn!(
                plugin = self.name(),
                unsaid,
                "messages wait, and their clients are not read: the plugin's clients send more than \
                 messages_per_second_per_plugin or bytes_per_second_per_plugin"
            );
        }
        Box::pin(self.rates.clone().wait(bytes))
    }

    /// Returns the number of the generation that runs on this node, if one does.
    pub fn generation(&self) -> Option<u64> {
        let slot = self.slot.load();
        slot.generation().map(|generation| generation.number)
    }

    /// Returns the build that runs on this node, if one does.
    pub(crate) fn build(&self) -> Option<ServingBuild> {
        self.running().map(|running| running.build())
    }

    /// Returns how long the events of the last generations took, by the generation's number. A
    /// generation that has been replaced is among them for a while.
    pub(crate) fn event_times(&self) -> Vec<(u64, Arc<EventTimes>)> {
        self.times.lock().iter().cloned().collect()
    }

    /// Returns how many instances of the plugin are in an event, and how many are idle. Those of a
    /// generation that has been replaced are not counted.
    pub(crate) fn instances(&self) -> (usize, usize) {
        let slot = self.slot.load();
        let all = slot.all().map(|generation| generation.pool.instances());
        all.fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1))
    }

    /// Returns the memory that all instances of the plugin have, in bytes.
    pub(crate) fn guest_memory_bytes(&self) -> usize {
        self.usage.memory_bytes()
    }

    /// Returns the plugin's slot as it is now.
    pub(super) fn slot(&self) -> Guard<Arc<Slot<Generation>>> {
        self.slot.load()
    }

    /// Returns the generation that handles events on this node, if there is one.
    pub(super) fn running(&self) -> Option<Arc<Generation>> {
        self.slot.load().generation().cloned()
    }

    /// Changes the slot and then calls `told`, before anybody else can change the slot. Also returns the
    /// generations that have left the slot, which the caller retires.
    pub(super) fn change_slot<T>(
        &self,
        change: impl FnOnce(&mut Slot<Generation>) -> T,
        told: impl FnOnce(&T),
    ) -> (T, Vec<Arc<Generation>>) {
        let _transition = self.transition.lock();
        let former = self.slot.load_full();
        let mut slot = Slot::clone(&former);
        let answer = change(&mut slot);
        let left = former.all().filter(|former| !slot.holds(former));
        let left: Vec<_> = left.cloned().collect();
        self.slot.store(Arc::new(slot));
        // Before anybody hears of it: no turn that goes on takes another message there.
        for superseded in &left {
            superseded.pool.supersede();
        }
        told(&answer);
        (answer, left)
    }

    /// Retires generations that have left the slot: they end when their last events have.
    pub(super) fn retire(&self, left: Vec<Arc<Generation>>) {
        for generation in left {
            self.retiring.spawn(generation.pool.clone().retire());
        }
    }

    /// Returns whether this exact path is one of the plugin's routes.
    pub(super) fn has_route(&self, path: &str) -> bool {
        match self.slot.load().generation() {
            Some(running) => running.routes.has_exact(path),
            None => self.routes_elsewhere().has_exact(path),
        }
    }

    /// Returns how much of the path the plugin's longest matching prefix route covers.
    pub(super) fn longest_prefix(&self, path: &str) -> Option<usize> {
        match self.slot.load().generation() {
            Some(running) => running.routes.longest_prefix(path),
            None => self.routes_elsewhere().longest_prefix(path),
        }
    }

    /// Returns whether clients may come in. The plugin must run on this node without draining, or
    /// run at another node.
    pub fn is_open(&self) -> bool {
        match &**self.slot.load() {
            Slot::Running(_) => true,
            Slot::Draining(_) => false,
            Slot::Empty | Slot::DrainingOrphans => self.elsewhere() == Elsewhere::Open,
        }
    }

    /// Returns the plugin's policies, those of another node if the plugin does not run here.
    pub fn policies(&self) -> Policies {
        if let Some(mesh) = self.mesh.as_ref().filter(|_| !self.runs()) {
            let _transition = self.transition.lock();
            // A generation that has taken over meanwhile has policies of its own.
            if !self.runs() {
                mesh.follow_policies(self.namespace());
            }
        }
        self.namespace().policies()
    }

    /// Returns whether any node has the plugin, even one that can't run it now.
    pub fn is_known(&self) -> bool {
        self.namespace().serving().state != ServingState::None
            || self.elsewhere() != Elsewhere::Nobody
    }

    /// Returns whether nothing is left of a plugin that only other nodes have had: no node has it any
    /// more, and no client of it is here.
    pub(super) fn is_forgotten(&self) -> bool {
        let was_here = self.runs() || self.former_rules.lock().is_some();
        let has_sessions = self.sessions.load(Ordering::Relaxed) > 0;
        !was_here && !has_sessions && !self.is_known()
    }

    /// Returns whether the plugin was taken from all other nodes that had it.
    pub(super) fn is_nowhere(&self) -> bool {
        matches!(self.elsewhere(), Elsewhere::Closing | Elsewhere::Nobody)
    }

    /// Returns whether the plugin has a generation on this node.
    pub(super) fn runs(&self) -> bool {
        self.slot.load().generation().is_some()
    }

    /// Tells other nodes how the plugin runs on this node.
    pub(super) fn serve(&self, state: ServingState) {
        let slot = self.slot.load();
        let mut serving = match slot.generation() {
            Some(running) => running.serving(state),
            None => Serving {
                state,
                ..Serving::default()
            },
        };
        if let Some(canary) = slot.canary() {
            serving.patience = serving.patience.max(canary.patience());
            serving.canary = canary.serving_canary();
        }
        serving.failure.clone_from(&self.failure.lock());
        self.namespace().serve(serving);
    }

    /// Records why the last load of the plugin failed, or that it did not, and tells other nodes.
    pub(super) fn load_ended(&self, failure: Option<&str>) {
        let _transition = self.transition.lock();
        let told = |failure: &str| failure[..failure.floor_char_boundary(FAILURE_BYTES)].to_owned();
        *self.failure.lock() = failure.map(told);
        self.serve(self.namespace().serving().state);
    }

    /// Records that what runs comes from somewhere else now, and tells other nodes.
    pub(super) fn comes_from(&self, running: &Generation, source: ServingSource) {
        let _transition = self.transition.lock();
        *running.source.lock() = source;
        self.serve(self.namespace().serving().state);
    }

    /// Returns why the last load of the plugin failed, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    /// Lets `generation` take over, and retires the former generations. The canary goes on if it is to be
    /// kept.
    pub(super) fn swap(&self, generation: Arc<Generation>, keeps_canary: bool) {
        if let Some(keys) = generation.access.keys_passed_over() {
            tracing::info!(plugin = self.name(), "keys are passed over: {keys}");
        }
        generation.loaded_at_ms.store(now_ms(), Ordering::Relaxed);
        let policies = generation.policies;
        let (limit, fires) = (generation.limits().timers, generation.pool.hears_timers());
        let (number, rates) = (generation.number, generation.limits().rates());
        self.show_times(&generation);
        *self.former_rules.lock() = Some(FormerRules {
            generation: number,
            rules: generation.rules.clone(),
        });
        if let Some(former) = self.running() {
            self.follow(&former, &generation);
        }
        let ((), left) = self.change_slot(
            |slot| {
                self.namespace().set_policies(policies);
                slot.load(generation, keeps_canary);
            },
            |()| {
                self.namespace().emit(|| EventKind::Loaded(number));
                self.serve(ServingState::Open);
            },
        );
        self.namespace().timers().open(limit, fires);
        self.rates.set(rates);
        self.compare_anew();
        self.retire(left);
    }

    /// Shows in the metrics how long the events of a generation take.
    pub(super) fn show_times(&self, generation: &Generation) {
        let number = generation.number;
        let mut times = self.times.lock();
        if times.iter().any(|(shown, _)| *shown == number) {
            return;
        }
        times.push_back((number, generation.pool.context().times.clone()));
        if times.len() > TIMED_GENERATIONS {
            let slot = self.slot.load();
            let is_held = |shown: u64| slot.all().any(|held| held.number == shown);
            let oldest = times.iter().position(|(shown, _)| !is_held(*shown));
            times.remove(oldest.unwrap_or_default());
        }
    }

    /// Decides which build is gone back to if the new generation fails, as it takes over.
    fn follow(&self, former: &Generation, new: &Generation) {
        let events = former.events();
        let limits = former.limits();
        new.probation.follow(&former.probation, limits, events);
        let mut last_good = self.last_good.lock();
        if former.probation.has_failed() {
            // What is put back has none before it.
            last_good.take_if(|digest| *digest == new.digest);
        } else if last_good.is_none() || former.probation.has_passed(limits, events) {
            *last_good = Some(former.digest);
        }
    }

    /// Stops new clients and timers. Returns the generation that `drain` is to close, if there is
    /// one.
    pub(super) fn stop_accepting(&self, reason: DrainReason) -> Option<Arc<Generation>> {
        let (generations, _) = self.change_slot(Slot::stop_accepting, |generations| {
            let Some(generations) = generations else {
                return;
            };
            self.serve(match reason {
                DrainReason::Removed => ServingState::Closing,
                DrainReason::Restart => ServingState::Away,
            });
            self.namespace().timers().end(generations.newest());
        });
        generations.map(|generations| generations.stable)
    }

    /// Empties the slot if it holds this generation. Returns what is to be retired then.
    pub(super) fn take_out(
        &self,
        generation: &Arc<Generation>,
        reason: DrainReason,
    ) -> Vec<Arc<Generation>> {
        let (_, left) = self.change_slot(
            |slot| slot.take_out(generation),
            |taken| {
                if *taken && matches!(reason, DrainReason::Removed) {
                    self.serve(ServingState::None);
                }
            },
        );
        left
    }

    /// Begins to drain the clients here if no generation is here. Returns whether the clients are
    /// to be closed.
    pub(super) fn begin_draining_orphans(&self) -> bool {
        self.change_slot(Slot::begin_draining_orphans, |_| {}).0
    }

    /// Ends the drain of clients for which no node had a generation.
    pub(super) fn end_draining_orphans(&self) {
        self.change_slot(Slot::end_draining_orphans, |()| {});
    }

    pub(super) fn is_current(&self, generation: &Arc<Generation>) -> bool {
        self.slot.load().holds(generation)
    }

    /// Frees the instances that were not needed of late.
    pub(super) async fn trim(&self) {
        let all: Vec<_> = self.slot.load().all().cloned().collect();
        for generation in all {
            generation.pool.trim().await;
        }
    }

    /// Checks out an instance, however long it takes, and also while the plugin is paused. Returns
    /// nothing if there is no generation.
    pub(super) async fn lease_patiently(&self, choose: Choose<'_>) -> Option<Lease> {
        loop {
            match self.lease_unless(choose, |_| None).await {
                Ok(lease) => return Some(lease),
                Err(Failure::Absent) => return None,
                Err(_) => tokio::time::sleep(LEASE_RETRY).await,
            }
        }
    }

    /// Checks out an instance for an event that need not be handled while the plugin is paused.
    pub(super) async fn lease(&self, choose: Choose<'_>) -> Result<Lease, Failure> {
        self.lease_unless(choose, Probation::paused_for).await
    }

    /// Checks out an instance of the generation that is chosen now, unless its probation says for how
    /// long it handles no events.
    async fn lease_unless(
        &self,
        choose: Choose<'_>,
        paused_for: fn(&Probation) -> Option<Duration>,
    ) -> Result<Lease, Failure> {
        loop {
            let generation = choose(&self.slot.load()).cloned();
            let generation = generation.ok_or(Failure::Absent)?;
            if let Some(left) = paused_for(&generation.probation) {
                return Err(Failure::Paused(left));
            }
            match Lease::of(generation).await {
                Ok(lease) => return Ok(lease),
                // Replaced between the look at the slot and now: look again.
                Err(NoInstance::Retired) => tokio::task::yield_now().await,
                Err(NoInstance::Overloaded) => return Err(Failure::Overloaded),
            }
        }
    }

    /// Returns how the plugin stands at other nodes.
    pub(super) fn elsewhere(&self) -> Elsewhere {
        let mesh = self.mesh.as_ref();
        mesh.map_or(Elsewhere::Nobody, |mesh| mesh.elsewhere(self.name()))
    }

    /// Returns the plugin's routes, as other nodes have them.
    pub(super) fn routes_elsewhere(&self) -> Routes {
        let mesh = self.mesh.as_ref();
        let routes = mesh.map(|mesh| mesh.routes_elsewhere(self.name()));
        Routes::parse(&routes.unwrap_or_default()).unwrap_or_default()
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        // The task that fires the timers sees that the plugin is gone.
        self.namespace().timers().look_again();
    }
}
