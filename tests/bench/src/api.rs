//! The API: sends from a backend, one a request and many, over HTTP and over gRPC. Each is to
//! a uid, and has to arrive.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use self::jackfield::api::v1::api_client::ApiClient;
use self::jackfield::api::v1::operation::Operation as Function;
use self::jackfield::api::v1::outcome::Outcome;
use self::jackfield::api::v1::{BatchRequest, Message, Operation, SendToUidRequest, message};
use crate::crowd::{Crowd, soon};
use crate::machine;
use crate::run::Amount;
use crate::server::{Built, Kind, Server};
use crate::table::{median, table, thousands};

/// The packages of the schema, each in the module by which their types name each other.
#[allow(
    clippy::all,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    dead_code
)]
mod jackfield {
    pub(super) mod api {
        pub(crate) mod v1 {
            tonic::include_proto!("jackfield.api.v1");
        }
    }
    pub(super) mod trace {
        pub(crate) mod v1 {
            tonic::include_proto!("jackfield.trace.v1");
        }
    }
}

/// Sends of one run.
const SENDS: usize = 100_000;

/// Operations of a batch.
const BATCH: usize = 100;

/// Who gets them: clients that all have the uid `ada`, so each send is one delivery to each.
const RECEIVERS: usize = 1;

/// How the sends go out.
#[derive(Clone, Copy)]
enum Way {
    Http,
    Grpc,
}

/// Runs all of them, and prints the table.
pub(crate) fn run_api(built: &Built, amount: Amount) -> Result<()> {
    let mut rows = Vec::new();
    for (name, way, at_once, batch) in [
        ("HTTP, one at a time", Way::Http, 1, 1),
        ("HTTP, 32 connections", Way::Http, 32, 1),
        ("HTTP, batches of 100", Way::Http, 1, BATCH),
        ("gRPC, one at a time", Way::Grpc, 1, 1),
        ("gRPC, 32 at once", Way::Grpc, 32, 1),
        ("gRPC, batches of 100", Way::Grpc, 1, BATCH),
    ] {
        let mut rounds = Vec::new();
        for _ in 0..amount.rounds {
            eprintln!("{name}");
            rounds.push(measure(built, way, at_once, batch)?);
        }
        rows.push([
            name.to_owned(),
            thousands(median(rounds.iter().map(|round| round.0))),
            format!("{:.1}", median(rounds.iter().map(|round| round.1))),
        ]);
    }
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}\n", machine::describe())?;
    let head = ["", "sends/s", "server CPU µs each"];
    writeln!(
        stdout,
        "{} sends of 64 bytes through the API, each to a uid\n\n{}",
        thousands(SENDS as f64),
        table(head, rows)
    )?;
    Ok(())
}

/// Sends in a second, and what each cost the server.
fn measure(built: &Built, way: Way, at_once: usize, batch: usize) -> Result<(f64, f64)> {
    let server = Server::start(Kind::Plugin, built)?;
    let mut crowd = Crowd::connect(&[server.address], "/console?uid=ada", RECEIVERS)?;
    crowd.wait_for_greetings()?;
    let received = Arc::new(AtomicU64::new(0));
    let is_over = Arc::new(AtomicBool::new(false));
    let counting = {
        let (received, is_over) = (received.clone(), is_over.clone());
        thread::spawn(move || count(crowd, &received, &is_over))
    };
    let api = server.api.context("a node has an API")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let before = server.cpu()?;
    let started = Instant::now();
    runtime.block_on(async {
        let mut senders = JoinSet::new();
        let channel = Endpoint::from_shared(format!("http://{api}"))?
            .connect()
            .await?;
        for _ in 0..at_once {
            let requests = SENDS / at_once / batch;
            match way {
                Way::Http => senders.spawn(send_over_http(api, requests, batch)),
                Way::Grpc => senders.spawn(send_over_grpc(channel.clone(), requests, batch)),
            };
        }
        senders.join_all().await.into_iter().collect::<Result<()>>()
    })?;
    let sent = SENDS / at_once / batch * at_once * batch;
    while received.load(Ordering::Relaxed) < (sent * RECEIVERS) as u64 {
        ensure!(
            !counting.is_finished(),
            "the receivers have ended before all had arrived"
        );
        thread::sleep(Duration::from_millis(1));
    }
    let elapsed = started.elapsed().as_secs_f64();
    let used = (server.cpu()? - before).as_secs_f64();
    is_over.store(true, Ordering::Relaxed);
    counting
        .join()
        .map_err(|_| anyhow::anyhow!("the receivers' thread panicked"))??;
    ensure!(
        received.load(Ordering::Relaxed) == (sent * RECEIVERS) as u64,
        "more arrived than were sent"
    );
    Ok((sent as f64 / elapsed, used * 1e6 / sent as f64))
}

