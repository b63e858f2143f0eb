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

/// Names that one node holds and others are told.
const NAMES: usize = 200_000;

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

    eprintln!("{NAMES} names");
    writeln!(
        stdout,
        "{} groups with names of 16 bytes, all of one node\n\n{}",
        thousands(NAMES as f64),
        table(["", ""], names(built)?)
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
            "p50 µs",
            "p99 µs",
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

/// What names of another node's cost: one that is told each as it comes, and one that comes
/// later and is told all at once.
fn names(built: &Built) -> Result<Vec<[String; 2]>> {
    /// Requests under way: some 10 KB of them.
    const AT_ONCE: usize = 200;
    let mut cluster = Cluster::start(2, built)?;
    let (mut talker, _) = Talker::connect(cluster.nodes[0].clients, "/console")?;
    let holds = |names: usize| {
        move |peers: &[serde_json::Value]| {
            let held = peers.iter().filter_map(|peer| peer["groups"].as_u64());
            held.sum::<u64>() == names as u64 && peers.iter().all(|peer| peer["state"] == "alive")
        }
    };
    let before = cluster.nodes[1].allocated_bytes()?;
    for first in (0..NAMES).step_by(AT_ONCE) {
        for number in first..first + AT_ONCE {
            // Not in their order: hashed names, as uids mostly are.
            let name = (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            talker.say(&format!(r#"{{"do":"join-group","group":"{name:016x}"}}"#))?;
        }
        for _ in 0..AT_ONCE {
            let answer = talker.next()?;
            ensure!(answer.contains("\"ok\""), "no group joined: {answer}");
        }
    }
    let looked = cluster.nodes[1].wait_for(holds(NAMES))?;
    let told = cluster.nodes[1].allocated_bytes()? - before;

    let started = Instant::now();
    let newcomer = cluster.add(built)?;
    let listens = started.elapsed();
    newcomer.wait_for(holds(NAMES))?;
    let knows = started.elapsed() - listens;
    let pictured = newcomer.allocated_bytes()?.saturating_sub(before);
    let each = |bytes: u64| format!("{:.0} bytes", bytes as f64 / NAMES as f64);
    let millis = |time: Duration| format!("{:.0} ms", time.as_secs_f64() * 1e3);
    Ok(vec![
        ["memory for each, told one by one".to_owned(), each(told)],
        [
            "memory for each, told all at once".to_owned(),
            each(pictured),
        ],
        ["until a newcomer knows them".to_owned(), millis(knows)],
        [
            "GET /v1/nodes with one such peer".to_owned(),
            millis(looked),
        ],
    ])
}

fn fan_out(built: &Built, amount: Amount, nodes: usize, undelivered: u32) -> Result<[String; 6]> {
    let group = Kind::Plugin.group().context("the plugin has groups")?;
    let mut rounds = Vec::new();
    for _ in 0..amount.rounds {
        let cluster = Cluster::start(nodes, built)?;
        let mut load = FanOut::connect(&cluster.addresses(), group, SUBSCRIBERS, undelivered)?;
        // All members are here, and the publisher's node has heard of all of them: a node tells of
        // its clients before it tells of their groups.
        cluster.nodes[0].wait_for_members("console", "g", SUBSCRIBERS as u64)?;
        load.crowd().waiting = amount.waiting;
        load.run(Instant::now() + Duration::from_secs(1))?;
        load.take_times();
        let before = cpu(&cluster)?;
        let started = Instant::now();
        let delivered = load.run(started + amount.duration)? as f64;
        let elapsed = started.elapsed().as_secs_f64();
        let after = cpu(&cluster)?;
        let mut times = load.take_times();
        load.finish()?;
        let used: Vec<f64> = after
            .iter()
            .zip(&before)
            .map(|(after, before)| (*after - *before).as_secs_f64())
            .collect();
        rounds.push([
            delivered / elapsed,
            share(&mut times, 500),
            share(&mut times, 990),
            used[0] * 1e6 / delivered,
            used.iter().sum::<f64>() * 1e6 / delivered,
        ]);
    }
    ensure!(!rounds.is_empty(), "no rounds");
    let middle = |column: usize| median(rounds.iter().map(|round| round[column]));
    Ok([
        nodes.to_string(),
        thousands(middle(0)),
        thousands(middle(1)),
        thousands(middle(2)),
        format!("{:.2}", middle(3)),
        format!("{:.2}", middle(4)),
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

fn micros(times: &mut [Duration], of_thousand: usize) -> String {
    thousands(share(times, of_thousand))
}

/// The microseconds that so many of a thousand stay below.
fn share(times: &mut [Duration], of_thousand: usize) -> f64 {
    let place = (times.len() * of_thousand / 1000).min(times.len() - 1);
    times.select_nth_unstable(place).1.as_secs_f64() * 1e6
}
