//! Bursts: what a server keeps of the memory that it needed for a while.

use std::io::Write as _;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::connection::Connecting;
use crate::load::Echo;
use crate::machine;
use crate::run::in_rounds;
use crate::server::{Built, Kind, Server};
use crate::table::{median, table};

const SERVERS: [Kind; 2] = [Kind::Bare, Kind::Plugin];

/// Handshakes that do not end.
const HANDSHAKES: usize = 4_000;

/// Clients that begin a message, and the bytes of it that they send.
const CLIENTS: usize = 1_000;
const BYTES: usize = 60_000;

/// How long a server gets to take in what it is sent, and to give back what it took.
const SETTLE: Duration = Duration::from_secs(5);

/// Resident memory, in bytes.
struct Measured {
    before: u64,
    handshakes: u64,
    after_handshakes: u64,
    messages: u64,
    after_messages: u64,
}

/// Measures each server, and prints the table.
pub(crate) fn run_burst(built: &Built, rounds: usize) -> Result<()> {
    let servers = built.servers(&SERVERS);
    let measured = in_rounds(&servers, rounds, |kind| measure(kind, built))?;
    let rows = servers.iter().zip(&measured).map(|(kind, rounds)| {
        #[expect(clippy::cast_precision_loss, reason = "memory has less than 53 bits")]
        let mib = |value: fn(&Measured) -> u64| {
            let bytes = median(rounds.iter().map(|measured| value(measured) as f64));
            format!("{:.0}", bytes / f64::from(1 << 20))
        };
        [
            kind.name().to_owned(),
            mib(|measured| measured.before),
            mib(|measured| measured.handshakes),
            mib(|measured| measured.after_handshakes),
            mib(|measured| measured.messages),
            mib(|measured| measured.after_messages),
        ]
    });
    let head = [
        "",
        "before, MiB",
        "handshakes",
        "5 s later",
        "messages",
        "5 s later",
    ];
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}\n", machine::describe())?;
    writeln!(
        stdout,
        "{HANDSHAKES} handshakes that do not end, and {CLIENTS} messages of which {BYTES} bytes \
         come; resident memory\n\n{}",
        table(head, rows)
    )?;
    Ok(())
}

fn measure(kind: Kind, built: &Built) -> Result<Measured> {
    let server = Server::start(kind, built)?;
    Echo::connect(server.address, kind.echo_path(), 1, 1)?.once()?;
    let settled = || -> Result<u64> {
        thread::sleep(SETTLE);
        Ok(server.resident()?.bytes)
    };
    let before = settled()?;
    let head = format!(
        "GET {} HTTP/1.1\r\nHost: here\r\nUpgrade: web",
        kind.echo_path()
    );
    let mut handshakes = Vec::with_capacity(HANDSHAKES);
    for _ in 0..HANDSHAKES {
        let mut socket = TcpStream::connect(server.address)?;
        socket.write_all(head.as_bytes())?;
        handshakes.push(socket);
    }
    let with_handshakes = settled()?;
    drop(handshakes);
    let after_handshakes = settled()?;
    let mut clients = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        let (mut socket, _) = Connecting::start(server.address, kind.echo_path())?.open()?;
        socket.write_all(&beginning_of_message())?;
        clients.push(socket);
    }
    let messages = settled()?;
    drop(clients);
    Ok(Measured {
        before,
        handshakes: with_handshakes,
        after_handshakes,
        messages,
        after_messages: settled()?,
    })
}

/// A masked frame of text that is one byte longer than what comes of it.
fn beginning_of_message() -> Vec<u8> {
    let length = u16::try_from(BYTES + 1).unwrap_or(u16::MAX).to_be_bytes();
    let mut frame = vec![0x81, 0x80 | 126, length[0], length[1], 0, 0, 0, 0];
    frame.resize(frame.len() + BYTES, b'm');
    frame
}
