//! A plugin, as its clients' tasks, the folder and the API hold it.
//!
//! An event loads the slot, checks one of the generation's instances out and runs on the task
//! of the client whose event it is. A reload swaps the slot: events under way finish on the old
//! generation, every client's next event goes to the new one, and no client ever goes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::answer::Failure;
use super::drain_reason::DrainReason;
use super::generation::Generation;
use super::lease::Lease;
use super::peer_events::PeerEvents;
use super::slot::Slot;
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
    /// Read by each event. Changed with `change_slot` only.
    slot: ArcSwap<Slot<Generation>>,
    /// Held while the slot and what is told of it change together.
    transition: Mutex<()>,
    pub(super) loads: AtomicU64,
    pub(super) sessions: AtomicUsize,
    pub(super) session_ended: Notify,
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
            former_rules: Mutex::default(),
            peer_events: PeerEvents::default(),
            calls: AtomicU64::new(0),
            slot: ArcSwap::default(),
            transition: Mutex::default(),
            loads: AtomicU64::new(0),
            sessions: AtomicUsize::new(0),
            session_ended: Notify::new(),
            retiring: retiring.clone(),
        }
    }

    /// Its name: the component's file name without `.wasm`.
    pub fn name(&self) -> &str {
        self.namespace().name()
    }

    /// The plugin's clients on this node.
    pub fn namespace(&self) -> &Arc<Namespace> {
        self.router.namespace()
    }

    /// The way to its clients, here and at other nodes.
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// Which generation runs, if one does.
    pub fn generation(&self) -> Option<u64> {
        let slot = self.slot.load();
        slot.generation().map(|generation| generation.number)
    }

    /// The slot as it is now.
    pub(super) fn slot(&self) -> Guard<Arc<Slot<Generation>>> {
        self.slot.load()
    }

    /// The generation that handles events, if there is one.
    pub(super) fn running(&self) -> Option<Arc<Generation>> {
        self.slot.load().generation().cloned()
    }

    /// Changes the slot, and tells of it what `told` says, before anybody else changes it.
    fn change_slot<T>(
        &self,
        change: impl FnOnce(&mut Slot<Generation>) -> T,
        told: impl FnOnce(&T),
    ) -> T {
        let _transition = self.transition.lock();
        let mut slot = Slot::clone(&self.slot.load());
        let answer = change(&mut slot);
        self.slot.store(Arc::new(slot));
        told(&answer);
        answer
    }

    /// Whether a route of it is this very path.
    pub(super) fn has_route(&self, path: &str) -> bool {
        match self.slot.load().generation() {
            Some(running) => running.routes.has_exact(path),
            None => self.routes_elsewhere().has_exact(path),
        }
    }

    /// How much of the path its longest route covers that is a prefix.
    pub(super) fn longest_prefix(&self, path: &str) -> Option<usize> {
        match self.slot.load().generation() {
            Some(running) => running.routes.longest_prefix(path),
            None => self.routes_elsewhere().longest_prefix(path),
        }
    }

    /// Whether clients may come in: it runs here, or at another node.
    pub fn is_open(&self) -> bool {
        match &**self.slot.load() {
            Slot::Running(_) => true,
            Slot::Draining(_) => false,
            Slot::Empty | Slot::DrainingOrphans => self.elsewhere() == Elsewhere::Open,
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
        self.slot.load().generation().is_some()
    }

    /// It is run like this here, as other nodes are told.
    pub(super) fn serve(&self, state: ServingState) {
        let serving = match self.slot.load().generation() {
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
        let former = self.change_slot(
            |slot| slot.load(generation),
            |_| {
                self.namespace().emit(|| EventKind::Loaded(number));
                self.serve(ServingState::Open);
            },
        );
        self.namespace().timers().open(limit, fires);
        if let Some(former) = former {
            self.retiring.spawn(former.pool.clone().retire());
        }
    }

    /// No clients come in and no timer fires from here on; what `drain` needs to go on.
    pub(super) fn stop_accepting(&self, reason: DrainReason) -> Option<Arc<Generation>> {
        self.change_slot(Slot::stop_accepting, |generation| {
            let Some(generation) = generation else { return };
            self.serve(match reason {
                DrainReason::Removed => ServingState::Closing,
                DrainReason::Restart => ServingState::Away,
            });
            self.namespace().timers().end(generation.number);
        })
    }

    /// Empties the slot, if it has this generation.
    pub(super) fn take_out(&self, generation: &Arc<Generation>, reason: DrainReason) -> bool {
        self.change_slot(
            |slot| slot.take_out(generation),
            |taken| {
                if *taken && matches!(reason, DrainReason::Removed) {
                    self.serve(ServingState::None);
                }
            },
        )
    }

    /// Whether the clients here are to be closed, since no node has the plugin any more.
    pub(super) fn begin_draining_orphans(&self) -> bool {
        self.change_slot(Slot::begin_draining_orphans, |_| {})
    }

    /// The clients that were to be closed have gone.
    pub(super) fn end_draining_orphans(&self) {
        self.change_slot(Slot::end_draining_orphans, |()| {});
    }

    pub(super) fn is_current(&self, generation: &Arc<Generation>) -> bool {
        self.slot.load().holds(generation)
    }

    /// Frees the instances that were not needed of late.
    pub(super) async fn trim(&self) {
        if let Some(generation) = self.running() {
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
            let generation = self.running().ok_or(Failure::Absent)?;
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
