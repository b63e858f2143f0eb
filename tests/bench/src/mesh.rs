//! The mesh: what a message costs that has to go to another node, and when a node knows what
//! another one did.
//!
//! All nodes share this machine's processors, so more nodes are more to run and not more to
//! run on: what counts is that a message's way does not grow with them.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cluster::{Cluster, Talker};
use crate::load::{FanOut, Load};
use crate::machine;
use crate::run::Amount;
use crate::server::{Built, Kind};
use crate::table::{median, table, thousands};

/// Messages timed for each number of nodes.
const MESSAGES: usize = 3_000;

/// Messages before that.
const WARM_UP: usize = 300;

/// Binds of which is measured when a third node knows.
const BINDS: usize = 1_000;

/// Clients of the group.
const SUBSCRIBERS: usize = 1_000;

/// All of it.
pub(crate) fn run_mesh(built: &Built, amount: Amount) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}\n", machine::describe())?;

    let mut rows = Vec::new();
    for nodes in [1, 2, 4, 8] {
        eprintln!("one message, {nodes} nodes");
        rows.push(one_message(built, nodes)?);
    }
    let head = ["nodes", "p50 µs", "p99 µs", "frames each"];
    writeln!(
        stdout,
        "A message from a client to a uid on another node\n\n{}",
        table(head, rows)
    )?;

    eprintln!("what a third node knows");
    let head = ["", "p50 µs", "p99 µs", "p99.9 µs"];
    writeln!(
        stdout,
        "Until a third node knows a bind, from the bind's answer on\n\n{}",
        table(head, [known(built)?])
    )?;

    for undelivered in [1, 16] {
        let mut rows = Vec::new();
        for nodes in 1..=4 {
            eprintln!("a group over {nodes} nodes, {undelivered} undelivered");
            rows.push(fan_out(built, amount, nodes, undelivered)?);
        }
        let head = [
            "nodes",
            "deliveries/s",
            "publisher's node, CPU µs each",
            "all nodes, CPU µs each",
        ];
        writeln!(
            stdout,
            "A group of {} over so many nodes, {undelivered} undelivered; each delivery counts\n\n{}",
            thousands(SUBSCRIBERS as f64),
            table(head, rows)
        )?;
    }
    Ok(())
}

/// From the first node to the last.
fn one_message(built: &Built, nodes: usize) -> Result<[String; 4]> {
    let cluster = Cluster::start(nodes, built)?;
    let last = cluster.nodes.last().context("there are nodes")?;
    let (mut receiver, _) = Talker::connect(last.clients, "/console?uid=bob")?;
    let (mut sender, _) = Talker::connect(cluster.nodes[0].clients, "/console")?;
    wait_until_online(&mut sender, "bob")?;
    let request = r#"{"do":"send-to-uid","uid":"bob","text":"0123456789012345678901234567890123456789012345678901234567890123"}"#;
    let mut times = Vec::with_capacity(MESSAGES);
    let mut before = 0;
    for number in 0..WARM_UP + MESSAGES {
        if number == WARM_UP {
            before = cluster.nodes[0].deliveries()?;
        }
        let started = Instant::now();
        sender.say(request)?;
        receiver.next()?;
        let took = started.elapsed();
        sender.next()?;
        if number >= WARM_UP {
            times.push(took);
        }
    }
    let frames = cluster.nodes[0].deliveries()? - before;
    Ok([
        nodes.to_string(),
        micros(&mut times, 500),
        micros(&mut times, 990),
        format!("{:.2}", frames as f64 / MESSAGES as f64),
    ])
}

/// A client of the first node is bound through the second; the third is asked.
fn known(built: &Built) -> Result<[String; 4]> {
    let cluster = Cluster::start(3, built)?;
    let (_bound, id) = Talker::connect(cluster.nodes[0].clients, "/console")?;
    let (mut second, _) = Talker::connect(cluster.nodes[1].clients, "/console")?;
    let (mut third, _) = Talker::connect(cluster.nodes[2].clients, "/console")?;
    let mut times = Vec::with_capacity(BINDS);
    for number in 0..BINDS {
        let uid = format!("uid-{number}");
        second.ask(&format!(
            r#"{{"do":"bind-uid","client":"{id}","uid":"{uid}"}}"#
        ))?;
        let bound = Instant::now();
        wait_until_online(&mut third, &uid)?;
        times.push(bound.elapsed());
    }
    Ok([
        format!("{} binds", thousands(BINDS as f64)),
        micros(&mut times, 500),
        micros(&mut times, 990),
        micros(&mut times, 999),
    ])
}

fn fan_out(built: &Built, amount: Amount, nodes: usize, undelivered: u32) -> Result<[String; 4]> {
    let group = Kind::Plugin.group().context("the plugin has groups")?;
    let mut rounds = Vec::new();
    for _ in 0..amount.rounds {
        let cluster = Cluster::start(nodes, built)?;
        let mut load = FanOut::connect(&cluster.addresses(), group, SUBSCRIBERS, undelivered)?;
        // All members are here, and the publisher's node has heard of all of them.
        cluster.nodes[0].wait_for(|peers| {
            let held: u64 = peers
                .iter()
                .filter_map(|peer| peer["clients"].as_u64())
                .sum();
            held + (SUBSCRIBERS.div_ceil(nodes)) as u64 >= SUBSCRIBERS as u64
        })?;
        load.crowd().waiting = amount.waiting;
        load.run(Instant::now() + Duration::from_secs(1))?;
        let before = cpu(&cluster)?;
        let started = Instant::now();
        let delivered = load.run(started + amount.duration)? as f64;
        let elapsed = started.elapsed().as_secs_f64();
        let after = cpu(&cluster)?;
        load.finish()?;
        let used: Vec<f64> = after
            .iter()
            .zip(&before)
            .map(|(after, before)| (*after - *before).as_secs_f64())
            .collect();
        rounds.push((
            delivered / elapsed,
            used[0] * 1e6 / delivered,
            used.iter().sum::<f64>() * 1e6 / delivered,
        ));
    }
    ensure!(!rounds.is_empty(), "no rounds");
    Ok([
        nodes.to_string(),
        thousands(median(rounds.iter().map(|round| round.0))),
        format!("{:.2}", median(rounds.iter().map(|round| round.1))),
        format!("{:.2}", median(rounds.iter().map(|round| round.2))),
    ])
}

fn cpu(cluster: &Cluster) -> Result<Vec<Duration>> {
    cluster
        .nodes
        .iter()
        .map(crate::cluster::Node::cpu)
        .collect()
}

fn wait_until_online(talker: &mut Talker, uid: &str) -> Result<()> {
    let request = format!(r#"{{"do":"is-uid-online","uid":"{uid}"}}"#);
    let started = Instant::now();
    while !talker.ask(&request)?.contains("true") {
        ensure!(
            started.elapsed() < Duration::from_secs(10),
            "{uid} is not online anywhere"
        );
    }
    Ok(())
}

/// The time that so many of a thousand stay below.
fn micros(times: &mut [Duration], share: usize) -> String {
    times.sort_unstable();
    let place = (times.len() * share / 1000).min(times.len() - 1);
    thousands(times[place].as_secs_f64() * 1e6)
}