fn count(mut crowd: Crowd, received: &AtomicU64, is_over: &AtomicBool) -> Result<()> {
    while !is_over.load(Ordering::Relaxed) {
        crowd.turn(soon(), |_, client, scratch| {
            client.receive(scratch, |_| {
                received.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })
        })?;
    }
    Ok(())
}

fn text() -> String {
    "0123456789abcdef".repeat(4)
}

async fn send_over_http(api: SocketAddr, requests: usize, batch: usize) -> Result<()> {
    let one = format!(r#"{{"uids":["ada"],"message":{{"text":"{}"}}}}"#, text());
    let (path, body) = match batch {
        1 => ("/v1/plugins/console/send-to-uid", one),
        _ => {
            let one = one.replacen('{', r#"{"plugin":"console","#, 1);
            let operations = vec![format!(r#"{{"send_to_uid":{one}}}"#); batch].join(",");
            ("/v1/batch", format!(r#"{{"operations":[{operations}]}}"#))
        }
    };
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {api}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(api).await?;
    stream.set_nodelay(true)?;
    let mut read = Vec::new();
    for _ in 0..requests {
        stream.write_all(request.as_bytes()).await?;
        let answer = answer(&mut stream, &mut read).await?;
        let sent = answer.matches(r#""clients":1,"#).count();
        ensure!(sent == batch, "{batch} sends were answered with {answer}");
    }
    Ok(())
}

/// The body of the next answer.
async fn answer(stream: &mut TcpStream, read: &mut Vec<u8>) -> Result<String> {
    loop {
        let text = String::from_utf8_lossy(read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            ensure!(head.starts_with("HTTP/1.1 200 "), "{text}");
            let length = head.lines().find_map(|line| {
                line.to_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            });
            let length: usize = length.context("no content-length")?;
            if body.len() >= length {
                let body = body[..length].to_owned();
                read.drain(..head.len() + 4 + length);
                return Ok(body);
            }
        }
        ensure!(
            stream.read_buf(read).await? > 0,
            "the node closed the connection"
        );
    }
}

async fn send_over_grpc(channel: Channel, requests: usize, batch: usize) -> Result<()> {
    let mut client = ApiClient::new(channel);
    let kind = Some(message::Kind::Text(text()));
    let one = SendToUidRequest {
        plugin: "console".to_owned(),
        uids: vec!["ada".to_owned()],
        message: Some(Message { kind }),
        idempotency_key: String::new(),
    };
    let operation = Some(Function::SendToUid(one.clone()));
    let operations = vec![Operation { operation }; batch];
    for _ in 0..requests {
        if batch == 1 {
            let reach = client.send_to_uid(one.clone()).await?.into_inner();
            ensure!(reach.clients == 1, "{reach:?}");
            continue;
        }
        let operations = operations.clone();
        let done = client
            .batch(BatchRequest { operations })
            .await?
            .into_inner();
        let sent = done.outcomes.iter().filter(
            |outcome| matches!(&outcome.outcome, Some(Outcome::Reach(reach)) if reach.clients == 1),
        );
        ensure!(sent.count() == batch, "{done:?}");
    }
    Ok(())
}
