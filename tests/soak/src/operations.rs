//! Operations at random: all choices come from one seeded generator. (What the answers and the
//! faults coincide with is a matter of time, which no seed repeats.)

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::task::spawn_local;

use crate::answers::check_reach;
use crate::load::{ClientPhase, KICKED, Load, REQUESTS, Request, State, Weather, text};
use crate::model::{Ending, Name, SessionId};

/// How often the load looks whether something is due.
const TICK: Duration = Duration::from_millis(5);

/// Clients that may be connecting at the same time: a handshake takes an instance of the plugin.
const CONNECTING: usize = 64;

/// Clients that may come in one tick.
const AT_ONCE: usize = 4;

/// Groups that a client may be in.
const GROUPS: usize = 4;

/// Clients of which one in so many groups.
const CLIENTS_PER_GROUP: usize = 25;

/// The share of the clients by which two nodes may differ before clients move.
const IMBALANCE: usize = 8;

/// Time between two messages to everybody, on average.
const BROADCAST_EVERY: Duration = Duration::from_secs(2);

/// How much of it there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    pub(crate) clients: usize,
    /// Operations per second.
    pub(crate) rate: u32,
}

impl Amount {
    pub(crate) fn groups(self) -> usize {
        (self.clients / CLIENTS_PER_GROUP).max(2)
    }

    pub(crate) fn uids(self) -> usize {
        (self.clients / 2).max(2)
    }
}

/// An operation, and how often it is chosen, beside the others.
type Choice = (
    u32,
    fn(&mut Operations, &mut State, SessionId) -> Result<()>,
);

const CHOICES: [Choice; 11] = [
    (370, Operations::send_to_group),
    (40, Operations::send_to_two_groups),
    (150, Operations::send_to_uid),
    (200, Operations::send_to_client),
    (90, Operations::join),
    (60, Operations::leave_group),
    (40, Operations::bind),
    (10, Operations::unbind),
    (12, Operations::leave),
    (8, Operations::cut),
    (5, Operations::kick),
];

/// Of a thousand operations, those of a backend that calls the API.
const CALLS: u32 = 15;

#[derive(Debug)]
pub(crate) struct Operations {
    random: fastrand::Rng,
    amount: Amount,
    /// Clients that are to be cut off, which needs more than the state.
    to_cut: Vec<SessionId>,
}

impl Operations {
    pub(crate) fn new(seed: u64, amount: Amount) -> Operations {
        Operations {
            random: fastrand::Rng::with_seed(seed),
            amount,
            to_cut: Vec::new(),
        }
    }

    /// Operates until something has failed, or until it is dropped.
    pub(crate) async fn run(mut self, load: Rc<Load>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let (mut last, mut due) = (Instant::now(), 0.0);
        loop {
            ticks.tick().await;
            let elapsed = last.elapsed().as_secs_f64();
            last = Instant::now();
            // After a pause, or when this process was held up, nothing is made up for.
            due = (due + elapsed * f64::from(self.amount.rate)).min(50.0);
            if let Err(error) = self.tick(&load, &mut due, elapsed) {
                load.fail(error);
                return;
            }
        }
    }

    fn tick(&mut self, load: &Rc<Load>, due: &mut f64, elapsed: f64) -> Result<()> {
        if !load.state().has_no_epochs {
            load.state().begin_epoch()?;
        }
        if load.state().is_paused {
            *due = 0.0;
            return Ok(());
        }
        self.fill(load)?;
        while *due >= 1.0 {
            *due -= 1.0;
            self.operate(load)?;
        }
        if self.random.f64() < elapsed / BROADCAST_EVERY.as_secs_f64() {
            let mut state = load.state();
            if let Some(sender) = self.sender(&state) {
                self.send_to_all(&mut state, sender)?;
            }
        }
        Ok(())
    }

