//! A plugin: the slot that holds its running generation.
//!
//! An event loads the slot, checks one of the generation's instances out and runs on the task
//! of the client whose event it is. A reload swaps the slot: events under way finish on the old
//! generation, every client's next event goes to the new one, and no client ever goes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::answer::Failure;
use super::drain_reason::DrainReason;
use super::generation::Generation;
use super::lease::Lease;
use super::peer_events::PeerEvents;
use crate::guest::NoInstance;
use crate::manifest::{FormerRules, Routes};
use crate::mesh::{Elsewhere, Mesh};
use crate::policy::RefusePolicy;
use crate::registry::{EventKind, Namespace, Registry, Serving, ServingState};
use crate::router::Router;

/// How often an `on-close` asks again for an instance.
const LEASE_RETRY: Duration = Duration::from_millis(50);

/// Business logic as a component, named by its file.
pub struct Plugin {
    pub(super) router: Router,
    pub(super) mesh: Option<Arc<Mesh>>,
    pub(super) slot: ArcSwapOption<Generation>,
    pub(super) loads: AtomicU64,
    pub(super) draining: AtomicBool,
    pub(super) sessions: AtomicUsize,
    pub(super) session_ended: Notify,
    /// Its clients are being closed, since no node has it any more.
    pub(super) draining_orphans: AtomicBool,
    /// Held while the slot and what is told of it change together.
    pub(super) transition: Mutex<()>,
    /// What the manifest of its last generation, running or removed, demanded of who comes in.
    pub(super) former_rules: Mutex<Option<FormerRules>>,
    /// Of other nodes' clients.
    pub(super) peer_events: PeerEvents,
    /// Calls that went to other nodes.
    pub(super) calls: AtomicU64,
    pub(super) retiring: TaskTracker,
}

impl Plugin {
    pub(super) fn new(
        name: &str,
        registry: &Arc<Registry>,
        mesh: Option<&Arc<Mesh>>,
        retiring: &TaskTracker,
    ) -> Plugin {
        Plugin {
            router: Router::new(registry.open(name), mesh.cloned()),
            mesh: mesh.cloned(),
            draining_orphans: AtomicBool::new(false),
            transition: Mutex::default(),
            former_rules: Mutex::default(),
            peer_events: PeerEvents::default(),
            calls: AtomicU64::new(0),
            slot: ArcSwapOption::empty(),
            loads: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            sessions: AtomicUsize::new(0),
            session_ended: Notify::new(),
            retiring: retiring.clone(),
        }
    }

    /// Its name: the component's file name without `.wasm`.
    pub fn name(&self) -> &str {
        self.namespace().name()
    }

    /// Its clients.
    pub fn namespace(&self) -> &Arc<Namespace> {
        self.router.namespace()
    }

    /// The way to its clients, here and at other nodes.
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// Which generation runs, if one does.
    pub fn generation(&self) -> Option<u64> {
        self.slot
            .load()
            .as_ref()
            .map(|generation| generation.number)
    }

    /// Whether a route of it is this very path.
    pub(super) fn has_route(&self, path: &str) -> bool {
        match &*self.slot.load() {
            Some(running) => running.routes.has_exact(path),
            None => self.routes_elsewhere().has_exact(path),
        }
    }

    /// How much of the path its longest route covers that is a prefix.
    pub(super) fn longest_prefix(&self, path: &str) -> Option<usize> {
        match &*self.slot.load() {
            Some(running) => running.routes.longest_prefix(path),
            None => self.routes_elsewhere().longest_prefix(path),
        }
    }

    /// Whether clients may come in: it runs here, or at another node.
    pub fn is_open(&self) -> bool {
        match self.runs() {
            true => !self.draining.load(Ordering::Relaxed),
            false => self.elsewhere() == Elsewhere::Open,
        }
    }

    /// How its clients are refused.
    pub fn refuse_policy(&self) -> RefusePolicy {
        if let Some(mesh) = self.mesh.as_ref().filter(|_| !self.runs()) {
            mesh.follow_policies(self.namespace());
        }
        self.namespace().policies().refuse
    }

    /// Whether anybody has it, be it that he can't run it now.
    pub fn is_known(&self) -> bool {
        self.namespace().serving().state != ServingState::None
            || self.elsewhere() != Elsewhere::Nobody
    }

