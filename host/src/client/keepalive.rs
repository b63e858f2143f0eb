//! The keepalive of a client: the pings to a silent one, and the end of its token.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};

use crate::limits::Limits;

/// Watches for signs of life. Any frame is a sign of life, and a silent client is sent a ping. The
/// same timer wakes the task of a client whose token expires.
pub(super) struct Keepalive {
    sleep: Pin<Box<Sleep>>,
    until: Option<Instant>,
    is_armed: bool,
    pub(super) heard: bool,
    pinged: bool,
}

pub(super) enum Heartbeat {
    Fine,
    Ping,
    Dead,
}

impl Keepalive {
    pub(super) fn new(limits: &Limits, until: Option<Instant>) -> Keepalive {
        let first = at_most(Instant::now() + limits.ping_every, until);
        Keepalive {
            sleep: Box::pin(tokio::time::sleep_until(first)),
            until,
            is_armed: false,
            heard: false,
            pinged: false,
        }
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // Armed once it wakes this task; until then a look at the clock's flag is enough.
        if self.is_armed && !self.sleep.is_elapsed() {
            return Poll::Pending;
        }
        self.is_armed = true;
        self.sleep.as_mut().poll(context)
    }

    pub(super) fn heartbeat(&mut self, limits: &Limits) -> Heartbeat {
        let (heartbeat, next) = match (self.heard, self.pinged) {
            // It has answered a ping: the time for that is a part of the next interval.
            (true, true) if limits.ping_timeout < limits.ping_every => {
                (Heartbeat::Fine, limits.ping_every - limits.ping_timeout)
            }
            (true, _) => (Heartbeat::Fine, limits.ping_every),
            (false, false) => (Heartbeat::Ping, limits.ping_timeout),
            (false, true) => (Heartbeat::Dead, limits.ping_timeout),
        };
        self.pinged = matches!(heartbeat, Heartbeat::Ping);
        self.heard = false;
        self.is_armed = false;
        let next = at_most(Instant::now() + next, self.until);
        self.sleep.as_mut().reset(next);
        heartbeat
    }

    /// Whether the time of the client's token is over.
    pub(super) fn is_over(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }
}

fn at_most(when: Instant, until: Option<Instant>) -> Instant {
    until.map_or(when, |until| when.min(until))
}
