//! How late a healthy plugin's events are beside a plugin that takes all it can get.
//!
//! In one process: a runtime of two workers, the plugin `console`, which takes what it can, and a
//! task that sleeps for a millisecond again and again and then has the plugin `echo` answer a
//! message. Each row is another way to take all. The first row is what the machine itself adds.
//!
//! `cargo bench -p jackfield-bench --bench fairness`; the components are those of
//! `JACKFIELD_PLUGINS`, or where `cargo xtask bench` leaves them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use jackfield::config::CacheFolder;
use jackfield::counters::Counters;
use jackfield::guest::{CompilerOptions, Services, compile_if_asked};
use jackfield::id::Incarnation;
use jackfield::limits::{Limits, PluginLimits};
use jackfield::message::Message;
use jackfield::plugin::{Plugin, Plugins, Turn};
use jackfield::registry::{Arrival, Registry};
use jackfield::tracer::Tracer;
use tokio::task::JoinSet;

const WORKERS: usize = 2;
const MEASURED: Duration = Duration::from_secs(5);

/// The time before a measurement, in which what takes all gets under way.
const WARM_UP: Duration = Duration::from_secs(1);

/// No guest ends while it is measured.
const ENDLESS: Duration = Duration::from_secs(600);

/// The events that a client without a socket can be answered.
const EVENTS_A_CLIENT: u32 = 500;

/// What the plugin `console` does meanwhile.
#[derive(Clone, Copy)]
enum Beside {
    Nothing,
    /// So many clients' events loop for ever.
    Clients(usize),
    /// So many timers, whose events carry out this request, 100 times a second.
    Timers(usize, &'static str),
    /// So many clients' events eat memory until it is refused, again and again.
    Eaters(usize),
}

const ROWS: [(&str, Beside); 7] = [
    ("nothing else to do", Beside::Nothing),
    ("2 clients that spin", Beside::Clients(2)),
    ("64 clients that spin", Beside::Clients(64)),
    (
        "250 timers that spin",
        Beside::Timers(250, r#""do":"spin""#),
    ),
    (
        "900 timers that spin for 1 ms each",
        Beside::Timers(900, r#""do":"spin","ms":1"#),
    ),
    (
        "900 timers with little to do",
        Beside::Timers(900, r#""do":"is-online""#),
    ),
    ("64 clients that eat memory", Beside::Eaters(64)),
];

fn main() -> Result<ExitCode> {
    if let Some(code) = compile_if_asked() {
        return Ok(code);
    }
    let mut stdout = std::io::stdout().lock();
    writeln!(
        stdout,
        "| an event after 1 ms is late by, ms | p50 | p99 | at most |\n|---|---:|---:|---:|"
    )?;
    for (name, beside) in ROWS {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .enable_all()
            .build()?;
        let late = runtime.block_on(measure(beside))?;
        runtime.shutdown_background();
        let at = |share: usize| late[(late.len() - 1) * share / 100];
        let (p50, p99, most) = (at(50), at(99), at(100));
        writeln!(stdout, "| {name} | {p50:.1} | {p99:.1} | {most:.1} |")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// How late each of a row of events was answered, in milliseconds, sorted.
async fn measure(beside: Beside) -> Result<Vec<f64>> {
    let folder = tempfile::tempdir()?;
    let plugins = plugins(folder.path()).await?;
    let console = plugins.get("console").context("the console is there")?;
    let echo = plugins.get("echo").context("the echo is there")?;
    let mut others = JoinSet::new();
    begin(beside, &console, &mut others).await?;
    tokio::time::sleep(WARM_UP).await;
    let mut late = tokio::spawn(events(echo)).await??;
    anyhow::ensure!(
        others.try_join_next().is_none(),
        "an event ended before the measurement"
    );
    late.sort_by(f64::total_cmp);
    Ok(late)
}

async fn begin(beside: Beside, console: &Arc<Plugin>, others: &mut JoinSet<()>) -> Result<()> {
    match beside {
        Beside::Nothing => {}
        Beside::Clients(clients) => {
            for _ in 0..clients {
                others.spawn(say(console.clone(), r#"{"do":"spin"}"#, false));
            }
        }
        Beside::Eaters(clients) => {
            for _ in 0..clients {
                others.spawn(say(console.clone(), r#"{"do":"eat-memory"}"#, true));
            }
        }
        Beside::Timers(timers, request) => {
            let client = console.namespace().arrive(Arrival::default());
            let session = console.session(None);
            for number in 0..timers {
                let name = format!(r#"do:{{{request},"id":{number}}}"#).replace('"', r#"\""#);
                let set =
                    format!(r#"{{"do":"set-timer","name":"{name}","after_ms":10,"every_ms":10}}"#);
                let mut turn = Turn::new(&session);
                let handled = turn.on_message(&client, Message::Text(&set)).await;
                anyhow::ensure!(handled.is_ok(), "no timer: {set}");
            }
        }
    }
    Ok(())
}

/// A client of the console says this, once or again and again.
async fn say(console: Arc<Plugin>, text: &'static str, is_repeated: bool) {
    let client = console.namespace().arrive(Arrival::default());
    let session = console.session(None);
    loop {
        let _ = Turn::new(&session)
            .on_message(&client, Message::Text(text))
            .await;
        if !is_repeated {
            return;
        }
        // An event that is refused at once has waited for nothing.
        tokio::task::yield_now().await;
    }
}

async fn events(echo: Arc<Plugin>) -> Result<Vec<f64>> {
    let started = Instant::now();
    let session = echo.session(None);
    let mut late = Vec::new();
    while started.elapsed() < MEASURED {
        let client = echo.namespace().arrive(Arrival::default());
        for _ in 0..EVENTS_A_CLIENT {
            let asleep = Instant::now();
            tokio::time::sleep(Duration::from_millis(1)).await;
            let mut turn = Turn::new(&session);
            let handled = turn.on_message(&client, Message::Text("hello")).await;
            anyhow::ensure!(handled.is_ok(), "the echo has failed");
            let over = asleep.elapsed().saturating_sub(Duration::from_millis(1));
            late.push(over.as_secs_f64() * 1e3);
        }
    }
    Ok(late)
}

async fn plugins(folder: &Path) -> Result<Arc<Plugins>> {
    for name in ["console.wasm", "echo.wasm"] {
        let original = built().join(name);
        std::fs::copy(&original, folder.join(name))
            .with_context(|| format!("{} is missing: `cargo xtask bench`", original.display()))?;
    }
    // The limits of the console; the events of the echo end long before. Those that eat memory all
    // fail, and a plugin on probation would be paused for that.
    std::fs::write(
        folder.join("console.toml"),
        format!(
            "[limits]\nevent_timeout = \"{0}s\"\nwait_timeout = \"{0}s\"\nprobation = \"0s\"\n",
            ENDLESS.as_secs()
        ),
    )?;
    let counters = Arc::<Counters>::default();
    let registry = Registry::new(
        Incarnation::draw()?,
        Limits::default(),
        counters,
        Tracer::default(),
        WORKERS,
        false,
    );
    let services = Services::in_memory()?;
    let compiler = CompilerOptions::new(&CacheFolder::Off, &Limits::default());
    let defaults = PluginLimits::default();
    Plugins::open(
        folder.into(),
        compiler,
        defaults,
        registry,
        None,
        services,
        Plugins::PATIENCE,
    )
    .await
}

fn built() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace.join("target"), PathBuf::from);
    std::env::var_os("JACKFIELD_PLUGINS").map_or_else(|| target.join("plugins"), PathBuf::from)
}
