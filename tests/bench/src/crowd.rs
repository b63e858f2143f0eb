//! Many clients of one server, driven from one thread through one epoll.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mio::{Events, Interest, Poll, Token};

use crate::connection::{Connecting, Connection, Scratch};

/// Many clients of one server.
pub(crate) struct Crowd {
    pub(crate) clients: Vec<Connection>,
    /// How they wait for the server.
    pub(crate) waiting: Waiting,
    poll: Poll,
    events: Events,
    scratch: Scratch,
    heard_at: Instant,
}

/// How clients wait for their server when nothing has arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Asleep. A write that finds them so wakes them up, and the server pays for that: the
    /// slower it is, the more often they sleep.
    #[default]
    Sleeping,
    /// Looking again and again, as if they were on machines of their own: a write costs the
    /// server no wake-up.
    Polling,
}

/// Handshakes under way at once: below what a listener's backlog and a node's limit take.
const HANDSHAKES: usize = 128;

/// Events taken at once.
const EVENTS: usize = 1024;

/// How long all clients together may wait for something before the run is given up.
const PATIENCE: Duration = Duration::from_secs(15);

impl Crowd {
    /// Connects `number` clients, to each of the addresses in turn.
    pub(crate) fn connect(addresses: &[SocketAddr], path: &str, number: usize) -> Result<Crowd> {
        Crowd::connect_with(addresses, path, number, "")
    }

    /// The same, with more lines in the heads of the handshakes.
    pub(crate) fn connect_with(
        addresses: &[SocketAddr],
        path: &str,
        number: usize,
        lines: &str,
    ) -> Result<Crowd> {
        let mut crowd = Crowd {
            clients: Vec::with_capacity(number),
            waiting: Waiting::default(),
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            scratch: Scratch::new(),
            heard_at: Instant::now(),
        };
        while crowd.clients.len() < number {
            let batch = HANDSHAKES.min(number - crowd.clients.len());
            let connecting: Result<Vec<_>> = (0..batch)
                .map(|place| addresses[(crowd.clients.len() + place) % addresses.len()])
                .map(|address| Connecting::start_with(address, path, lines))
                .collect();
            for connecting in connecting? {
                crowd.add(connecting.finish()?)?;
            }
        }
        crowd.heard_at = Instant::now();
        Ok(crowd)
    }

    /// Connects one more; its number is the answer.
    pub(crate) fn connect_one(&mut self, address: SocketAddr, path: &str) -> Result<usize> {
        self.add(Connecting::start(address, path)?.finish()?)
    }

    /// Waits for something to arrive, until `until` at the latest. `each` gets the number of
    /// the client that can read, the client, and the buffer to read with.
    pub(crate) fn turn(
        &mut self,
        until: Instant,
        mut each: impl FnMut(usize, &mut Connection, &mut Scratch) -> Result<()>,
    ) -> Result<()> {
        let now = Instant::now();
        let wait = match self.waiting {
            Waiting::Sleeping => until - now,
            Waiting::Polling => Duration::ZERO,
        };
        match self.poll.poll(&mut self.events, Some(wait)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error).context("cannot wait for the server"),
        }
        for event in &self.events {
            let Token(number) = event.token();
            let client = &mut self.clients[number];
            if event.is_writable() {
                client.send()?;
            }
            if event.is_readable() {
                each(number, client, &mut self.scratch)
                    .with_context(|| format!("client {number}"))?;
            }
        }
        if !self.events.is_empty() {
            self.heard_at = now;
        } else if now - self.heard_at > PATIENCE {
            bail!("nothing has arrived for {} s", PATIENCE.as_secs());
        }
        Ok(())
    }

    /// Hands over a frame of each client: the greeting that a server sends.
    pub(crate) fn wait_for_greetings(&mut self) -> Result<()> {
        let mut greeted = vec![0_usize; self.clients.len()];
        for (client, greetings) in self.clients.iter_mut().zip(&mut greeted) {
            client.receive_early(|_| {
                *greetings += 1;
                Ok(())
            })?;
        }
        while greeted.contains(&0) {
            self.turn(soon(), |number, client, scratch| {
                client.receive(scratch, |_| {
                    greeted[number] += 1;
                    Ok(())
                })
            })?;
        }
        let once = greeted.iter().all(|greetings| *greetings == 1);
        ensure!(once, "a client was greeted more than once");
        Ok(())
    }

    fn add(&mut self, mut client: Connection) -> Result<usize> {
        let number = self.clients.len();
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        registry.register(&mut client.socket, Token(number), interest)?;
        self.clients.push(client);
        Ok(number)
    }
}

/// When a turn without another end should look around.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_millis(100)
}
