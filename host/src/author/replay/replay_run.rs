//! The run of a recording through one build.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use tungstenite::Message;

use super::recorded_step::{RecordedHandshake, RecordedState};
use super::recording::{FAILED, Recording, ReplayAction, ReplayStep, closed, refused};
use super::replay_handshake::request;
use super::replay_manifest::ReplayFolder;
use crate::author::scripted_client::ScriptedClient;
use crate::author::shown_message::shown_message;
use crate::author::test_cluster::{ClusterSettings, TestCluster};

/// The only node.
const NODE: usize = 1;

/// The close code of a connection that has ended without a frame.
const ABNORMAL: u16 = 1006;

/// What comes to the clients of a recording.
#[derive(Clone, Default)]
pub(super) struct Replayed {
    /// What comes to each client, by the client's id in the recording.
    pub(super) delivered: BTreeMap<String, Vec<Delivery>>,
    /// What else the reader must know.
    pub(super) notes: Vec<String>,
}

/// A message that comes to a client, or what else becomes of the client.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Delivery {
    pub(super) text: String,
    /// The step that came before it, by its number in the recording.
    pub(super) cause: Option<usize>,
}

/// A recording that runs through a build.
pub(super) struct ReplayRun<'a> {
    recording: &'a Recording,
    folder: ReplayFolder,
    plugins: PathBuf,
    timeout: Duration,
}

/// The state of a run.
struct Running<'a> {
    recording: &'a Recording,
    cluster: TestCluster<'a>,
    secret: PathBuf,
    now: SystemTime,
    clients: BTreeMap<String, ScriptedClient>,
    /// The ids that clients have in this run, with those that they have in the recording.
    ids: Vec<(String, String)>,
    traps: u64,
    replayed: Replayed,
    /// Clients that were there before the recording, and were not accepted again.
    unaccepted: u64,
    timeout: Duration,
}

impl<'a> ReplayRun<'a> {
    /// Prepares the run of a build.
    ///
    /// # Errors
    ///
    /// The component or its manifest cannot be read.
    pub(super) fn new(
        recording: &'a Recording,
        component: &Path,
        manifest: Option<&Path>,
        timeout: Duration,
    ) -> anyhow::Result<ReplayRun<'a>> {
        let folder = ReplayFolder::create(recording.plugin(), component, manifest)?;
        Ok(ReplayRun {
            recording,
            plugins: folder.plugins(),
            folder,
            timeout,
        })
    }

    /// Runs the recording through the build.
    ///
    /// # Errors
    ///
    /// The build cannot be loaded, or a step takes too long.
    pub(super) async fn run(&self) -> anyhow::Result<Replayed> {
        let steps = self.recording.steps();
        let Some(first) = steps.first() else {
            return Ok(Replayed::default());
        };
        let cluster = Box::pin(TestCluster::start(ClusterSettings {
            plugin: self.recording.plugin(),
            plugins: &self.plugins,
            nodes: 1,
            clients: self.recording.clients(),
            clock: first.at,
            step_timeout: self.timeout,
        }));
        let mut running = Running {
            recording: self.recording,
            cluster: cluster.await?,
            secret: self.folder.secret(),
            now: first.at,
            clients: BTreeMap::new(),
            ids: Vec::new(),
            traps: 0,
            replayed: Replayed::default(),
            unaccepted: 0,
            timeout: self.timeout,
        };
        for (number, step) in steps.iter().enumerate() {
            let stepped = Box::pin(running.step(number, step)).await;
            stepped.with_context(|| step.shown())?;
        }
        Ok(running.finish())
    }
}

