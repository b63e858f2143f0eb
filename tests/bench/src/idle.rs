//! Idle clients: what of a server stays in memory for each of 10,000 that say nothing; and what
//! a server does that has no clients at all.
//!
//! The kernel's memory for their sockets is not counted: it is the same for every server.

use std::io::Write as _;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::load::Echo;
use crate::machine::{self, Activity, Resident};
use crate::run::in_rounds;
use crate::server::{Built, Kind, Server};
use crate::table::{median, table};

const CLIENTS: usize = 10_000;

const SERVERS: [Kind; 3] = [Kind::Bare, Kind::Native, Kind::Plugin];

/// How long a server gets to clear up after the last handshake.
const SETTLE: Duration = Duration::from_secs(1);

/// How long a server that has nothing to do is watched, after `BUSY_FOR`.
const WATCHED_FOR: Duration = Duration::from_secs(10);

/// How long a node looks at its plugins folder often after a change: its start is one.
const BUSY_FOR: Duration = Duration::from_secs(11);

/// One server: its resident memory, and what it does at rest.
struct Measured {
    at_rest: Activity,
    without_clients: Resident,
    idle: Resident,
    after_an_echo: Resident,
}

/// Measures each server `rounds` times, and prints the table.
pub(crate) fn run_idle(built: &Built, rounds: usize) -> Result<()> {
    let servers = built.servers(&SERVERS);
    let measured = in_rounds(&servers, rounds, |kind| measure(kind, built))?;
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}\n", machine::describe())?;
    writeln!(stdout, "{CLIENTS} idle clients, resident bytes for each\n")?;
    writeln!(stdout, "{}", report(&servers, &measured))?;
    writeln!(stdout, "without clients, in a second\n")?;
    writeln!(stdout, "{}", report_at_rest(&servers, &measured))?;
    Ok(())
}

fn measure(kind: Kind, built: &Built) -> Result<Measured> {
    let server = Server::start(kind, built)?;
    thread::sleep(BUSY_FOR);
    let before = server.activity()?;
    thread::sleep(WATCHED_FOR);
    let at_rest = server.activity()?.since(before);
    // The first client brings in code and buffers that all of them share.
    Echo::connect(server.address, kind.echo_path(), 1, 1)?.once()?;
    let without_clients = settled(&server)?;
    let mut clients = Echo::connect(server.address, kind.echo_path(), CLIENTS, 1)?;
    let idle = settled(&server)?;
    clients.once()?;
    let after_an_echo = settled(&server)?;
    Ok(Measured {
        at_rest,
        without_clients,
        idle,
        after_an_echo,
    })
}

fn settled(server: &Server) -> Result<Resident> {
    thread::sleep(SETTLE);
    server.resident()
}

fn report(servers: &[Kind], measured: &[Vec<Measured>]) -> String {
    let rows = servers.iter().zip(measured).map(|(kind, rounds)| {
        let each = |value: fn(&Measured) -> (u64, u64)| {
            let bytes = rounds.iter().map(|measured| {
                let (with, without) = value(measured);
                per_client(with, without)
            });
            format!("{:.0}", median(bytes))
        };
        let mib = rounds
            .iter()
            .map(|measured| per_mib(measured.without_clients.bytes));
        [
            kind.name().to_owned(),
            each(|m| (m.idle.bytes, m.without_clients.bytes)),
            each(|m| (m.idle.anonymous_bytes, m.without_clients.anonymous_bytes)),
            each(|m| (m.after_an_echo.bytes, m.without_clients.bytes)),
            each(|m| {
                let without = m.without_clients.anonymous_bytes;
                (m.after_an_echo.anonymous_bytes, without)
            }),
            format!("{:.1}", median(mib)),
        ]
    });
    let head = [
        "",
        "idle: RSS",
        "of it allocated",
        "after an echo each: RSS",
        "of it allocated",
        "without clients, MiB",
    ];
    table(head, rows)
}

fn report_at_rest(servers: &[Kind], measured: &[Vec<Measured>]) -> String {
    let seconds = WATCHED_FOR.as_secs_f64();
    let rows = servers.iter().zip(measured).map(|(kind, rounds)| {
        let of_each = |value: fn(&Activity) -> f64| {
            median(
                rounds
                    .iter()
                    .map(|measured| value(&measured.at_rest) / seconds),
            )
        };
        #[expect(clippy::cast_precision_loss, reason = "few waits")]
        let waits = of_each(|activity| activity.waits as f64);
        let cpu = of_each(|activity| activity.cpu.as_secs_f64());
        [
            kind.name().to_owned(),
            format!("{waits:.0}"),
            format!("{:.3} %", cpu * 100.0),
        ]
    });
    table(["", "wake-ups", "processor"], rows)
}

#[expect(clippy::cast_precision_loss, reason = "memory has less than 53 bits")]
fn per_client(with: u64, without: u64) -> f64 {
    (with as f64 - without as f64) / CLIENTS as f64
}

#[expect(clippy::cast_precision_loss, reason = "memory has less than 53 bits")]
fn per_mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
