//! The load: clients on real sockets, what each of them waits for, and what they tell the model.
//!
//! Everything happens in one thread. A client has a task of its own that reads ([`socket`]), and
//! calls [`Load::heard`] for each text. Requests are written at once, and answers come in their
//! order, so that a client has a queue of at most [`REQUESTS`] requests. No borrow of the state is
//! held across an `await`.

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use jackfield_tests::{Api, DEADLINE, Frame, OpCode};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, spawn_local};

use crate::answers::Epoch;
use crate::latency::Latencies;
use crate::model::{Ending, MessageId, Model, Reason, SessionId, Violation};
use crate::sabotage::{Sabotage, Saboteur};
use crate::socket::{self, Listener, SocketEnd};

/// Requests of one client that may wait for their answers.
pub(crate) const REQUESTS: usize = 4;

/// The close code of a client that another one has closed.
pub(crate) const KICKED: u16 = 4100;

/// The close code of a node that drains.
const RESTARTS: u16 = 1012;

/// Operations that a failure shows.
const HISTORY: usize = 60;

/// Whether a fault is under way, and what may be answered meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Everything has to work.
    Calm,
    /// A link is slow: nothing is lost, but a question to another node may time out.
    Delayed,
    /// A node is away: what concerns it may be refused, and answers may be incomplete.
    Faulty,
}

/// How often something that is waited for is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(5);

/// The clients and the model.
pub(crate) struct Load(RefCell<State>);

pub(crate) struct State {
    pub(crate) model: Model,
    pub(crate) nodes: Vec<NodeState>,
    pub(crate) clients: BTreeMap<SessionId, Client>,
    /// Those that are connected and do not end.
    pub(crate) open: Vec<SessionId>,
    pub(crate) weather: Weather,
    /// No operations begin, and no clients come.
    pub(crate) is_paused: bool,
    /// No epoch begins by itself.
    pub(crate) has_no_epochs: bool,
    pub(crate) latencies: Latencies,
    pub(crate) done: BTreeMap<&'static str, u64>,
    /// Answers that a fault explains.
    pub(crate) refusals: u64,
    pub(crate) epoch: Option<Epoch>,
    pub(crate) epochs: u64,
    /// Answers that a barrier waits for.
    pub(crate) pings: usize,
    /// Calls of the API under way.
    pub(crate) calls: usize,
    history: VecDeque<String>,
    pub(crate) failure: Option<anyhow::Error>,
    sabotage: Saboteur,
    started: Instant,
}

/// A node, as the load sees it.
#[derive(Debug)]
pub(crate) struct NodeState {
    pub(crate) address: SocketAddr,
    pub(crate) api: Option<Api>,
    /// The sender that its API is in the model.
    pub(crate) api_session: Option<SessionId>,
    pub(crate) is_calling: bool,
    /// A client that stays, sends what an epoch consists of, and asks what the node knows.
    pub(crate) anchor: Option<SessionId>,
    pub(crate) is_up: bool,
    pub(crate) clients: usize,
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) node: usize,
    pub(crate) id: String,
    stream: Option<Rc<TcpStream>>,
    task: Option<AbortHandle>,
    pub(crate) requests: VecDeque<(u64, Weather, Request)>,
    next_request: u64,
    /// Its groups or its uid are being changed.
    pub(crate) is_changing: bool,
    pub(crate) groups: BTreeSet<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) phase: ClientPhase,
    is_anchor: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientPhase {
    Connecting,
    Open,
    /// It has sent a close frame.
    Leaving,
    /// Another one closes it.
    Kicked,
    /// Its node drains.
    Drained,
    /// Its node was killed.
    Killed,
}

impl Client {
    fn is_busy(&self) -> bool {
        // Epochs go on at all times.
        let waits = |(_, _, request): &(u64, Weather, Request)| !matches!(request, Request::Epoch);
        self.phase != ClientPhase::Open || self.requests.iter().any(waits)
    }
}

/// What an answer is awaited for.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Send(MessageId),
    SendToClient(MessageId, SessionId),
    Join(u32),
    Leave(u32),
    Bind(Option<u32>, Option<u32>),
    Kick(SessionId),
    Epoch,
    Ping,
    /// Who the members are, and in how many nodes' names.
    Query(Value),
}