    /// Lets clients come, to the nodes with the fewest; and go where there are too many.
    fn fill(&mut self, load: &Rc<Load>) -> Result<()> {
        let (missing, fewest) = {
            let mut state = load.state();
            let up = state.nodes.iter().filter(|node| node.is_up);
            let up: Vec<_> = up.map(|node| node.clients).collect();
            let wanted = self.amount.clients + up.len();
            let (least, most) = (up.iter().min().copied(), up.iter().max().copied());
            let (least, most) = (least.context("no node is up")?, most.unwrap_or_default());
            if most - least > self.amount.clients / IMBALANCE + 2
                && let Some(client) = self.client(&state)
                && state.nodes[state.clients[&client].node].clients == most
            {
                state.leave(client)?;
                state.count("move");
            }
            let present: usize = up.iter().sum();
            let missing = match wanted.saturating_sub(present) {
                0 => 0,
                missing => {
                    let clients = state.clients.values();
                    let connecting = clients.filter(|c| c.phase == ClientPhase::Connecting);
                    missing
                        .min(CONNECTING.saturating_sub(connecting.count()))
                        .min(AT_ONCE)
                }
            };
            let mut nodes = state.nodes.iter().enumerate();
            let fewest = nodes.position(|(_, node)| node.is_up && node.clients == least);
            (missing, fewest.context("no node is up")?)
        };
        for _ in 0..missing {
            load.connect(fewest, false);
        }
        Ok(())
    }

    fn operate(&mut self, load: &Rc<Load>) -> Result<()> {
        if self.random.u32(..1000) < CALLS {
            self.call(load);
            return Ok(());
        }
        let mut state = load.state();
        let Some(client) = self.sender(&state) else {
            return Ok(());
        };
        let all: u32 = CHOICES.iter().map(|(weight, _)| weight).sum();
        let mut chosen = self.random.u32(..all);
        let choice = CHOICES.iter().find(|(weight, _)| {
            let is_it = chosen < *weight;
            chosen = chosen.saturating_sub(*weight);
            is_it
        });
        let (_, operation) = choice.context("weights")?;
        operation(self, &mut state, client)?;
        drop(state);
        for client in std::mem::take(&mut self.to_cut) {
            load.cut_client(client)?;
        }
        Ok(())
    }

    /// Any client.
    fn client(&mut self, state: &State) -> Option<SessionId> {
        self.random.choice(&state.open).copied()
    }

    /// A client that may ask for something more, if the one that is looked at may.
    fn sender(&mut self, state: &State) -> Option<SessionId> {
        let client = self.client(state)?;
        let requests = state.clients[&client].requests.len();
        (requests < REQUESTS).then_some(client)
    }

    fn group(&mut self) -> u32 {
        let group = self.random.usize(..self.amount.groups());
        u32::try_from(group).unwrap_or_default()
    }

    fn uid(&mut self) -> u32 {
        let uid = self.random.usize(..self.amount.uids());
        u32::try_from(uid).unwrap_or_default()
    }

    fn send(
        &mut self,
        state: &mut State,
        sender: SessionId,
        names: &[Name],
        mut body: Value,
    ) -> Result<()> {
        let id = state.model.send(sender, names);
        state.remember(format!("client {sender} sends message {id} to {names:?}"));
        body["text"] = json!(text(id));
        state.ask(sender, Request::Send(id), body)
    }

    fn send_to_all(&mut self, state: &mut State, sender: SessionId) -> Result<()> {
        state.count("send to all");
        let body = json!({ "do": "send-to-all" });
        self.send(state, sender, &[Name::All], body)
    }

    fn send_to_group(&mut self, state: &mut State, sender: SessionId) -> Result<()> {
        let group = self.group();
        state.count("send to a group");
        let body = json!({ "do": "send-to-group", "group": group_name(group) });
        self.send(state, sender, &[Name::Group(group)], body)
    }