impl Running<'_> {
    async fn step(&mut self, number: usize, step: &ReplayStep) -> anyhow::Result<()> {
        // Timers that are due before it come first.
        let by = step.at.duration_since(self.now).unwrap_or_default();
        if !by.is_zero() {
            let clients: Vec<_> = self.clients.values().collect();
            Box::pin(self.cluster.advance(by, &clients)).await?;
            self.now = step.at;
            self.take(number.checked_sub(1), None, true);
        }
        let client = &step.client;
        match &step.action {
            ReplayAction::Connect(handshake) => self.connect(client, number, handshake).await?,
            ReplayAction::Find(state) => return self.find(client, state).await,
            ReplayAction::Send(message) => self.send(client, message).await?,
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
        self.rest().await?;
        self.take(Some(number), Some(client), true);
        Ok(())
    }

    async fn rest(&self) -> anyhow::Result<()> {
        let clients: Vec<_> = self.clients.values().collect();
        Box::pin(self.cluster.rest(&clients)).await
    }

    async fn connect(
        &mut self,
        client: &str,
        number: usize,
        handshake: &RecordedHandshake,
    ) -> anyhow::Result<()> {
        let address = self.cluster.address(NODE)?.to_owned();
        let request = request(handshake, &address, &self.secret)?;
        let connecting = ScriptedClient::connect(&address, NODE, request);
        let connected = tokio::time::timeout(self.timeout, connecting).await;
        match connected.context("the node does not answer the handshake in time")?? {
            Ok(connected) => {
                self.clients.insert(client.to_owned(), connected);
                self.learn_id(client).await;
            }
            Err(answer) => {
                let text = refused(answer.status.as_u16());
                self.deliver(client, Some(number), text);
            }
        }
        Ok(())
    }

    /// Lets a client come in that was there before the recording, with what it had. What that sends to
    /// anybody was not recorded.
    async fn find(&mut self, client: &str, state: &RecordedState) -> anyhow::Result<()> {
        let handshake = RecordedHandshake {
            path: format!("/{}", self.recording.plugin()),
            ..RecordedHandshake::default()
        };
        let refusals = self.replayed.delivered.get(client).map_or(0, Vec::len);
        self.connect(client, 0, &handshake).await?;
        self.rest().await?;
        if let Some((id, _)) = self.ids.iter().rev().find(|(_, known)| known == client) {
            self.cluster
                .put_in_state(NODE, id, state.uid.as_deref(), &state.groups, &state.info)
                .await?;
            self.rest().await?;
        } else {
            self.unaccepted += 1;
            if let Some(delivered) = self.replayed.delivered.get_mut(client) {
                delivered.truncate(refusals);
            }
        }
        self.take(None, None, false);
        Ok(())
    }

    async fn send(&mut self, client: &str, message: &Message) -> anyhow::Result<()> {
        let handled = self.cluster.handled() + 1;
        let Some(open) = self.clients.get_mut(client).filter(|client| client.is_open()) else {
            return Ok(());
        };
        open.handled = handled;
        let sent = tokio::time::timeout(self.timeout, open.send(message.clone())).await;
        sent.context("the node does not take the message in time")?
    }

    /// Learns which id a client has that has just come in.
    async fn learn_id(&mut self, client: &str) {
        let known = |id: &String| self.ids.iter().any(|(known, _)| known == id);
        let ids = self.cluster.client_ids(NODE).await;
        if let Some(id) = ids.into_iter().find(|id| !known(id)) {
            self.ids.push((id, client.to_owned()));
        }
    }

    /// Takes what has come to the clients since the last call, and keeps it if it is compared.
    fn take(&mut self, cause: Option<usize>, of: Option<&str>, is_compared: bool) {
        let mut came = Vec::new();
        for (name, client) in &self.clients {
            while let Some(message) = client.next() {
                came.push((name.clone(), self.as_recorded(shown_message(&message))));
            }
            if let Some((code, reason)) = client.closed() {
                // A connection that breaks is no word of the plugin.
                if code != ABNORMAL {
                    came.push((name.clone(), closed(code, &reason)));
                }
            }
        }
        self.clients.retain(|_, client| client.closed().is_none());
        let traps = self.cluster.traps();
        if is_compared {
            for (client, text) in came {
                self.deliver(&client, cause, text);
            }
            for _ in self.traps..traps {
                match of {
                    Some(client) => self.deliver(client, cause, FAILED.to_owned()),
                    None => self.replayed.notes.push("a timer's event failed".to_owned()),
                }
            }
        }
        self.traps = traps;
    }

    fn deliver(&mut self, client: &str, cause: Option<usize>, text: String) {
        let delivered = self.replayed.delivered.entry(client.to_owned());
        delivered.or_default().push(Delivery { text, cause });
    }

    /// A text in which clients have the ids that they have in the recording.
    fn as_recorded(&self, mut text: String) -> String {
        for (id, recorded) in &self.ids {
            if text.contains(id) {
                text = text.replace(id, recorded);
            }
        }
        text
    }

    fn finish(mut self) -> Replayed {
        if self.unaccepted > 0 {
            self.replayed.notes.push(format!(
                "{} clients that were there before the recording are not accepted without their handshakes, \
                 and are left out",
                self.unaccepted
            ));
        }
        self.replayed
    }
}
