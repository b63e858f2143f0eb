//! A run: the servers one after another under the same load, in rounds.
//!
//! Each round starts each server anew and begins with another of them, so that what the
//! machine does meanwhile hits all alike; ratios are taken within a round, and medians over
//! the rounds.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;

use crate::chart;
use crate::crowd::Waiting;
use crate::load::{Echo, FanOut, Load};
use crate::machine;
use crate::measure::{Measured, measure};
use crate::server::{Built, Kind, Server};
use crate::table::{least, median, percent, table, thousands};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    /// How often each server is measured.
    pub(crate) rounds: usize,
    /// How long, each time.
    pub(crate) duration: Duration,
    /// How the clients wait.
    pub(crate) waiting: Waiting,
}

/// A load, and the servers that it is for.
struct Mode {
    title: &'static str,
    /// The name of its chart.
    chart: &'static str,
    servers: &'static [Kind],
    connect: fn(Kind, &Server) -> Result<Box<dyn Load>>,
}

const ECHO: [Mode; 2] = [
    Mode {
        title: "Echo, 64 bytes, 1,000 clients with 1 message in flight",
        chart: "echo-1",
        servers: &[Kind::Bare, Kind::Native, Kind::Plugin, Kind::PlainPlugin],
        connect: |kind, server| echo(kind, server, 1000, 1),
    },
    Mode {
        title: "Echo, 64 bytes, 100 clients with 16 messages in flight",
        chart: "echo-16",
        servers: &[Kind::Bare, Kind::Native, Kind::Plugin, Kind::PlainPlugin],
        connect: |kind, server| echo(kind, server, 100, 16),
    },
];

const FAN_OUT: [Mode; 2] = [
    Mode {
        title: "A group of 1,000, 64 bytes, 1 publish at a time; each delivery counts",
        chart: "group-1",
        servers: &[Kind::Bare, Kind::Plugin],
        connect: |kind, server| fan_out(kind, server, 1),
    },
    Mode {
        title: "A group of 1,000, 64 bytes, 16 publishes undelivered; each delivery counts",
        chart: "group-16",
        servers: &[Kind::Bare, Kind::Plugin],
        connect: |kind, server| fan_out(kind, server, 16),
    },
];

const WORKERS: [Mode; 3] = [
    Mode {
        title: "Workers: echo, 1,000 clients with 1 message in flight, all on both processors",
        chart: "workers-echo-1",
        servers: &[Kind::Workers(1), Kind::Workers(2)],
        connect: |kind, server| echo(kind, server, 1000, 1),
    },
    Mode {
        title: "Workers: echo, 100 clients with 16 messages in flight, all on both processors",
        chart: "workers-echo-16",
        servers: &[Kind::Workers(1), Kind::Workers(2)],
        connect: |kind, server| echo(kind, server, 100, 16),
    },
    Mode {
        title: "Workers: a group of 1,000, 16 publishes undelivered, all on both processors",
        chart: "workers-group-16",
        servers: &[Kind::Workers(1), Kind::Workers(2)],
        connect: |kind, server| fan_out(kind, server, 16),
    },
];

/// Clients of the fan-out.
const SUBSCRIBERS: usize = 1000;

/// Echo through a plugin, beside a native handler and the bare server.
pub(crate) fn run_echo(built: &Built, amount: Amount) -> Result<()> {
    run_modes(&ECHO, built, amount)
}

/// One worker and two, with the load on the same processors.
pub(crate) fn run_workers(built: &Built, amount: Amount) -> Result<()> {
    run_modes(&WORKERS, built, amount)
}

/// Deliveries to a group, beside the bare server.
pub(crate) fn run_fan_out(built: &Built, amount: Amount) -> Result<()> {
    run_modes(&FAN_OUT, built, amount)
}

fn echo(kind: Kind, server: &Server, clients: usize, in_flight: u32) -> Result<Box<dyn Load>> {
    let load = Echo::connect(server.address, kind.echo_path(), clients, in_flight)?;
    Ok(Box::new(load))
}

