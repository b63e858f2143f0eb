//! The run: rounds of load with a fault in each, and a barrier after each, where everything has
//! to agree.
//!
//! ```text
//! operations ──> load ──> sockets ══> nodes ══> sockets ──> load ──> model
//!                 │                     ^
//!                 └──> model            └── run: faults, barriers, memory
//! ```

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::task::LocalSet;

use crate::fault::{Fault, Faults};
use crate::fleet::Fleet;
use crate::load::{ClientPhase, LOOK, Load, State, Weather};
use crate::memory::Memory;
use crate::model::{Name, SessionId};
use crate::operations::{Amount, Operations};
use crate::report::{Left, Report};
use crate::sabotage::Sabotage;

/// Groups and uids that each node is asked about at a barrier.
const ASKED: usize = 10;

/// What the load and its run depend on.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many clients there are.
    pub clients: usize,
    /// How many nodes.
    pub nodes: usize,
    /// How long the rounds go on. There is at least one of each fault.
    pub time: Duration,
    /// What all choices follow from.
    pub seed: u64,
    /// Operations per second.
    pub rate: u32,
    /// A fault of the test itself, which has to be found.
    pub sabotage: Option<Sabotage>,
}

/// Runs the soak.
///
/// # Errors
///
/// Something was not as it has to be. The error says what, and what was done before it.
pub fn run(options: &Options) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, Run::run(options))
}

struct Run {
    options: Options,
    amount: Amount,
    fleet: Fleet,
    load: Rc<Load>,
    /// For faults; the operations have another one, since these depend on time.
    random: fastrand::Rng,
    faults: Faults,
    done: BTreeMap<Fault, u64>,
    memory: Memory,
    longest_drain: Duration,
    started: Instant,
}

impl Run {
    async fn run(options: &Options) -> Result<Report> {
        let mut random = fastrand::Rng::with_seed(options.seed);
        let amount = Amount {
            clients: options.clients,
            rate: options.rate,
        };
        let load = Load::new(options.nodes, options.sabotage);
        let operations = Operations::new(random.u64(..), amount);
        let operating = tokio::task::spawn_local(operations.run(load.clone()));
        let mut run = Run {
            options: options.clone(),
            amount,
            fleet: Fleet::start(options.nodes, options.clients).await?,
            load,
            random,
            faults: Faults::new(options.nodes),
            done: BTreeMap::new(),
            memory: Memory::new(options.nodes),
            longest_drain: Duration::ZERO,
            started: Instant::now(),
        };
        let outcome = run.go_on().await;
        operating.abort();
        outcome.map_err(|error| {
            let history = run.load.state().history();
            let seed = options.seed;
            error.context(format!(
                "the soak of seed {seed} has failed after {:.1?}; the last operations:\n  {history}\n",
                run.started.elapsed()
            ))
        })
    }

    async fn go_on(&mut self) -> Result<Report> {
        for node in 0..self.fleet.len() {
            self.come(node).await?;
        }
        self.recover().await?;
        self.load.state().is_paused = false;
        let wanted = self.options.clients;
        let coming = async {
            // Some are about to leave at any time.
            while self.load.state().open.len() < wanted - wanted / 50 {
                self.check()?;
                tokio::time::sleep(LOOK).await;
            }
            anyhow::Ok(())
        };
        // Several times as long as it takes with two processors.
        tokio::time::timeout(Duration::from_secs(300), coming)
            .await
            .context("waited 300 s for all clients to be there")??;
        self.traffic().await?;
        self.barrier().await?;
        eprintln!(
            "{wanted} clients are there after {:.1?}",
            self.started.elapsed()
        );

        self.started = Instant::now();
        while self.started.elapsed() < self.options.time || !self.has_had_all() {
            let fault = self.faults.next(&mut self.random)?;
            let began = Instant::now();
            self.traffic().await?;
            // The first node stays, so that its memory is seen for the whole time.
            let first = usize::from(matches!(fault, Fault::Drain | Fault::Kill));
            let node = self.random.usize(first..self.fleet.len());
            self.inflict(fault, node)
                .await
                .with_context(|| format!("{fault:?}, node {node}"))?;
            *self.done.entry(fault).or_default() += 1;
            self.traffic().await?;
            self.barrier()
                .await
                .with_context(|| format!("after {fault:?}, node {node}"))?;
            let tally = &self.load.state().model.tally;
            eprintln!(
                "{:>7.1?} {fault:?} of node {node}: a round of {:.1?}; {} messages have come",
                self.started.elapsed(),
                began.elapsed(),
                tally.came
            );
        }
        self.finish().await
    }

