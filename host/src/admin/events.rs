//! Event streams: the events of this node for its watchers, over gRPC and as server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::api::Api;
use super::open_stream::{AnswerStream, OpenStream, StreamSource};
use super::problem::Problem;
use super::tokens::{ApiCaller, TokenScope};
use super::wire::{self, event};
use crate::mesh::Mesh;
use crate::registry::{Event, EventKind, Kind, Watcher};

/// One watcher, with the events that it may see and wants to see.
struct EventWatch {
    watcher: Watcher,
    open: OpenStream,
    /// The plugins whose events the watcher wants. An empty set means all plugins.
    plugins: BTreeSet<String>,
    mesh: Option<Arc<Mesh>>,
}

impl Api {
    /// Opens a stream of all events from now on.
    pub(super) fn watch(
        &self,
        caller: Arc<ApiCaller>,
        request: wire::WatchRequest,
    ) -> Result<AnswerStream<wire::Event>, Problem> {
        caller.check_each(TokenScope::Read, &request.plugins)?;
        let watch = EventWatch {
            open: self.open_stream(caller)?,
            watcher: self.view.registry().events().watch(),
            plugins: request.plugins.into_iter().collect(),
            mesh: self.view.mesh().cloned(),
        };
        Ok(watch.into_stream())
    }
}

impl StreamSource for EventWatch {
    type Item = wire::Event;

    async fn next(&mut self) -> Result<wire::Event, Problem> {
        loop {
            match self.open.next(self.watcher.next()).await? {
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
}

impl EventWatch {
    fn wants(&self, plugin: &str) -> bool {
        let is_wanted = self.plugins.is_empty() || self.plugins.contains(plugin);
        is_wanted && self.open.caller.may_see(plugin)
    }

    fn tell(&self, event: Event) -> wire::Event {
        use event::Event::{
            ClientClosed, ClientConnected, EventLost, GroupOccupied, GroupVacated, PluginCanary,
            PluginLoaded, PluginTakenBack, UidOffline, UidOnline,
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
            EventKind::Canary {
                generation,
                percent,
            } => PluginCanary(wire::PluginCanary {
                generation,
                percent,
            }),
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
