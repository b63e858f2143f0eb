//! The operations for canaries: builds that run beside others, for a part of the clients.

use data_encoding::HEXLOWER;

use super::api::{Api, Of};
use super::problem::{Problem, Reason};
use super::wire;
use crate::id::Incarnation;
use crate::mesh::deployment::{BuildState, CanaryState};
use crate::plugin::{CanaryChange, CanaryError, RolloutChange};
use crate::registry::in_ms;

impl Api {
    pub(super) async fn get_canary(
        &self,
        of: Of<'_>,
        _: wire::PluginRequest,
    ) -> Result<wire::Canary, Problem> {
        let (plugins, name) = (self.plugins()?, of.plugin.name());
        let canary = plugins.canary(name);
        let canary = canary.ok_or_else(|| CanaryError::None(name.to_owned()))?;
        let nodes = plugins.compare_canary(name).await.into_iter();
        let rollout = &canary.rollout;
        Ok(wire::Canary {
            digest: HEXLOWER.encode(&canary.build.digest),
            percent: rollout.percent(),
            uids: rollout.uids().iter().cloned().collect(),
            promote_after_ms: rollout.promote_after().map(in_ms),
            max_p99_ratio: rollout.max_p99_ratio(),
            nodes: nodes.map(|(node, state)| described(node, state)).collect(),
        })
    }

    pub(super) async fn set_canary(
        &self,
        of: Of<'_>,
        request: wire::SetCanaryRequest,
    ) -> Result<wire::Done, Problem> {
        let change = RolloutChange {
            percent: request.percent,
            uids: request.uids,
            promote_after_ms: request.promote_after_ms,
            max_p99_ratio: request.max_p99_ratio,
        };
        self.change_canary(of, CanaryChange::Rollout(change)).await
    }

    pub(super) async fn promote_canary(
        &self,
        of: Of<'_>,
        _: wire::CanaryRequest,
    ) -> Result<wire::Done, Problem> {
        self.change_canary(of, CanaryChange::Promote).await
    }

    pub(super) async fn withdraw_canary(
        &self,
        of: Of<'_>,
        _: wire::CanaryRequest,
    ) -> Result<wire::Done, Problem> {
        self.change_canary(of, CanaryChange::Withdraw).await
    }

    async fn change_canary(&self, of: Of<'_>, change: CanaryChange) -> Result<wire::Done, Problem> {
        let (name, by) = (of.plugin.name(), &of.caller.name);
        self.plugins()?.ask_for_canary(name, change, by).await?;
        Ok(wire::Done {})
    }
}

fn described(node: Incarnation, state: CanaryState) -> wire::CanaryNode {
    wire::CanaryNode {
        node: node.to_string(),
        clients: state.clients,
        canary_clients: state.canary_clients,
        since_ms: Some(state.since_ms).filter(|since| *since > 0),
        stable: state.stable.map(record),
        canary: state.canary.map(record),
    }
}

fn record(state: BuildState) -> wire::BuildRecord {
    let build = state.build.unwrap_or_default();
    wire::BuildRecord {
        generation: build.generation,
        digest: HEXLOWER.encode(&build.digest),
        events: state.events,
        failures: state.failures,
        p99_us: Some(state.p99_us).filter(|p99| *p99 > 0),
    }
}

impl From<CanaryError> for Problem {
    fn from(error: CanaryError) -> Problem {
        let reason = match error {
            CanaryError::None(_) => Reason::NotFound,
            CanaryError::OfFolder | CanaryError::Invalid(_) => Reason::InvalidArgument,
            CanaryError::Deploy(error) => return error.into(),
            CanaryError::Write(_) => Reason::Failed,
            CanaryError::Overloaded | CanaryError::Deploying => Reason::Overloaded,
        };
        Problem::new(reason, error.to_string())
    }
}
