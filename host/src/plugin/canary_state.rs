//! How a canary does, on this node and on all others.

use std::sync::Arc;

use futures_util::future::join_all;

use super::canary::BuildRecord;
use super::deploy::DeploymentMember;
use super::folder::Plugins;
use super::generation::Generation;
use crate::id::Incarnation;
use crate::mesh::deployment::{BuildState, CanaryState, Step, told_build};
use crate::registry::ServingCanary;

impl Plugins {
    /// Returns the canary of a plugin, here or at another node.
    pub fn canary(&self, plugin: &str) -> Option<ServingCanary> {
        let here = self.get(plugin)?.slot().canary().cloned();
        let here = here.and_then(|canary| canary.serving_canary());
        here.or_else(|| self.mesh.as_ref()?.canary_elsewhere(plugin))
    }

    /// Returns how the canary of a plugin does on each node that has it, or clients of it. A node that
    /// does not answer is left out.
    pub async fn compare_canary(self: &Arc<Self>, plugin: &str) -> Vec<(Incarnation, CanaryState)> {
        let members = self.members();
        let asked = members.iter().map(|member: &DeploymentMember| async move {
            let step = Step::Compare(plugin.to_owned());
            let state = self.ask_step(member, step).await.ok()?;
            Some((member.node, state.canary?))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Returns how many clients of this node the canary of a plugin is for, if there is one.
    pub(crate) fn canary_clients(&self, plugin: &str) -> Option<u64> {
        let id = self.canary(plugin)?.id();
        Some(self.get(plugin)?.canary_clients.of(id) as u64)
    }

    /// Returns how the canary of a plugin does on this node, if the node has it or clients of it.
    pub(super) fn canary_state(&self, plugin: &str) -> Option<CanaryState> {
        let canary_clients = self.canary_clients(plugin)?;
        let plugin = self.get(plugin)?;
        let state = CanaryState {
            clients: plugin.namespace().client_count(),
            canary_clients,
            ..CanaryState::default()
        };
        let Some((generation, canary)) = plugin.canary() else {
            return Some(state);
        };
        let compared = plugin.compare(&generation, &canary);
        let stable = plugin.running();
        Some(CanaryState {
            since_ms: canary.since_ms,
            stable: stable.map(|stable| build_state(&stable, &compared.stable)),
            canary: Some(build_state(&generation, &compared.canary)),
            ..state
        })
    }
}

fn build_state(generation: &Generation, record: &BuildRecord) -> BuildState {
    let p99 = record.p99().0.map(|p99| p99.as_micros());
    BuildState {
        build: Some(told_build(generation.build())),
        events: record.events,
        failures: record.failures,
        // What takes less than a microsecond takes some time, too.
        p99_us: p99.map_or(0, |us| u64::try_from(us).unwrap_or(u64::MAX).max(1)),
    }
}
