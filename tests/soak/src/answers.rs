//! Answers, and epochs: what the load learns from its clients.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::load::{Request, State, Weather};
use crate::model::{MessageId, Name, SessionId};
use crate::operations::{group_name, uid_name};

/// Errors that a fault explains: a client is at a node that is away, or is not known to be.
const EXPLAINED: [&str; 4] = ["not-found", "unreachable", "timed-out", "closed"];

/// A message from each node to each other one, which is under way.
#[derive(Debug)]
pub(crate) struct Epoch {
    number: u64,
    begun: u64,
    awaited: usize,
}

impl State {
    /// A client's answer, to the request that has waited longest.
    pub(crate) fn answered(&mut self, session: SessionId, answer: &Value) -> Result<()> {
        let client = self.clients.get_mut(&session).context("a client")?;
        let waiting = client.requests.pop_front();
        let (id, weather, request) = waiting.context("nothing was asked")?;
        ensure!(answer["id"] == id, "request {id} is to be answered first");
        // Either way the fault may have had to do with it.
        let is_faulty = [weather, self.weather].contains(&Weather::Faulty);
        let is_calm = [weather, self.weather] == [Weather::Calm; 2];
        let error = answer["error"]["code"].as_str();
        match request {
            Request::Send(id) => {
                ensure!(error.is_none(), "a send has failed");
                check_reach(&answer["ok"], !is_calm)?;
                self.model.answered(id);
            }
            Request::SendToClient(id, to) => {
                self.answered_for_client(id, to, error, is_faulty)?;
            }
            Request::Join(group) => {
                ensure!(error.is_none(), "a join has failed");
                client.is_changing = false;
                client.groups.insert(group);
                self.model.joined(session, Name::Group(group));
            }
            Request::Leave(group) => {
                ensure!(error.is_none(), "a leave has failed");
                client.is_changing = false;
                client.groups.remove(&group);
                self.model.left(session, Name::Group(group));
            }
            Request::Bind(before, now) => {
                ensure!(error.is_none(), "a uid was not bound or unbound");
                client.is_changing = false;
                client.uid = now;
                if let Some(before) = before.filter(|before| Some(*before) != now) {
                    self.model.left(session, Name::Uid(before));
                }
                if let Some(now) = now {
                    self.model.joined(session, Name::Uid(now));
                }
            }
            Request::Kick(whom) => {
                ensure!(error.is_none() || !is_calm, "a client was not closed");
                if error.is_some() {
                    self.refusals += 1;
                    self.leave_if_kicked(whom)?;
                }
            }
            Request::Epoch => ensure!(
                error.is_none() || is_faulty,
                "a message between two nodes was not taken"
            ),
            Request::Ping => {
                ensure!(answer["ok"] == true, "a client is not online");
                self.pings -= 1;
            }
            Request::Query(expected) => {
                let mut found = answer["ok"].clone();
                if let Some(items) = found.get_mut("items").and_then(Value::as_array_mut) {
                    items.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
                }
                ensure!(
                    found == expected,
                    "after a barrier, node {} knows something else than {expected}",
                    client.node
                );
            }
        }
        Ok(())
    }

    pub(crate) fn answered_for_client(
        &mut self,
        id: MessageId,
        to: SessionId,
        error: Option<&str>,
        is_faulty: bool,
    ) -> Result<()> {
        let Some(error) = error else {
            self.model.answered(id);
            return Ok(());
        };
        let is_open = self.open.contains(&to);
        ensure!(
            EXPLAINED.contains(&error) && (is_faulty || !is_open),
            "a message for client {to} was refused ({error}), and nothing explains it"
        );
        self.refusals += 1;
        self.model.refused(id);
        Ok(())
    }

    /// Asks everybody something: after the answer, all that was for them has come.
    pub(crate) fn ping_all(&mut self) -> Result<()> {
        for client in self.clients.keys().copied().collect::<Vec<_>>() {
            self.pings += 1;
            self.ask(client, Request::Ping, json!({ "do": "is-online" }))?;
        }
        Ok(())
    }

    /// Asks a node who is in a group or has a uid. It has to know what the model knows.
    pub(crate) fn ask_who(&mut self, anchor: SessionId, name: Name) -> Result<()> {
        let members = self.model.members(name);
        let mut ids: Vec<_> = members
            .map(|member| self.clients[&member].id.clone())
            .collect();
        ids.sort_unstable();
        let mut body = match name {
            Name::Group(group) => {
                json!({ "do": "get-client-ids-by-group", "group": group_name(group) })
            }
            Name::Uid(uid) => json!({ "do": "get-client-ids-by-uid", "uid": uid_name(uid) }),
            _ => bail!("{name:?} cannot be asked for"),
        };
        body["limit"] = json!(1000);
        let expected = json!({ "items": ids, "next": null, "missing": [] });
        self.ask(anchor, Request::Query(expected), body)
    }

    /// Asks a node how many clients there are.
    pub(crate) fn ask_how_many(&mut self, anchor: SessionId) -> Result<()> {
        let expected = json!({ "value": self.clients.len(), "missing": [] });
        let body = json!({ "do": "get-all-client-count" });
        self.ask(anchor, Request::Query(expected), body)
    }

    /// Lets each node tell each other one, if no epoch is under way.
    pub(crate) fn begin_epoch(&mut self) -> Result<()> {
        let up = self.nodes.iter().filter(|node| node.is_up);
        let anchors: Vec<_> = up.map(|node| node.anchor).collect();
        let Some(anchors) = anchors.into_iter().collect::<Option<Vec<SessionId>>>() else {
            return Ok(());
        };
        if self.epoch.is_some() {
            return Ok(());
        }
        self.epochs += 1;
        let (number, begun) = (self.epochs, self.model.begin_epoch());
        if anchors.len() == 1 {
            self.model.end_epoch(begun);
            return Ok(());
        }
        let awaited = anchors.len() * (anchors.len() - 1);
        self.epoch = Some(Epoch {
            number,
            begun,
            awaited,
        });
        for from in &anchors {
            for to in anchors.iter().filter(|to| *to != from) {
                let to = &self.clients[to].id;
                let body = json!({
                    "do": "send-to-client", "client": to, "text": format!("e{number}")
                });
                self.ask(*from, Request::Epoch, body)?;
            }
        }
        Ok(())
    }

    /// One of its messages has come.
    pub(crate) fn epoch_came(&mut self, text: &str) -> Result<()> {
        let number: u64 = text[1..].parse().with_context(|| text.to_owned())?;
        let Some(epoch) = self.epoch.as_mut().filter(|epoch| epoch.number == number) else {
            // It was given up, since a node has ended or a link was cut.
            ensure!(number <= self.epochs, "epoch {number} was never begun");
            return Ok(());
        };
        epoch.awaited -= 1;
        if epoch.awaited > 0 {
            return Ok(());
        }
        let begun = epoch.begun;
        self.epoch = None;
        self.model.end_epoch(begun);
        Ok(())
    }
}

/// Whom a send has reached, as its answer says. No outbox is ever full here.
/// A peer that is slow may count as silent for a moment, and nothing is lost then.
pub(crate) fn check_reach(reach: &Value, may_miss: bool) -> Result<()> {
    ensure!(reach["dropped"] == 0, "an outbox was full: {reach}");
    if !may_miss && reach["missing"] != json!([]) {
        bail!("nodes are missing, and no fault explains it: {reach}");
    }
    Ok(())
}
