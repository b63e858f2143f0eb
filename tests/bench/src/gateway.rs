//! Gateways: what an event costs that another node handles, beside one of the same client at the
//! node itself.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cluster::Cluster;
use crate::load::{Echo, Load as _};
use crate::machine;
use crate::run::Amount;
use crate::server::Built;
use crate::table::{median, table, thousands};

/// Runs all of it, and prints the table.
pub(crate) fn run_gateway(built: &Built, amount: Amount) -> Result<()> {
    let mut rows = Vec::new();
    for (clients, in_flight) in [(1, 1), (1_000, 1), (100, 16)] {
        for (place, name) in [(1, "here"), (0, "at another node")] {
            let mut rounds = Vec::new();
            for _ in 0..amount.rounds {
                eprintln!("{clients} clients, {in_flight} in flight, {name}");
                rounds.push(measure(built, amount, place, clients, in_flight)?);
            }
            let middle = |column: usize| median(rounds.iter().map(|round| round[column]));
            rows.push([
                format!("{} × {in_flight}", thousands(f64::from(clients))),
                name.to_owned(),
                thousands(middle(0)),
                format!("{:.2}", middle(1)),
                format!("{:.2}", middle(2)),
            ]);
        }
    }
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}\n", machine::describe())?;
    let head = [
        "clients × in flight",
        "the plugin runs",
        "messages/s",
        "their node, CPU µs each",
        "the other node, CPU µs each",
    ];
    writeln!(stdout, "Echo of 64 bytes\n\n{}", table(head, rows))?;
    Ok(())
}

/// Messages in a second, and what each cost the node of the clients and the other one. In both
/// cases both run: the clients come to the gateway, or to its worker.
fn measure(
    built: &Built,
    amount: Amount,
    place: usize,
    clients: u16,
    in_flight: u32,
) -> Result<[f64; 3]> {
    let cluster = Cluster::start_gateway(built)?;
    let theirs = &cluster.nodes[place];
    let other = &cluster.nodes[1 - place];
    let mut load = Echo::connect(theirs.clients, "/echo", usize::from(clients), in_flight)?;
    load.crowd().waiting = amount.waiting;
    load.once()?;
    load.run(Instant::now() + Duration::from_secs(1))?;
    let before = (theirs.cpu()?, other.cpu()?);
    let started = Instant::now();
    let echoed = load.run(started + amount.duration)? as f64;
    let elapsed = started.elapsed().as_secs_f64();
    let used = [theirs.cpu()? - before.0, other.cpu()? - before.1];
    load.finish()?;
    let [theirs, other] = used.map(|used| used.as_secs_f64() * 1e6 / echoed);
    Ok([echoed / elapsed, theirs, other])
}
