//! The run of a recording through one build. A live trace of the node says what comes of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use tungstenite::Message;

use super::client_ids::ClientIds;
use super::deliveries::{Deliveries, is_of_timer, translated};
use super::recording::{Recording, ReplayAction, ReplayStep};
use super::replay_handshake::{address, request};
use super::replay_manifest::ReplayFolder;
use crate::author::scripted_client::ScriptedClient;
use crate::author::test_cluster::{ClusterSettings, TestCluster};
use crate::live_trace::{Step, TraceConnecting, TraceFound, TraceStep};

/// The only node of a replay.
const NODE: usize = 1;

/// A recording that runs through a build.
pub(super) struct ReplayRun<'a> {
    recording: &'a Recording,
    cluster: TestCluster<'a>,
    secret: PathBuf,
    now: SystemTime,
    clients: BTreeMap<String, ScriptedClient>,
    /// The ids of this run, for those of the recording, and the other way round.
    here: ClientIds,
    recorded: ClientIds,
    /// The client that is being connected, by its id in the recording.
    connecting: Option<String>,
    traps: u64,
    compares_timers: bool,
    deliveries: Deliveries,
    /// Clients that were there before, and were not accepted again.
    unaccepted: u64,
    timeout: Duration,
}

/// What comes of what happens now.
#[derive(Clone, Copy)]
enum StepOrigin {
    /// It came of this step of the recording.
    Of(usize),
    /// Timers have fired after this step of the recording, if there is one.
    OfTimers(Option<usize>),
    /// It was not recorded what came of it.
    Unknown,
}