    fn has_had_all(&self) -> bool {
        Fault::all_of(self.fleet.len())
            .iter()
            .all(|fault| self.done.contains_key(fault))
    }

    /// Fails if anything has.
    fn check(&self) -> Result<()> {
        self.load.state().failure.take().map_or(Ok(()), Err)
    }

    /// Lets the clients talk for a while.
    async fn traffic(&mut self) -> Result<()> {
        // A quarter of a short run is for its five faults; of a long one, rounds are long enough
        // that some thousands of operations coincide with each.
        let most = self.options.time.div_f64(30.0);
        let most = most.clamp(Duration::from_millis(700), Duration::from_secs(4));
        let time = most.mul_f64(0.5 + self.random.f64() / 2.0);
        tokio::time::sleep(time).await;
        self.check()
    }

    async fn inflict(&mut self, fault: Fault, node: usize) -> Result<()> {
        self.load
            .state()
            .remember(format!("{fault:?} of node {node} begins"));
        match fault {
            Fault::Reload => self.fleet.reload().await?,
            Fault::Disconnect => self.disconnect(node).await?,
            Fault::Partition => self.cut_off(node).await?,
            Fault::Drain | Fault::Kill => {
                self.end_node(node, fault).await?;
                self.come(node).await?;
                self.recover().await?;
            }
        }
        self.load
            .state()
            .remember(format!("{fault:?} of node {node} is over"));
        Ok(())
    }

    /// The connections to a node break or carry nothing, for less time than a peer takes to be
    /// suspect.
    async fn disconnect(&mut self, node: usize) -> Result<()> {
        self.load.state().weather = Weather::Delayed;
        let proxy = self.fleet.proxy(node);
        let time = Duration::from_millis(self.random.u64(100..1000));
        match self.random.u8(..3) {
            0 => proxy.cut_for_a_moment(),
            1 => {
                proxy.cut();
                tokio::time::sleep(time).await;
                proxy.restore();
            }
            _ => {
                proxy.stall();
                tokio::time::sleep(time).await;
                proxy.restore();
            }
        }
        self.pass_epoch().await?;
        self.load.state().weather = Weather::Calm;
        Ok(())
    }

    /// A node and all others give each other up, and meet again.
    async fn cut_off(&mut self, node: usize) -> Result<()> {
        {
            let mut state = self.load.state();
            state.weather = Weather::Faulty;
            state.stop_epochs();
            for other in (0..self.fleet.len()).filter(|other| *other != node) {
                state.model.cut(node, other);
            }
        }
        self.fleet.proxy(node).cut();
        self.fleet.wait_for_alive_peers(node, 0).await?;
        for other in (0..self.fleet.len()).filter(|other| *other != node) {
            let others = self.fleet.len() - 2;
            self.fleet.wait_for_alive_peers(other, others).await?;
        }
        self.fleet.proxy(node).restore();
        self.recover().await
    }

    /// A node is drained or killed.
    async fn end_node(&mut self, node: usize, fault: Fault) -> Result<()> {
        let phase = match fault {
            Fault::Drain => ClientPhase::Drained,
            _ => ClientPhase::Killed,
        };
        {
            let mut state = self.load.state();
            state.weather = Weather::Faulty;
            state.stop_epochs();
            state.node_ends(node, phase)?;
        }
        match fault {
            Fault::Drain => {
                let took = self.fleet.drain(node).await?;
                self.longest_drain = self.longest_drain.max(took);
            }
            _ => self.fleet.kill(node).await?,
        }
        let what = format!("the clients of node {node} to see its end");
        let has_none = |state: &mut State| state.nodes[node].clients == 0;
        self.load.wait_until(&what, has_none).await?;
        // The others are alone for a while, or not.
        tokio::time::sleep(Duration::from_millis(self.random.u64(..1000))).await;
        self.fleet.start_node(node).await
    }

    /// A node has started: it is known to the load, and gets clients once it knows all others.
    async fn come(&mut self, node: usize) -> Result<()> {
        self.memory.begin_life(node);
        self.fleet.wait_until_all_are_alive().await?;
        self.fleet.note_files(node)?;
        let (address, api) = (self.fleet.node(node)?.address(), self.fleet.api(node)?);
        {
            let mut state = self.load.state();
            let session = state.model.open_api(node);
            let coming = &mut state.nodes[node];
            coming.address = address;
            coming.api = Some(api);
            coming.api_session = Some(session);
            coming.is_up = true;
        }
        self.load.connect(node, true);
        let has_anchor = |state: &mut State| state.nodes[node].anchor.is_some();
        self.load.wait_until("a first client", has_anchor).await
    }

