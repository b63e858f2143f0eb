//! Echo in a closed loop: each client has so many messages in flight and sends the next when
//! one is answered.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Result, ensure};

use super::Load;
use crate::connection::Connection;
use crate::crowd::{Crowd, soon};
use crate::frame::payload;

/// Echo in a closed loop.
pub(crate) struct Echo {
    crowd: Crowd,
    places: Vec<Place>,
    in_flight: u32,
}

/// How far a client is: its answers come in the order of its messages.
#[derive(Clone, Copy, Default)]
struct Place {
    sent: u32,
    answered: u32,
}

impl Echo {
    /// Connects the clients.
    pub(crate) fn connect(
        address: SocketAddr,
        path: &str,
        clients: usize,
        in_flight: u32,
    ) -> Result<Echo> {
        Ok(Echo {
            crowd: Crowd::connect(&[address], path, clients)?,
            places: vec![Place::default(); clients],
            in_flight,
        })
    }

    /// One message of each client, and its answer.
    pub(crate) fn once(&mut self) -> Result<()> {
        let in_flight = std::mem::replace(&mut self.in_flight, 1);
        self.fill()?;
        self.finish()?;
        self.in_flight = in_flight;
        Ok(())
    }

    /// Brings each client up to its messages in flight.
    fn fill(&mut self) -> Result<()> {
        let clients = self.crowd.clients.iter_mut().zip(&mut self.places);
        for (number, (client, place)) in (0..).zip(clients) {
            place.fill(number, client, self.in_flight)?;
        }
        Ok(())
    }

    fn turn(&mut self, until: Instant, goes_on: bool) -> Result<u64> {
        let Echo {
            crowd,
            places,
            in_flight,
        } = self;
        let mut answered = 0;
        crowd.turn(until, |number, client, scratch| {
            let place = &mut places[number];
            let number = u32::try_from(number)?;
            client.receive(scratch, |answer| {
                let expected = payload(number, place.answered);
                ensure!(answer == expected, wrong(answer, &expected));
                ensure!(place.answered < place.sent, "an answer came twice");
                place.answered += 1;
                answered += 1;
                Ok(())
            })?;
            if goes_on {
                place.fill(number, client, *in_flight)?;
            }
            Ok(())
        })?;
        Ok(answered)
    }
}

impl Load for Echo {
    fn run(&mut self, until: Instant) -> Result<u64> {
        self.fill()?;
        let mut answered = 0;
        while Instant::now() < until {
            answered += self.turn(until, true)?;
        }
        Ok(answered)
    }

    fn finish(&mut self) -> Result<()> {
        while self.places.iter().any(|place| place.answered < place.sent) {
            self.turn(soon(), false)?;
        }
        Ok(())
    }

    fn crowd(&mut self) -> &mut Crowd {
        &mut self.crowd
    }
}

impl Place {
    fn fill(&mut self, number: u32, client: &mut Connection, in_flight: u32) -> Result<()> {
        if self.sent - self.answered >= in_flight {
            return Ok(());
        }
        while self.sent - self.answered < in_flight {
            client.append(&payload(number, self.sent));
            self.sent += 1;
        }
        client.send()
    }
}

fn wrong(answer: &[u8], expected: &[u8]) -> String {
    let [answer, expected] = [answer, expected].map(String::from_utf8_lossy);
    format!("the answer is {answer:?} where {expected:?} is due")
}