/// The text of a message: from its number alone, so that a damaged one is found.
pub(crate) fn text(id: MessageId) -> String {
    let letter = char::from(b'a' + u8::try_from(id % 26).unwrap_or_default());
    let length = usize::try_from(id * 37 % 400).unwrap_or_default();
    let filler: String = std::iter::repeat_n(letter, length).collect();
    format!("m{id} {filler}")
}

impl Load {
    pub(crate) fn new(nodes: usize, sabotage: Option<Sabotage>) -> Rc<Load> {
        let node = |_| NodeState {
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            api: None,
            api_session: None,
            is_calling: false,
            anchor: None,
            is_up: false,
            clients: 0,
        };
        let state = State {
            model: Model::default(),
            nodes: (0..nodes).map(node).collect(),
            clients: BTreeMap::new(),
            open: Vec::new(),
            weather: Weather::Calm,
            is_paused: true,
            has_no_epochs: true,
            latencies: Latencies::default(),
            done: BTreeMap::new(),
            refusals: 0,
            epoch: None,
            epochs: 0,
            pings: 0,
            calls: 0,
            history: VecDeque::new(),
            failure: None,
            sabotage: Saboteur::new(sabotage),
            started: Instant::now(),
        };
        Rc::new(Load(RefCell::new(state)))
    }

    pub(crate) fn state(&self) -> RefMut<'_, State> {
        self.0.borrow_mut()
    }

    /// Notes the first fault; the run then ends.
    pub(crate) fn fail(&self, error: anyhow::Error) {
        self.state().failure.get_or_insert(error);
    }

    /// Waits until this holds; fails as soon as anything has failed.
    pub(crate) async fn wait_until(
        &self,
        what: &str,
        mut holds: impl FnMut(&mut State) -> bool,
    ) -> Result<()> {
        let reached = async {
            loop {
                {
                    let mut state = self.state();
                    if let Some(failure) = state.failure.take() {
                        return Err(failure);
                    }
                    if holds(&mut state) {
                        return Ok(());
                    }
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        match tokio::time::timeout(DEADLINE, reached).await {
            Ok(reached) => reached,
            Err(_) => bail!(
                "waited {DEADLINE:?} for {what}: {}",
                self.state().under_way()
            ),
        }
    }

    /// A new client of this node.
    pub(crate) fn connect(self: &Rc<Self>, node: usize, is_anchor: bool) {
        let (session, address) = {
            let mut state = self.state();
            let session = state.model.connect(node);
            state.nodes[node].clients += 1;
            let client = Client {
                node,
                id: String::new(),
                stream: None,
                task: None,
                requests: VecDeque::new(),
                next_request: 0,
                is_changing: false,
                groups: BTreeSet::new(),
                uid: None,
                phase: ClientPhase::Connecting,
                is_anchor,
            };
            state.clients.insert(session, client);
            state.count("connect");
            (session, state.nodes[node].address)
        };
        let load = self.clone();
        let task = spawn_local(async move {
            let reader = Reader {
                load: &load,
                session,
            };
            let ended = socket::run(address, "/console", &reader).await;
            if let Err(error) = load.ended(session, ended) {
                load.fail(error);
            }
        });
        if let Some(client) = self.state().clients.get_mut(&session) {
            client.task = Some(task.abort_handle());
        }
    }

    fn ended(&self, session: SessionId, ended: Result<SocketEnd>) -> Result<()> {
        let mut state = self.state();
        let Some(client) = state.clients.get(&session) else {
            return Ok(());
        };
        let (phase, node) = (client.phase, client.node);
        let shown = || format!("client {session} at node {node}, {phase:?}");
        let end = match ended {
            Ok(end) => end,
            // A node that ends may refuse who is just coming, with an HTTP answer.
            Err(_) if matches!(phase, ClientPhase::Drained | ClientPhase::Killed) => SocketEnd::Cut,
            Err(error) => return Err(error.context(shown())),
        };
        let is_expected = match (phase, &end) {
            (ClientPhase::Leaving, SocketEnd::Closed(_)) | (ClientPhase::Killed, _) => true,
            (ClientPhase::Kicked, SocketEnd::Closed(code)) => {
                *code == KICKED || (*code == RESTARTS && !state.nodes[node].is_up)
            }
            (ClientPhase::Drained, SocketEnd::Closed(code)) => *code == RESTARTS,
            // It was not in yet.
            (ClientPhase::Drained, SocketEnd::Cut) => client.id.is_empty(),
            _ => false,
        };
        ensure!(is_expected, "{} has ended: {end:?}", shown());
        state.remove(session)
    }

    /// Cuts a client off, by a reset: as when a machine dies and comes back.
    pub(crate) fn cut_client(&self, session: SessionId) -> Result<()> {
        let mut state = self.state();
        state.end(
            session,
            ClientPhase::Killed,
            Ending::Lost(Reason::ClientLeft),
        );
        if let Some(client) = state.clients.get_mut(&session) {
            if let Some(stream) = client.stream.take() {
                stream.set_zero_linger()?;
            }
            // Its task has the other reference to the socket.
            if let Some(task) = client.task.take() {
                task.abort();
            }
        }
        state.remove(session)
    }
}

/// What a client's socket tells.
struct Reader<'a> {
    load: &'a Rc<Load>,
    session: SessionId,
}

impl Listener for Reader<'_> {
    fn opened(&self, stream: &Rc<TcpStream>) {
        if let Some(client) = self.load.state().clients.get_mut(&self.session) {
            client.stream = Some(stream.clone());
        }
    }

    fn is_leaving(&self) -> bool {
        let state = self.load.state();
        let client = state.clients.get(&self.session);
        client.is_some_and(|client| client.phase == ClientPhase::Leaving)
    }

    fn heard(&self, text: &str) -> Result<()> {
        let mut state = self.load.state();
        match text.as_bytes().first() {
            Some(b'm') => state.message_came(self.session, text),
            Some(b'e') => state.epoch_came(text),
            _ => {
                let value: Value = serde_json::from_str(text).context(text.to_owned())?;
                let heard = match value["event"] == "connected" {
                    true => state.connected(self.session, &value),
                    false => state.answered(self.session, &value),
                };
                heard.with_context(|| format!("client {} heard {text}", self.session))
            }
        }
    }
}