    fn send_to_two_groups(&mut self, state: &mut State, sender: SessionId) -> Result<()> {
        let (one, other) = (self.group(), self.group());
        state.count("send to two groups");
        let groups = [group_name(one), group_name(other)];
        let body = json!({ "do": "send-to-group", "groups": groups });
        self.send(state, sender, &[Name::Group(one), Name::Group(other)], body)
    }

    fn send_to_uid(&mut self, state: &mut State, sender: SessionId) -> Result<()> {
        // One that someone has, if the client that is looked at has one.
        let client = self.client(state);
        let held = client.and_then(|client| state.clients[&client].uid);
        let uid = held.unwrap_or_else(|| self.uid());
        state.count("send to a uid");
        let body = json!({ "do": "send-to-uid", "uid": uid_name(uid) });
        self.send(state, sender, &[Name::Uid(uid)], body)
    }

    fn send_to_client(&mut self, state: &mut State, sender: SessionId) -> Result<()> {
        let Some(to) = self.client(state) else {
            return Ok(());
        };
        state.count("send to a client");
        let id = state.model.send(sender, &[Name::Client(to)]);
        state.remember(format!("client {sender} sends message {id} to client {to}"));
        let to_id = &state.clients[&to].id;
        let body = json!({ "do": "send-to-client", "client": to_id, "text": text(id) });
        state.ask(sender, Request::SendToClient(id, to), body)
    }

    fn join(&mut self, state: &mut State, client: SessionId) -> Result<()> {
        let group = self.group();
        let joining = &state.clients[&client];
        let is_in = joining.groups.contains(&group) || joining.groups.len() >= GROUPS;
        if joining.is_changing || is_in {
            return Ok(());
        }
        state.count("join a group");
        state.remember(format!("client {client} joins group {group}"));
        state.model.join(client, Name::Group(group));
        state.change(client);
        let body = json!({ "do": "join-group", "group": group_name(group) });
        state.ask(client, Request::Join(group), body)
    }

    fn leave_group(&mut self, state: &mut State, client: SessionId) -> Result<()> {
        let leaving = &state.clients[&client];
        let group = self.random.choice(leaving.groups.iter()).copied();
        let Some(group) = group.filter(|_| !leaving.is_changing) else {
            return Ok(());
        };
        state.count("leave a group");
        state.remember(format!("client {client} leaves group {group}"));
        state.model.leave(client, Name::Group(group));
        state.change(client);
        let body = json!({ "do": "leave-group", "group": group_name(group) });
        state.ask(client, Request::Leave(group), body)
    }

    fn bind(&mut self, state: &mut State, client: SessionId) -> Result<()> {
        let uid = self.uid();
        let binding = &state.clients[&client];
        let before = binding.uid;
        if binding.is_changing || before == Some(uid) {
            return Ok(());
        }
        state.count("bind a uid");
        state.remember(format!(
            "client {client} is bound to uid {uid}, before: {before:?}"
        ));
        if let Some(before) = before {
            state.model.leave(client, Name::Uid(before));
        }
        state.model.join(client, Name::Uid(uid));
        state.change(client);
        let body = json!({ "do": "bind-uid", "uid": uid_name(uid) });
        state.ask(client, Request::Bind(before, Some(uid)), body)
    }

    fn unbind(&mut self, state: &mut State, client: SessionId) -> Result<()> {
        let bound = &state.clients[&client];
        let Some(uid) = bound.uid.filter(|_| !bound.is_changing) else {
            return Ok(());
        };
        state.count("unbind a uid");
        state.remember(format!("client {client} is unbound from uid {uid}"));
        state.model.leave(client, Name::Uid(uid));
        state.change(client);
        let body = json!({ "do": "unbind-uid", "uid": uid_name(uid) });
        state.ask(client, Request::Bind(Some(uid), None), body)
    }

    fn leave(&mut self, state: &mut State, client: SessionId) -> Result<()> {
        state.count("leave");
        state.remember(format!("client {client} leaves"));
        state.leave(client)
    }