    /// All nodes know all others again: from here on nothing may be lost.
    async fn recover(&mut self) -> Result<()> {
        self.fleet.wait_until_all_are_alive().await?;
        self.load.state().has_no_epochs = false;
        self.pass_epoch().await?;
        let mut state = self.load.state();
        state.model.reconnect();
        state.weather = Weather::Calm;
        Ok(())
    }

    /// Waits for an epoch that begins from now on.
    async fn pass_epoch(&mut self) -> Result<()> {
        let before = {
            let state = self.load.state();
            // One that is under way does not count.
            state.model.tally.epochs + u64::from(state.epoch.is_some())
        };
        let has_passed = |state: &mut State| state.model.tally.epochs > before;
        self.load.wait_until("an epoch", has_passed).await
    }

    /// Waits until everything has been answered and has arrived, and compares.
    async fn barrier(&mut self) -> Result<()> {
        self.load.state().is_paused = true;
        self.load
            .wait_until("all answers", |state| state.is_idle())
            .await?;
        for node in 0..self.fleet.len() {
            let clients = self.load.state().nodes[node].clients;
            self.fleet.wait_for_clients(node, clients).await?;
        }
        self.load.state().model.finish_abandoned();
        self.pass_epoch().await?;
        self.load.state().ping_all()?;
        self.load
            .wait_until("all clients", |state| state.pings == 0)
            .await?;
        {
            let mut state = self.load.state();
            let passed = state.model.pass_barrier();
            state.checked(passed)?;
        }
        self.compare_what_nodes_know().await?;
        for node in 0..self.fleet.len() {
            let bytes = self.fleet.node(node)?.resident_bytes()?;
            self.memory.add(node, bytes);
        }
        self.load.state().is_paused = false;
        Ok(())
    }

    /// Each node is asked who there is, and knows what the model knows.
    async fn compare_what_nodes_know(&mut self) -> Result<()> {
        let groups: Vec<u32> = self.some(self.amount.groups());
        let uids: Vec<u32> = self.some(self.amount.uids());
        {
            let mut state = self.load.state();
            let anchors: Vec<_> = state.nodes.iter().filter_map(|node| node.anchor).collect();
            for anchor in anchors {
                state.ask_how_many(anchor)?;
                for group in &groups {
                    state.ask_who(anchor, Name::Group(*group))?;
                }
                for uid in &uids {
                    state.ask_who(anchor, Name::Uid(*uid))?;
                }
            }
        }
        self.load
            .wait_until("what nodes know", |state| state.is_idle())
            .await
    }

    fn some(&mut self, of: usize) -> Vec<u32> {
        let of = u32::try_from(of).unwrap_or(u32::MAX);
        (0..ASKED).map(|_| self.random.u32(..of)).collect()
    }

    /// Everybody leaves, and nothing is left.
    async fn finish(&mut self) -> Result<Report> {
        let ran = self.started.elapsed();
        {
            let mut state = self.load.state();
            state.is_paused = true;
            state.stop_epochs();
            let clients: Vec<SessionId> = state.clients.keys().copied().collect();
            for client in clients {
                state.leave(client)?;
            }
        }
        let has_none = |state: &mut State| state.clients.is_empty();
        self.load
            .wait_until("all clients to leave", has_none)
            .await?;
        let mut left = Vec::new();
        for node in 0..self.fleet.len() {
            self.fleet.wait_for_clients(node, 0).await?;
            let [files_before, files] = self.fleet.check_files(node).await?;
            left.push(Left {
                files_before,
                files,
                bytes: self.fleet.node(node)?.resident_bytes()?,
            });
        }
        for node in (0..self.fleet.len()).rev() {
            let took = self.fleet.drain(node).await?;
            self.longest_drain = self.longest_drain.max(took);
        }
        self.memory.check()?;
        let state = self.load.state();
        ensure!(state.model.tally.came > 0, "no message has come");
        Ok(Report {
            seed: self.options.seed,
            clients: self.options.clients,
            ran,
            operations: state.done.clone(),
            faults: self.done.clone(),
            tally: state.model.tally.clone(),
            refusals: state.refusals,
            latencies: state.latencies.clone(),
            longest_drain: self.longest_drain,
            memory: self.memory.clone(),
            left,
        })
    }
}
