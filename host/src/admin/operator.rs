//! The operations for operators: what a node knows of its clients, and which builds of a plugin run.

use std::net::IpAddr;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use ipnet::IpNet;

use super::api::{Api, Of};
use super::operations::PAGE;
use super::problem::{Problem, Reason};
use super::wire;
use crate::registry::{Scope, in_ms, now_ms};
use crate::router;

impl Api {
    pub(super) async fn get_all_client_ids(
        &self,
        of: Of<'_>,
        request: wire::ClientsRequest,
    ) -> Result<wire::Page, Problem> {
        let limit = router::page_limit(request.limit.unwrap_or(PAGE))?;
        let from = request.address.as_deref().map(network).transpose()?;
        let cursor = request.cursor.as_deref();
        Ok(of.router().all_clients(from, cursor, limit).await?.into())
    }

    pub(super) async fn get_client(
        &self,
        of: Of<'_>,
        request: wire::ClientRequest,
    ) -> Result<wire::Client, Problem> {
        let id = router::client_id(&request.client)?;
        let status = of.router().client_status(id).await?;
        Ok(wire::Client {
            client: request.client,
            node: of.router().node_of(id).to_string(),
            uid: status.uid.map(|uid| uid.to_string()),
            groups: status.groups.iter().map(ToString::to_string).collect(),
            info: status.info.into_iter().collect(),
            address: status.address,
            connected_at_ms: status.connected_at_ms,
            heard_at_ms: status.heard_at_ms,
            received_messages: status.received_messages,
            received_bytes: status.received_bytes,
            sent_frames: status.sent_frames,
            sent_bytes: status.sent_bytes,
            queued_frames: status.queued_frames,
            queued_bytes: status.queued_bytes,
        })
    }

    pub(super) async fn get_timers(
        &self,
        of: Of<'_>,
        request: wire::PageRequest,
    ) -> Result<wire::Timers, Problem> {
        let limit = router::page_limit(request.limit.unwrap_or(PAGE))?;
        let after = request.cursor.as_deref().map(timer_after).transpose()?;
        let timers = of.plugin.namespace().timers();
        let (timers, is_more) = timers.all_after(after.as_ref(), limit);
        let last = timers.last().filter(|_| is_more);
        let next = last.map(|(scope, name, _)| match scope {
            Scope::Node => format!("{OF_NODE}{name}"),
            Scope::Cluster => format!("{OF_CLUSTER}{name}"),
        });
        let (now, now_ms) = (of.plugin.namespace().timers().clock().now(), now_ms());
        let timers = timers.into_iter().map(|(scope, name, schedule)| {
            let left = schedule.at.saturating_duration_since(now);
            wire::Timer {
                name: name.to_string(),
                of_cluster: scope == Scope::Cluster,
                due_at_ms: now_ms.saturating_add(in_ms(left)),
                every_ms: schedule.every.map(in_ms),
            }
        });
        Ok(wire::Timers {
            timers: timers.collect(),
            next,
        })
    }

    pub(super) async fn get_builds(
        &self,
        of: Of<'_>,
        _: wire::PluginRequest,
    ) -> Result<wire::Builds, Problem> {
        let kept = match self.view.plugins() {
            Some(plugins) => plugins.kept_builds(of.plugin.name()).await,
            None => Ok(Vec::new()),
        };
        let kept = kept.map_err(|error| {
            tracing::error!(%error, "the builds cannot be listed");
            Problem::new(
                Reason::Failed,
                format!("the builds cannot be listed: {error}"),
            )
        })?;
        let running = of.plugin.build();
        let builds = kept.into_iter().map(|build| {
            let runs = running.filter(|running| running.digest == build.digest);
            wire::Build {
                digest: HEXLOWER.encode(&build.digest),
                bytes: build.bytes,
                loaded_at_ms: build.loaded_at_ms,
                generation: runs.map(|running| running.generation),
                taken_back: build.taken_back,
            }
        });
        Ok(wire::Builds {
            builds: builds.collect(),
        })
    }

    pub(super) async fn rollback(
        &self,
        of: Of<'_>,
        request: wire::RollbackRequest,
    ) -> Result<wire::RolledBack, Problem> {
        let plugins = self.plugins()?;
        let (name, digest) = (of.plugin.name(), request.digest.as_deref());
        let rolled_back = plugins.roll_back(name, digest, &of.caller.name).await?;
        Ok(wire::RolledBack {
            generation: rolled_back.generation,
            digest: HEXLOWER.encode(&rolled_back.digest),
        })
    }
}

/// The beginnings of the cursors of timers, which have names of any form.
const OF_NODE: &str = "node:";
const OF_CLUSTER: &str = "cluster:";

/// The timer after which a page begins, from its cursor.
fn timer_after(cursor: &str) -> Result<(Scope, Arc<str>), Problem> {
    let of = |start, scope| Some((scope, cursor.strip_prefix(start)?.into()));
    let after = of(OF_NODE, Scope::Node).or_else(|| of(OF_CLUSTER, Scope::Cluster));
    after.ok_or_else(|| Problem::invalid("the cursor is none that this function has given"))
}

/// The network of a request for clients, which may be one address.
fn network(text: &str) -> Result<IpNet, Problem> {
    let address = || text.parse().map(|address: IpAddr| IpNet::from(address));
    let network = text.parse::<IpNet>().or_else(|_| address());
    network.map_err(|_| {
        let text: String = text.chars().take(64).collect();
        Problem::invalid(format!(
            "{text:?} is no address and no network: 192.0.2.7 or 192.0.2.0/24 is"
        ))
    })
}