    fn cut(&mut self, state: &mut State, client: SessionId) -> Result<()> {
        state.count("cut off");
        state.remember(format!("client {client} is cut off"));
        self.to_cut.push(client);
        Ok(())
    }

    fn kick(&mut self, state: &mut State, client: SessionId) -> Result<()> {
        let Some(whom) = self.client(state).filter(|whom| *whom != client) else {
            return Ok(());
        };
        state.count("close another");
        state.remember(format!("client {client} closes client {whom}"));
        state.end(whom, ClientPhase::Kicked, Ending::Served);
        let id = &state.clients[&whom].id;
        let body = json!({ "do": "close-client", "client": id, "code": KICKED });
        state.ask(client, Request::Kick(whom), body)
    }

    /// A backend calls the API of a node: one call at a time for each, so that they have an order.
    fn call(&mut self, load: &Rc<Load>) {
        let mut state = load.state();
        let (group, uid, client) = (self.group(), self.uid(), self.client(&state));
        let node = self.random.usize(..state.nodes.len());
        let called = &state.nodes[node];
        let (Some(api), Some(sender)) = (called.api.clone(), called.api_session) else {
            return;
        };
        if called.is_calling {
            return;
        }
        let (function, name, mut body) = match (self.random.u8(..3), client) {
            (0, Some(client)) => {
                let id = &state.clients[&client].id;
                let body = json!({ "client": id });
                ("send-to-client", Name::Client(client), body)
            }
            (1, _) => {
                let body = json!({ "uids": [uid_name(uid)] });
                ("send-to-uid", Name::Uid(uid), body)
            }
            _ => {
                let body = json!({ "groups": [group_name(group)] });
                ("send-to-group", Name::Group(group), body)
            }
        };
        let id = state.model.send(sender, &[name]);
        state.count("call the API");
        state.remember(format!(
            "the API of node {node} sends message {id} to {name:?}"
        ));
        body["message"] = json!({ "text": text(id) });
        let weather = state.weather;
        state.nodes[node].is_calling = true;
        state.calls += 1;
        drop(state);
        let load = load.clone();
        spawn_local(async move {
            let answer = api.call("console", function, body).await;
            let mut state = load.state();
            state.calls -= 1;
            state.nodes[node].is_calling = false;
            // Otherwise the node has ended meanwhile, and with it this sender.
            let is_there = state.nodes[node].api_session == Some(sender);
            let is_faulty = [weather, state.weather].contains(&Weather::Faulty);
            let is_calm = [weather, state.weather] == [Weather::Calm; 2];
            let checked = match answer {
                _ if !is_there => Ok(()),
                Ok(Ok(reach)) if function != "send-to-client" => {
                    state.model.answered(id);
                    check_reach(&reach, !is_calm)
                }
                Ok(answer) => {
                    let error = answer.err().map(|refusal| reason(&refusal.reason));
                    match (name, error.as_deref()) {
                        (Name::Client(to), error) => {
                            state.answered_for_client(id, to, error, is_faulty)
                        }
                        // Other than a plugin, a backend is told that nobody has the uid.
                        (Name::Uid(_), Some("not-found")) if !state.model.has_to_come(id) => {
                            state.model.refused(id);
                            Ok(())
                        }
                        (_, error) => Err(anyhow::anyhow!("{function} of the API: {error:?}")),
                    }
                }
                Err(error) => Err(error.context("the API")),
            };
            drop(state);
            if let Err(error) = checked {
                load.fail(error);
            }
        });
    }
}

/// A reason of the API, as plugins see it.
fn reason(reason: &str) -> String {
    reason.to_lowercase().replace('_', "-")
}

pub(crate) fn group_name(group: u32) -> String {
    format!("group-{group}")
}

pub(crate) fn uid_name(uid: u32) -> String {
    format!("uid-{uid}")
}

impl State {
    /// A client's groups or its uid begin to change.
    fn change(&mut self, client: SessionId) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.is_changing = true;
        }
    }
}
