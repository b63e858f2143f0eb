//! Compression: a page's worth of JSON to a group, with and without, beside the package `ws`.
//!
//! Clients offer permessage-deflate as browsers do. The first one that gets a message decompresses
//! and checks it, and the others must get the same bytes.

use std::io::Write as _;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use flate2::{Decompress, FlushDecompress};

use crate::chart;
use crate::crowd::{Crowd, soon};
use crate::load::{Group, Load};
use crate::machine;
use crate::measure::{Measured, measure};
use crate::run::{Amount, in_rounds};
use crate::server::{Built, Kind, Server};
use crate::table::{median, table, thousands};

const MEMBERS: usize = 1000;

const SERVERS: [Kind; 6] = [
    Kind::Plugin,
    Kind::Deflating(1),
    Kind::Deflating(3),
    Kind::Deflating(6),
    Kind::Ws,
    Kind::WsDeflating,
];

const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

/// What the last block of a message ends with, and is sent without (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Measures each server, and prints the table.
pub(crate) fn run_compress(built: &Built, amount: Amount) -> Result<()> {
    let measure = |kind| measure_one(kind, built, amount);
    let rounds = in_rounds(&SERVERS, amount.rounds, measure)?;
    if let Some(folder) = &built.charts {
        let bars = SERVERS.iter().zip(&rounds).map(|(kind, rounds)| {
            let cpu = rounds.iter().map(|(measured, _)| measured.cpu_micros);
            (kind.name().to_owned(), median(cpu))
        });
        let title = "Compression, a group of 1,000: server CPU, µs each";
        chart::write(folder, "compression", title, &bars.collect::<Vec<_>>())?;
    }
    let rows = SERVERS.iter().zip(&rounds).map(|(kind, rounds)| {
        let of = |value: fn(&(Measured, f64)) -> f64| median(rounds.iter().map(value));
        [
            kind.name().to_owned(),
            thousands(of(|(measured, _)| measured.rate)),
            format!("{:.2}", of(|(measured, _)| measured.cpu_micros)),
            format!("{:.0}", of(|(_, bytes)| *bytes)),
        ]
    });
    let head = ["", "deliveries/s", "server CPU µs each", "bytes each"];
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}\n", machine::describe())?;
    let bytes = text(0).len();
    writeln!(
        stdout,
        "A group of {MEMBERS}, {bytes} bytes of JSON, 1 publish at a time\n\n{}",
        table(head, rows)
    )?;
    Ok(())
}

fn measure_one(kind: Kind, built: &Built, amount: Amount) -> Result<(Measured, f64)> {
    let server = Server::start(kind, built)?;
    let group = kind.group().context("this server has no groups")?;
    let mut load = Pages::connect(&server, group)?;
    load.crowd().waiting = amount.waiting;
    let measured = measure(&server, &mut load, amount.duration)?;
    #[expect(clippy::cast_precision_loss, reason = "no count here has 53 bits")]
    let bytes = load.payload_bytes as f64 / load.deliveries as f64;
    Ok((measured, bytes))
}

/// A publisher, and a group that gets each of its messages before it sends the next one.
struct Pages {
    crowd: Crowd,
    group: Group,
    publisher: usize,
    published: u32,
    /// The members that have the current message.
    reached: usize,
    /// The current message: as it was published, and as it came to the first member.
    text: String,
    arrived: Option<Vec<u8>>,
    is_answered: bool,
    deliveries: u64,
    payload_bytes: u64,
}

/// An answer as a page may ask for: records that are alike, and yet not the same.
fn text(number: u32) -> String {
    let records = (0..12_u32).map(|record| {
        let id = number.wrapping_mul(2_654_435_761).wrapping_add(record * 97);
        format!(
            "{{'id':{id},'name':'player-{}','score':{},'online':{},'room':'lobby'}}",
            id % 1000,
            id % 77_777,
            id.is_multiple_of(2)
        )
    });
    // In a text of JSON, which quotes would end.
    format!("[{}]", records.collect::<Vec<_>>().join(","))
}

impl Pages {
    fn connect(server: &Server, group: Group) -> Result<Pages> {
        let members = [server.address];
        let mut crowd = Crowd::connect_with(&members, group.subscribe, MEMBERS, OFFER)?;
        let publisher = crowd.connect_one(server.address, group.publish)?;
        crowd.wait_for_greetings()?;
        Ok(Pages {
            crowd,
            group,
            publisher,
            published: 0,
            reached: MEMBERS,
            text: String::new(),
            arrived: None,
            is_answered: true,
            deliveries: 0,
            payload_bytes: 0,
        })
    }

    fn publish(&mut self) -> Result<()> {
        if self.reached < MEMBERS || !self.is_answered {
            return Ok(());
        }
        self.text = text(self.published);
        self.published += 1;
        (self.reached, self.arrived) = (0, None);
        self.is_answered = !self.group.is_answered;
        let request = [self.group.before, &self.text, self.group.after].concat();
        let publisher = &mut self.crowd.clients[self.publisher];
        publisher.append(request.as_bytes());
        publisher.send()
    }

    fn turn(&mut self, until: Instant) -> Result<u64> {
        let Pages {
            crowd,
            publisher,
            reached,
            text,
            arrived,
            is_answered,
            payload_bytes,
            ..
        } = self;
        let before = *reached;
        crowd.turn(until, |number, client, scratch| {
            if number == *publisher {
                return client.receive(scratch, |_| {
                    *is_answered = true;
                    Ok(())
                });
            }
            client.receive(scratch, |payload| {
                match arrived {
                    Some(first) => ensure!(payload == first, "members got different bytes"),
                    None => {
                        check(payload, text)?;
                        *arrived = Some(payload.to_vec());
                    }
                }
                *reached += 1;
                *payload_bytes += payload.len() as u64;
                Ok(())
            })
        })?;
        let deliveries = (self.reached - before) as u64;
        self.deliveries += deliveries;
        Ok(deliveries)
    }
}

fn check(payload: &[u8], text: &str) -> Result<()> {
    if payload == text.as_bytes() {
        return Ok(());
    }
    let mut state = Decompress::new(false);
    let mut decompressed = Vec::with_capacity(text.len() + 100);
    let whole = [payload, &TAIL].concat();
    state.decompress_vec(&whole, &mut decompressed, FlushDecompress::Sync)?;
    ensure!(
        decompressed == text.as_bytes(),
        "not the message that is due"
    );
    Ok(())
}

impl Load for Pages {
    fn run(&mut self, until: Instant) -> Result<u64> {
        let mut deliveries = 0;
        while Instant::now() < until {
            self.publish()?;
            deliveries += self.turn(until)?;
        }
        Ok(deliveries)
    }

    fn finish(&mut self) -> Result<()> {
        while self.reached < MEMBERS || !self.is_answered {
            self.turn(soon())?;
        }
        Ok(())
    }

    fn crowd(&mut self) -> &mut Crowd {
        &mut self.crowd
    }
}
