//! Fan-out: one client publishes to a group, and each of its many subscribers gets it. So
//! many publishes are undelivered at a time; the next goes out when the oldest of them has
//! reached everybody.

use std::net::SocketAddr;
use std::time::Instant;

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
    /// Of each undelivered publish, by its number modulo their number: its text, and how many
    /// have got it.
    under_way: Vec<(Payload, usize)>,
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
            under_way: vec![(payload(0, 0), 0); undelivered as usize],
        })
    }

    /// Publishes up to so many undelivered.
    fn publish(&mut self) -> Result<()> {
        if self.published - self.delivered == self.undelivered {
            return Ok(());
        }
        let publisher = &mut self.crowd.clients[self.publisher];
        while self.published - self.delivered < self.undelivered {
            let text = payload(0, self.published);
            self.under_way[(self.published % self.undelivered) as usize] = (text, 0);
            let mut request = Vec::with_capacity(128);
            request.extend_from_slice(self.group.before.as_bytes());
            request.extend_from_slice(&text);
            request.extend_from_slice(self.group.after.as_bytes());
            publisher.append(&request);
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
            client.receive(scratch, |text| {
                ensure!(received < published, "a delivery came twice");
                let (expected, reached) = &mut under_way[(*received % *undelivered) as usize];
                ensure!(text == expected, "not the delivery that is due");
                *reached += 1;
                *received += 1;
                deliveries += 1;
                if *reached == subscribers {
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