impl State {
    pub(crate) fn count(&mut self, operation: &'static str) {
        *self.done.entry(operation).or_default() += 1;
    }

    /// An operation, for a person who looks for what led to a failure.
    pub(crate) fn remember(&mut self, line: String) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        let at = self.started.elapsed();
        self.history.push_back(format!("{at:>10.3?} {line}"));
    }

    pub(crate) fn history(&self) -> String {
        let lines: Vec<&str> = self.history.iter().map(String::as_str).collect();
        lines.join("\n  ")
    }

    /// Whether every request was answered, and every client that ends has ended.
    pub(crate) fn is_idle(&self) -> bool {
        self.calls == 0 && !self.clients.values().any(Client::is_busy)
    }

    pub(crate) fn under_way(&self) -> String {
        let busy = |(session, client): (&SessionId, &Client)| {
            client.is_busy().then(|| {
                format!(
                    "\n  client {session} at node {}: {:?}, {:?}",
                    client.node, client.phase, client.requests
                )
            })
        };
        let lines: Vec<_> = self.clients.iter().filter_map(busy).take(10).collect();
        format!(
            "{} calls of the API, the epoch {:?}, {}",
            self.calls,
            self.epoch,
            lines.concat()
        )
    }

    /// Sends a request.
    pub(crate) fn ask(
        &mut self,
        session: SessionId,
        request: Request,
        mut body: Value,
    ) -> Result<()> {
        let weather = self.weather;
        let client = self.clients.get_mut(&session).context("a client")?;
        client.next_request += 1;
        body["id"] = json!(client.next_request);
        let waiting = (client.next_request, weather, request);
        client.requests.push_back(waiting);
        let stream = client.stream.as_ref().context("a stream")?;
        let request = Frame::new(OpCode::Text, body.to_string());
        socket::write(stream, &request.to_bytes())
    }

    /// A client goes by itself.
    pub(crate) fn leave(&mut self, session: SessionId) -> Result<()> {
        self.end(
            session,
            ClientPhase::Leaving,
            Ending::Lost(Reason::ClientLeft),
        );
        let client = self.clients.get(&session);
        let stream = client.and_then(|client| client.stream.as_ref());
        let close = Frame::new(OpCode::Close, 1000_u16.to_be_bytes());
        socket::write(stream.context("a stream")?, &close.to_bytes())
    }

    /// A client begins to end.
    pub(crate) fn end(&mut self, session: SessionId, phase: ClientPhase, ending: Ending) {
        if let Some(client) = self.clients.get_mut(&session) {
            client.phase = phase;
        }
        if let Some(at) = self.open.iter().position(|open| *open == session) {
            self.open.swap_remove(at);
        }
        self.model.end(session, ending);
    }

    /// No epoch begins, and the one that is under way does not count.
    pub(crate) fn stop_epochs(&mut self) {
        self.has_no_epochs = true;
        self.epoch = None;
    }

    /// A node drains, or is killed: its clients end, and nobody comes.
    pub(crate) fn node_ends(&mut self, node: usize, phase: ClientPhase) -> Result<()> {
        self.nodes[node].is_up = false;
        self.nodes[node].anchor = None;
        self.nodes[node].api = None;
        if let Some(session) = self.nodes[node].api_session.take() {
            self.model.ended(session)?;
        }
        if phase == ClientPhase::Killed {
            self.model.kill(node);
        }
        let clients = self.clients.iter();
        let there = clients.filter(|(_, client)| client.node == node);
        for session in there.map(|(session, _)| *session).collect::<Vec<_>>() {
            let ending = match (phase, self.clients[&session].phase) {
                (ClientPhase::Drained, ClientPhase::Open) => Ending::Served,
                // Who was about to go goes as it would have.
                (ClientPhase::Drained, ClientPhase::Leaving | ClientPhase::Kicked) => continue,
                _ => Ending::Lost(Reason::NodeKilled),
            };
            self.end(session, phase, ending);
        }
        Ok(())
    }

    fn remove(&mut self, session: SessionId) -> Result<()> {
        let removed = self.clients.remove(&session);
        if let Some(client) = &removed {
            self.nodes[client.node].clients -= 1;
        }
        let requests = removed.into_iter().flat_map(|client| client.requests);
        for (_, _, request) in requests {
            match request {
                Request::Ping => self.pings -= 1,
                Request::Kick(whom) => self.leave_if_kicked(whom)?,
                _ => {}
            }
        }
        let ended = self.model.ended(session);
        self.checked(ended)
    }

    /// Lets a client go by itself that was to be closed, and may have been or not: the answer was
    /// an error, or never came.
    pub(crate) fn leave_if_kicked(&mut self, whom: SessionId) -> Result<()> {
        let phase = self.clients.get(&whom).map(|client| client.phase);
        match phase {
            Some(ClientPhase::Kicked) => self.leave(whom),
            _ => Ok(()),
        }
    }

    /// Adds to a violation what is known of its message.
    pub(crate) fn checked<T>(&self, outcome: Result<T, Violation>) -> Result<T> {
        outcome.map_err(|violation| {
            let message = self.model.describe(violation.message());
            anyhow::Error::from(violation).context(message)
        })
    }

    fn connected(&mut self, session: SessionId, value: &Value) -> Result<()> {
        let client = self.clients.get_mut(&session).context("a client")?;
        ensure!(client.id.is_empty(), "it was connected already");
        value["client"]
            .as_str()
            .context("no id")?
            .clone_into(&mut client.id);
        if client.phase != ClientPhase::Connecting {
            // Its node is about to end.
            return Ok(());
        }
        client.phase = ClientPhase::Open;
        match client.is_anchor {
            true => self.nodes[client.node].anchor = Some(session),
            false => self.open.push(session),
        }
        self.model.connected(session);
        Ok(())
    }

    fn message_came(&mut self, session: SessionId, said: &str) -> Result<()> {
        let number = said[1..].split(' ').next().unwrap_or_default();
        let id: MessageId = number.parse().with_context(|| said.to_owned())?;
        ensure!(said == text(id), "message {id} was damaged: {said}");
        for (receiver, id) in self.sabotage.pass(&self.model, session, id) {
            let came = self.model.came(receiver, id);
            let took = self.checked(came)?;
            self.latencies.add(took);
        }
        Ok(())
    }
}
