//! Fan-out: one client publishes to a group, and each of its many subscribers gets it. So
//! many publishes are undelivered at a time; the next goes out when the oldest of them has
//! reached everybody.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Load;
use crate::crowd::{Crowd, soon};
use crate::frame::{Payload, payload};

/// How a server is told to join and to publish.
#[derive(Clone, Copy)]
pub(crate) struct Group {
    /// Where a subscriber connects; it is greeted when it has joined.
    pub(crate) subscribe: &'static str,
    /// Where the publisher connects; it is greeted too.
    pub(crate) publish: &'static str,
    /// What goes around a text to publish it.
    pub(crate) before: &'static str,
    /// What goes behind it.
    pub(crate) after: &'static str,
    /// Whether a publish is answered.
    pub(crate) is_answered: bool,
}

/// One publisher, and a group of subscribers.
pub(crate) struct FanOut {
    crowd: Crowd,
    group: Group,
    publisher: usize,
    undelivered: u32,
    published: u32,
    /// Publishes that have reached everybody.
    delivered: u32,
    answered: u32,
    /// Of each subscriber: how many it has got.
    received: Vec<u32>,
    /// The undelivered publishes, by their number modulo how many there are.
    under_way: Vec<Publish>,
    /// Of each delivery, how long it took from its publish on, in microseconds.
    took: Vec<u32>,
}

/// A message that is not everywhere yet.
struct Publish {
    text: Payload,
    at: Instant,
    /// How many have got it.
    reached: usize,
}

impl Publish {
    fn new(number: u32) -> Publish {
        Publish {
            text: payload(0, number),
            at: Instant::now(),
            reached: 0,
        }
    }
}

impl FanOut {
    /// Connects a group's subscribers, to each of the addresses in turn, and the publisher, to
    /// the first.
    pub(crate) fn connect(
        addresses: &[SocketAddr],
        group: Group,
        subscribers: usize,
        undelivered: u32,
    ) -> Result<FanOut> {
        let mut crowd = Crowd::connect(addresses, group.subscribe, subscribers)?;
        let publisher = crowd.connect_one(addresses[0], group.publish)?;
        crowd.wait_for_greetings()?;
        Ok(FanOut {
            crowd,
            group,
            publisher,
            undelivered,
            published: 0,
            delivered: 0,
            answered: 0,
            received: vec![0; subscribers],
            under_way: (0..undelivered).map(Publish::new).collect(),
            took: Vec::new(),
        })
    }

    /// How long each delivery took since this was last asked, from its publish on.
    pub(crate) fn take_times(&mut self) -> Vec<Duration> {
        let took = std::mem::take(&mut self.took).into_iter();
        took.map(|micros| Duration::from_micros(micros.into()))
            .collect()
    }

    /// Publishes up to so many undelivered.
    fn publish(&mut self) -> Result<()> {
        if self.published - self.delivered == self.undelivered {
            return Ok(());
        }
        let publisher = &mut self.crowd.clients[self.publisher];
        while self.published - self.delivered < self.undelivered {
            let publish = Publish::new(self.published);
            let mut request = Vec::with_capacity(128);
            request.extend_from_slice(self.group.before.as_bytes());
            request.extend_from_slice(&publish.text);
            request.extend_from_slice(self.group.after.as_bytes());
            publisher.append(&request);
            self.under_way[(self.published % self.undelivered) as usize] = publish;
            self.published += 1;
        }
        publisher.send()
    }

    fn turn(&mut self, until: Instant) -> Result<u64> {
        let FanOut {
            crowd,
            group,
            publisher,
            undelivered,
            published,
            delivered,
            answered,
            received,
            under_way,
            took,
        } = self;
        let subscribers = received.len();
        let mut deliveries = 0;
        crowd.turn(until, |number, client, scratch| {
            if number == *publisher {
                return client.receive(scratch, |answer| {
                    check_answer(group, answer, subscribers)?;
                    *answered += 1;
                    Ok(())
                });
            }
            let received = &mut received[number];
            let now = Instant::now();
            client.receive(scratch, |text| {
                ensure!(received < published, "a delivery came twice");
                let publish = &mut under_way[(*received % *undelivered) as usize];
                ensure!(text == publish.text, "not the delivery that is due");
                took.push(u32::try_from((now - publish.at).as_micros()).unwrap_or(u32::MAX));
                publish.reached += 1;
                *received += 1;
                deliveries += 1;
                if publish.reached == subscribers {
                    // In order everywhere, so those before have reached everybody.
                    *delivered = *received;
                }
                Ok(())
            })
        })?;
        Ok(deliveries)
    }
}

impl Load for FanOut {
    fn run(&mut self, until: Instant) -> Result<u64> {
        let mut deliveries = 0;
        while Instant::now() < until {
            self.publish()?;
            deliveries += self.turn(until)?;
        }
        Ok(deliveries)
    }

    fn finish(&mut self) -> Result<()> {
        let answers = |load: &FanOut| match load.group.is_answered {
            true => load.published,
            false => 0,
        };
        while self.delivered < self.published || self.answered < answers(self) {
            self.turn(soon())?;
        }
        Ok(())
    }

    fn crowd(&mut self) -> &mut Crowd {
        &mut self.crowd
    }
}

fn check_answer(group: &Group, answer: &[u8], subscribers: usize) -> Result<()> {
    let answer = String::from_utf8_lossy(answer);
    let all = format!("\"clients\":{subscribers},\"dropped\":0");
    ensure!(
        group.is_answered && answer.contains(&all),
        "a publish was answered with {answer:?}"
    );
    Ok(())
}