    /// Whether it was taken from all nodes that had it.
    pub(super) fn is_nowhere(&self) -> bool {
        matches!(self.elsewhere(), Elsewhere::Closing | Elsewhere::Nobody)
    }

    /// Whether it has a generation here.
    pub(super) fn runs(&self) -> bool {
        self.slot.load().is_some()
    }

    /// It is run like this here, as other nodes are told.
    pub(super) fn serve(&self, state: ServingState) {
        let serving = match &*self.slot.load() {
            Some(running) => running.serving(state),
            None => Serving {
                state,
                ..Serving::default()
            },
        };
        self.namespace().serve(serving);
    }

    /// Lets `generation` take over.
    pub(super) fn swap(&self, generation: Arc<Generation>) {
        if let Some(keys) = generation.access.keys_passed_over() {
            tracing::info!(plugin = self.name(), "keys are passed over: {keys}");
        }
        self.namespace().set_policies(generation.policies);
        let (limit, fires) = (generation.limits().timers, generation.pool.hears_timers());
        let number = generation.number;
        *self.former_rules.lock() = Some(FormerRules {
            generation: number,
            rules: generation.rules.clone(),
        });
        let transition = self.transition.lock();
        let former = self.slot.swap(Some(generation));
        self.namespace().emit(|| EventKind::Loaded(number));
        self.draining.store(false, Ordering::Relaxed);
        self.serve(ServingState::Open);
        drop(transition);
        self.namespace().timers().open(limit, fires);
        if let Some(former) = former {
            self.retiring.spawn(former.pool.clone().retire());
        }
    }

    /// No clients come in and no timer fires from here on; what `drain` needs to go on.
    pub(super) fn stop_accepting(&self, reason: DrainReason) -> Option<Arc<Generation>> {
        self.draining.store(true, Ordering::Relaxed);
        let generation = self.slot.load_full()?;
        self.serve(match reason {
            DrainReason::Removed => ServingState::Closing,
            DrainReason::Restart => ServingState::Away,
        });
        self.namespace().timers().end(generation.number);
        Some(generation)
    }

    /// Empties the slot, if it has this generation.
    pub(super) fn take_out(&self, generation: &Arc<Generation>, reason: DrainReason) -> bool {
        let _turning = self.transition.lock();
        let taken = self.is_current(generation);
        if taken {
            self.slot.store(None);
            self.draining.store(false, Ordering::Relaxed);
            if matches!(reason, DrainReason::Removed) {
                self.serve(ServingState::None);
            }
        }
        taken
    }

    pub(super) fn is_current(&self, generation: &Arc<Generation>) -> bool {
        let now = self.slot.load();
        now.as_ref().is_some_and(|now| Arc::ptr_eq(now, generation))
    }

    /// Frees the instances that were not needed of late.
    pub(super) async fn trim(&self) {
        if let Some(generation) = self.slot.load_full() {
            generation.pool.trim().await;
        }
    }

    /// An instance, however long it takes; none when there is no generation.
    pub(super) async fn lease_patiently(&self) -> Option<Lease> {
        loop {
            match self.lease().await {
                Ok(lease) => return Some(lease),
                Err(Failure::Absent) => return None,
                Err(_) => tokio::time::sleep(LEASE_RETRY).await,
            }
        }
    }

    pub(super) async fn lease(&self) -> Result<Lease, Failure> {
        loop {
            let generation = self.slot.load_full().ok_or(Failure::Absent)?;
            match generation.pool.get().await {
                Ok(instance) => {
                    return Ok(Lease {
                        generation,
                        instance,
                    });
                }
                // Replaced between the look at the slot and now: look again.
                Err(NoInstance::Retired) => tokio::task::yield_now().await,
                Err(NoInstance::Overloaded) => return Err(Failure::Overloaded),
            }
        }
    }

    /// What other nodes have of it.
    pub(super) fn elsewhere(&self) -> Elsewhere {
        let mesh = self.mesh.as_ref();
        mesh.map_or(Elsewhere::Nobody, |mesh| mesh.elsewhere(self.name()))
    }

    /// Its routes, as other nodes have them.
    pub(super) fn routes_elsewhere(&self) -> Routes {
        let mesh = self.mesh.as_ref();
        let routes = mesh.map(|mesh| mesh.routes_elsewhere(self.name()));
        Routes::parse(&routes.unwrap_or_default()).unwrap_or_default()
    }
}
