//! Event streams: the events of this node for its watchers, over gRPC and as server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::api::{Api, WATCHERS};
use super::problem::{Problem, Reason};
use super::tokens::{ApiCaller, ApiTokens, TokenScope};
use super::wire::{self, event};
use crate::mesh::Mesh;
use crate::registry::{Event, EventKind, Kind, Watcher};

/// A stream of events for one watcher.
pub(super) type EventStream =
    Pin<Box<dyn futures_util::Stream<Item = Result<wire::Event, Status>> + Send>>;

/// The interval at which a watcher's token is checked again.
const LOOK: Duration = Duration::from_secs(1);

/// One watcher, with the events that it may see and wants to see.
struct EventWatch {
    watcher: Watcher,
    tokens: Arc<ApiTokens>,
    caller: Arc<ApiCaller>,
    /// The plugins whose events the watcher wants. An empty set means all plugins.
    plugins: BTreeSet<String>,
    mesh: Option<Arc<Mesh>>,
    looks: Interval,
    ended: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Api {
    /// Opens a stream of all events from now on.
    pub(super) fn watch(
        &self,
        caller: Arc<ApiCaller>,
        request: wire::WatchRequest,
    ) -> Result<EventStream, Problem> {
        caller.check_scope(TokenScope::Read)?;
        for plugin in &request.plugins {
            caller.check(TokenScope::Read, plugin)?;
        }
        let permit = self.watchers.clone().try_acquire_owned();
        let permit = permit.map_err(|_| {
            let message = format!("{WATCHERS} streams of events are open already");
            Problem::new(Reason::Overloaded, message)
        })?;
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watch = EventWatch {
            watcher: self.view.registry().events().watch(),
            tokens: self.tokens.clone(),
            caller,
            plugins: request.plugins.into_iter().collect(),
            mesh: self.view.mesh().cloned(),
            looks,
            ended: self.view.ended(),
            _permit: permit,
        };
        let next = |watch: Option<EventWatch>| async {
            let mut watch = watch?;
            match watch.next().await {
                Ok(event) => Some((Ok(event), Some(watch))),
                Err(problem) => Some((Err(problem.into()), None)),
            }
        };
        Ok(Box::pin(futures_util::stream::unfold(Some(watch), next)))
    }
}

impl EventWatch {
    /// Waits for the next event. An error ends the stream.
    async fn next(&mut self) -> Result<wire::Event, Problem> {
        loop {
            let event = tokio::select! {
                // A watcher that is behind always has an event: its token is looked at all the
                // same. And the end comes after what happened before it.
                biased;
                _ = self.looks.tick() => {
                    self.tokens.check_still(&self.caller)?;
                    continue;
                }
                event = self.watcher.next() => event,
                () = self.ended.cancelled() => {
                    return Err(Problem::new(Reason::Unreachable, "the node has ended"));
                }
            };
            match event {
                Ok(event) if self.wants(&event.plugin) => return Ok(self.tell(event)),
                Ok(_) => {}
                Err(events) => {
                    return Ok(wire::Event {
                        plugin: String::new(),
                        event: Some(event::Event::Missed(wire::Missed { events })),
                    });
                }
            }
        }
    }

    fn wants(&self, plugin: &str) -> bool {
        let is_wanted = self.plugins.is_empty() || self.plugins.contains(plugin);
        is_wanted && self.caller.may_see(plugin)
    }

    fn tell(&self, event: Event) -> wire::Event {
        use event::Event::{
            ClientClosed, ClientConnected, EventLost, GroupOccupied, GroupVacated, PluginLoaded,
            PluginTakenBack, UidOffline, UidOnline,
        };
        let Event { plugin, what } = event;
        let uid = |uid: Arc<str>| wire::UidChange {
            elsewhere: self.elsewhere(&plugin, Kind::Uid, &uid),
            uid: uid.to_string(),
        };
        let group = |group: Arc<str>| wire::GroupChange {
            elsewhere: self.elsewhere(&plugin, Kind::Group, &group),
            group: group.to_string(),
        };
        let event = match what {
            EventKind::Connected(client) => {
                let client = client.to_string();
                ClientConnected(wire::ClientConnected { client })
            }
            EventKind::Closed { client, close, uid } => ClientClosed(wire::ClientClosed {
                client: client.to_string(),
                code: close.code.into(),
                reason: close.reason,
                uid: uid.map(|uid| uid.to_string()),
            }),
            EventKind::Occupied(Kind::Uid, name) => UidOnline(uid(name)),
            EventKind::Vacated(Kind::Uid, name) => UidOffline(uid(name)),
            EventKind::Occupied(Kind::Group, name) => GroupOccupied(group(name)),
            EventKind::Vacated(Kind::Group, name) => GroupVacated(group(name)),
            EventKind::Loaded(generation) => PluginLoaded(wire::PluginLoaded { generation }),
            EventKind::TakenBack(generation) => {
                PluginTakenBack(wire::PluginTakenBack { generation })
            }
            EventKind::Lost { client, function } => EventLost(wire::EventLost {
                client: client.to_string(),
                function: function.to_owned(),
            }),
        };
        wire::Event {
            plugin: plugin.to_string(),
            event: Some(event),
        }
    }

    /// The number of clients on other nodes that have the uid or group `name`.
    fn elsewhere(&self, plugin: &str, kind: Kind, name: &str) -> u64 {
        let space = self
            .mesh
            .as_ref()
            .and_then(|mesh| mesh.interest().space(plugin));
        let holders = space.map(|space| space.holders(kind, name));
        let clients = holders
            .iter()
            .flatten()
            .map(|holder| u64::from(holder.clients));
        clients.sum()
    }
}
