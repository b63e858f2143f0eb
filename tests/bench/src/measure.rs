//! One measurement: a load for a while, and what the server used meanwhile.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::load::Load;
use crate::machine;
use crate::server::Server;

/// What was seen of a server under a load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// Messages that arrived at the clients in a second.
    pub(crate) rate: f64,
    /// CPU time of the server for each of them, in microseconds.
    pub(crate) cpu_micros: f64,
    /// The server's share of its processor.
    pub(crate) server: f64,
    /// The clients' share of theirs.
    pub(crate) clients: f64,
    /// Processors that neither of them used and that were busy all the same: the neighbours.
    pub(crate) foreign: f64,
}

/// CPU times at one moment.
struct Reading {
    at: Instant,
    server: Duration,
    clients: Duration,
    all: Duration,
}

/// How long a load runs before it is measured.
const WARM_UP: Duration = Duration::from_secs(1);

/// Runs a load against a server, and measures `duration` of it.
pub(crate) fn measure(
    server: &Server,
    load: &mut dyn Load,
    duration: Duration,
) -> Result<Measured> {
    load.run(Instant::now() + WARM_UP)?;
    let before = Reading::take(server)?;
    let messages = load.run(Instant::now() + duration)?;
    let after = Reading::take(server)?;
    load.finish()?;
    Ok(before.to(&after, messages))
}

impl Reading {
    fn take(server: &Server) -> Result<Reading> {
        Ok(Reading {
            server: server.cpu()?,
            clients: machine::cpu_of(std::process::id())?,
            all: machine::cpu_of_all()?,
            at: Instant::now(),
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "no count here has 53 bits")]
    fn to(&self, after: &Reading, messages: u64) -> Measured {
        let elapsed = (after.at - self.at).as_secs_f64();
        let server = (after.server - self.server).as_secs_f64();
        let clients = (after.clients - self.clients).as_secs_f64();
        let all = (after.all - self.all).as_secs_f64();
        Measured {
            rate: messages as f64 / elapsed,
            cpu_micros: server * 1e6 / messages as f64,
            server: server / elapsed,
            clients: clients / elapsed,
            foreign: (all - server - clients).max(0.0) / elapsed,
        }
    }
}