fn fan_out(kind: Kind, server: &Server, undelivered: u32) -> Result<Box<dyn Load>> {
    let group = kind.group();
    let group = anyhow::Context::context(group, "this server has no groups")?;
    let load = FanOut::connect(&[server.address], group, SUBSCRIBERS, undelivered)?;
    Ok(Box::new(load))
}

fn run_modes(modes: &[Mode], built: &Built, amount: Amount) -> Result<()> {
    let mut rounds: Vec<Vec<Vec<Measured>>> = modes.iter().map(|_| Vec::new()).collect();
    for round in 0..amount.rounds {
        eprintln!("round {} of {}", round + 1, amount.rounds);
        for (mode, rounds) in modes.iter().zip(&mut rounds) {
            rounds.push(run_round(mode, round, built, amount)?);
        }
    }
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}\n", machine::describe())?;
    for (mode, rounds) in modes.iter().zip(&rounds) {
        let servers = mode.servers(built);
        writeln!(stdout, "{}\n\n{}", mode.title, report(&servers, rounds))?;
        if let Some(folder) = &built.charts {
            let bars = servers.iter().enumerate().map(|(place, kind)| {
                let cpu = rounds.iter().map(|round| round[place].cpu_micros);
                (kind.name().to_owned(), median(cpu))
            });
            let title = format!("{}: server CPU, µs each", mode.title);
            chart::write(folder, mode.chart, &title, &bars.collect::<Vec<_>>())?;
        }
    }
    Ok(())
}

impl Mode {
    /// Its servers, and those that the run names; how many workers a server has is the node's alone.
    fn servers(&self, built: &Built) -> Vec<Kind> {
        match self.servers {
            [Kind::Workers(_), ..] => self.servers.to_vec(),
            servers => built.servers(servers),
        }
    }
}

/// Measures each of these servers `rounds` times, in rounds. In the answer, the measurements of a
/// server stand together, in the order of the servers.
pub(crate) fn in_rounds<T>(
    servers: &[Kind],
    rounds: usize,
    measure: impl Fn(Kind) -> Result<T>,
) -> Result<Vec<Vec<T>>> {
    let mut measured: Vec<Vec<T>> = servers.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for (kind, measured) in servers.iter().zip(&mut measured) {
            measured.push(measure(*kind)?);
        }
    }
    Ok(measured)
}

/// Measures each of a mode's servers once; in the answer they stand in the mode's order.
fn run_round(mode: &Mode, round: usize, built: &Built, amount: Amount) -> Result<Vec<Measured>> {
    let servers = mode.servers(built).into_iter();
    let mut round_of: Vec<(usize, Kind)> = servers.enumerate().collect();
    let first = round % round_of.len();
    round_of.rotate_left(first);
    let mut measured = Vec::new();
    for (place, kind) in round_of {
        let server = Server::start(kind, built)?;
        let mut load = (mode.connect)(kind, &server)?;
        load.crowd().waiting = amount.waiting;
        measured.push((place, measure(&server, &mut *load, amount.duration)?));
    }
    measured.sort_by_key(|(place, _)| *place);
    Ok(measured.into_iter().map(|(_, measured)| measured).collect())
}

fn report(servers: &[Kind], rounds: &[Vec<Measured>]) -> String {
    let rows = servers.iter().enumerate().map(|(place, kind)| {
        let of = |value: fn(&Measured) -> f64| rounds.iter().map(move |round| value(&round[place]));
        let ratio = rounds
            .iter()
            .map(|round| round[place].cpu_micros / round[0].cpu_micros);
        [
            kind.name().to_owned(),
            thousands(median(of(|measured| measured.rate))),
            format!("{:.2}", median(of(|measured| measured.cpu_micros))),
            format!("{:.2}", least(of(|measured| measured.cpu_micros))),
            format!("{:.2}", median(ratio)),
            percent(median(of(|measured| measured.server))),
            percent(median(of(|measured| measured.clients))),
            percent(median(of(|measured| measured.foreign))),
        ]
    });
    let head = [
        "",
        "messages/s",
        "server CPU µs each",
        "least",
        "ratio to the first",
        "server's core",
        "clients' core",
        "neighbours",
    ];
    table(head, rows)
}