impl ReplayRun<'_> {
    /// Runs a recording through a build. What timers send is kept only if it is compared.
    ///
    /// # Errors
    ///
    /// The build cannot be loaded, or a step takes too long.
    pub(super) async fn run(
        recording: &Recording,
        component: &Path,
        manifest: Option<&Path>,
        (compares_timers, timeout): (bool, Duration),
    ) -> anyhow::Result<Deliveries> {
        let Some(first) = recording.steps().first() else {
            return Ok(Deliveries::default());
        };
        let folder = ReplayFolder::create(recording.plugin(), component, manifest)?;
        let plugins = folder.plugins();
        let cluster = Box::pin(TestCluster::start(ClusterSettings {
            plugin: recording.plugin(),
            plugins: &plugins,
            nodes: 1,
            clients: recording.clients(),
            message_bytes: recording.largest_message(),
            clock: first.at,
            step_timeout: timeout,
        }));
        let cluster = cluster.await?;
        cluster.begin_recording(NODE).await?;
        let mut run = ReplayRun {
            recording,
            cluster,
            secret: folder.secret(),
            now: first.at,
            clients: BTreeMap::new(),
            here: ClientIds::default(),
            recorded: ClientIds::default(),
            connecting: None,
            traps: 0,
            compares_timers,
            deliveries: Deliveries::default(),
            unaccepted: 0,
            timeout,
        };
        for (number, step) in recording.steps().iter().enumerate() {
            let stepped = Box::pin(run.step(number, step)).await;
            stepped.with_context(|| step.shown())?;
        }
        Ok(run.finish())
    }

    async fn step(&mut self, number: usize, step: &ReplayStep) -> anyhow::Result<()> {
        self.advance(number, step.at).await?;
        let client = &step.client;
        match &step.action {
            ReplayAction::Connect(handshake) => {
                return self
                    .connect(client, handshake, StepOrigin::Of(number))
                    .await;
            }
            ReplayAction::Find(state) => return self.find(client, state).await,
            ReplayAction::Send(message) => self.send(client, message).await,
            ReplayAction::Close(code, reason) => {
                if let Some(open) = self.clients.get_mut(client) {
                    // One that the build has closed is closed already.
                    let _ = open.close(*code, reason.clone()).await;
                }
            }
            ReplayAction::Break => {
                self.clients.remove(client);
            }
        }
        self.rest(StepOrigin::Of(number)).await
    }

    /// Moves the clock to the time of a step. Timers that are due before it come first.
    async fn advance(&mut self, number: usize, at: SystemTime) -> anyhow::Result<()> {
        let by = at.duration_since(self.now).unwrap_or_default();
        if by.is_zero() {
            return Ok(());
        }
        self.now = at;
        let until = self.cluster.now() + by;
        while self.cluster.advance_to_next_timer(until).await? {
            self.rest(StepOrigin::OfTimers(number.checked_sub(1)))
                .await?;
        }
        Ok(())
    }

    /// Waits until nothing is under way, and takes what has come of it.
    async fn rest(&mut self, origin: StepOrigin) -> anyhow::Result<()> {
        let clients: Vec<_> = self.clients.values().collect();
        Box::pin(self.cluster.rest(&clients)).await?;
        // What has come is in the trace, too.
        for client in self.clients.values() {
            while client.next().is_some() {}
        }
        self.clients.retain(|_, client| client.is_open());
        loop {
            let steps = self.cluster.read_recording(NODE).await?;
            if steps.is_empty() {
                break;
            }
            for step in steps {
                self.take(step, origin)?;
            }
        }
        let traps = self.cluster.traps();
        if let StepOrigin::OfTimers(cause) = origin {
            for _ in self.traps..traps {
                self.deliveries.add_failed_timer(cause);
            }
        }
        self.traps = traps;
        Ok(())
    }

    fn take(&mut self, step: TraceStep, origin: StepOrigin) -> anyhow::Result<()> {
        let TraceStep { client, step, .. } = step;
        match (step, origin) {
            (Some(Step::Connecting(_)), _) => {
                if let Some(recorded) = self.connecting.take() {
                    self.here.add(&recorded, &client);
                    self.recorded.add(&client, &recorded);
                }
            }
            (Some(Step::Missed(steps)), _) => self.deliveries.notes.push(format!(
                "{steps} steps are missing: too much came of one step"
            )),
            (Some(Step::Sent(sent)), _) if is_of_timer(&sent) && !self.compares_timers => {}
            (Some(step), StepOrigin::Of(_) | StepOrigin::OfTimers(_)) => {
                let cause = match origin {
                    StepOrigin::Of(number) => Some(number),
                    StepOrigin::OfTimers(number) => number,
                    StepOrigin::Unknown => None,
                };
                if let Some(recorded) = self.recorded.get(&client) {
                    self.deliveries.add(recorded, step, cause, &self.recorded)?;
                }
            }
            (None, _) | (Some(_), StepOrigin::Unknown) => {}
        }
        Ok(())
    }

    async fn connect(
        &mut self,
        client: &str,
        handshake: &TraceConnecting,
        origin: StepOrigin,
    ) -> anyhow::Result<()> {
        let node = self.cluster.address(NODE)?.to_owned();
        let request = request(handshake, &node, &self.secret, &self.here)?;
        self.connecting = Some(client.to_owned());
        let connecting = ScriptedClient::connect_from(&node, NODE, request, address(handshake));
        let connected = tokio::time::timeout(self.timeout, connecting).await;
        let connected = connected.context("the node does not answer the handshake in time")??;
        let refused = connected.as_ref().err().map(|refused| refused.status);
        if let Ok(connected) = connected {
            self.clients.insert(client.to_owned(), connected);
        }
        self.rest(origin).await?;
        // The trace has everybody about whom the plugin is asked, if there is room.
        match (self.connecting.take(), refused, origin) {
            (Some(_), None, _) => {
                bail!("too many clients are connected at a time: record a smaller share")
            }
            (Some(_), Some(status), StepOrigin::Of(number)) => {
                let status = u32::from(status.as_u16());
                self.deliveries.add_refusal(client, Some(number), status);
            }
            _ => {}
        }
        Ok(())
    }

    /// Gives a client what it has in the recording. One that was there before the recording comes in.
    async fn find(&mut self, client: &str, state: &TraceFound) -> anyhow::Result<()> {
        if !self.clients.contains_key(client) {
            let handshake = TraceConnecting {
                path: format!("/{}", self.recording.plugin()),
                ..TraceConnecting::default()
            };
            let origin = StepOrigin::Unknown;
            self.connect(client, &handshake, origin).await?;
        }
        let id = self
            .here
            .get(client)
            .filter(|_| self.clients.contains_key(client));
        match id {
            None => self.unaccepted += 1,
            Some(id) => {
                if let Err(error) = self.cluster.put_in_state(NODE, id, state).await {
                    let note = format!("{client} does not get what it had: {error:#}");
                    self.deliveries.notes.push(note);
                }
            }
        }
        self.rest(StepOrigin::Unknown).await
    }

    async fn send(&mut self, client: &str, message: &Message) {
        let message = translated(message.clone(), &self.here);
        let handled = self.cluster.handled() + 1;
        if let Some(open) = self.clients.get_mut(client) {
            open.handled = handled;
            // One that is being closed sends no more, and the trace says that it is closed.
            let _ = tokio::time::timeout(self.timeout, open.send(message)).await;
        }
    }

    fn finish(mut self) -> Deliveries {
        if self.unaccepted > 0 {
            self.deliveries.notes.push(format!(
                "{} clients that were there before the recording are not accepted without their handshakes, \
                 and are left out",
                self.unaccepted
            ));
        }
        self.deliveries
    }
}
