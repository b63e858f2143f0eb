//! How late a 1 ms timer comes while two guests spin on two workers.
//!
//! In one process: a runtime of two workers, the console plugin, two events that loop for as
//! long as they may, and a task that sleeps a millisecond at a time. The same with nothing
//! else to do stands beside it: what the machine itself adds.
//!
//! `cargo bench -p jackfield-bench --bench fairness`; the component is that of
//! `JACKFIELD_PLUGINS`, or where `cargo xtask bench` leaves it.

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
use jackfield::registry::Registry;

const WORKERS: usize = 2;
const MEASURED: Duration = Duration::from_secs(5);
const SPIN: Duration = Duration::from_secs(6);

fn main() -> Result<ExitCode> {
    if let Some(code) = compile_if_asked() {
        return Ok(code);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()?;
    let mut stdout = std::io::stdout().lock();
    writeln!(
        stdout,
        "| a 1 ms timer is late by, ms | p50 | p99 | at most |\n|---|---:|---:|---:|"
    )?;
    for (name, spinning) in [("nothing else to do", 0), ("two guests spin", WORKERS)] {
        let late = runtime.block_on(measure(spinning))?;
        let at = |share: usize| late[(late.len() - 1) * share / 100];
        writeln!(
            stdout,
            "| {name} | {:.1} | {:.1} | {:.1} |",
            at(50),
            at(99),
            at(100)
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

/// How late each of a row of sleeps was, in milliseconds, sorted.
async fn measure(spinning: usize) -> Result<Vec<f64>> {
    let folder = tempfile::tempdir()?;
    let console = console(folder.path()).await?;
    let mut spins = Vec::new();
    for _ in 0..spinning {
        let console = console.clone();
        spins.push(tokio::spawn(async move {
            let client = console.namespace().arrive(None);
            let spin = Message::Text(r#"{"do":"spin"}"#);
            Turn::new(&console.session())
                .on_message(&client, spin)
                .await
        }));
    }
    let mut late = tokio::spawn(sleeps()).await?;
    for spin in &spins {
        anyhow::ensure!(!spin.is_finished(), "a guest ended before the measurement");
    }
    late.sort_by(f64::total_cmp);
    Ok(late)
}

async fn sleeps() -> Vec<f64> {
    let started = Instant::now();
    let mut late = Vec::new();
    while started.elapsed() < MEASURED {
        let asleep = Instant::now();
        tokio::time::sleep(Duration::from_millis(1)).await;
        let over = asleep.elapsed().saturating_sub(Duration::from_millis(1));
        late.push(over.as_secs_f64() * 1e3);
    }
    late
}

async fn console(folder: &Path) -> Result<Arc<Plugin>> {
    let original = built().join("console.wasm");
    std::fs::copy(&original, folder.join("console.wasm"))
        .with_context(|| format!("{} is missing: `cargo xtask bench`", original.display()))?;
    let limits = PluginLimits {
        event_timeout: SPIN,
        wait_timeout: SPIN * 4,
        ..PluginLimits::default()
    };
    let counters = Arc::<Counters>::default();
    let registry = Registry::new(
        Incarnation::draw()?,
        Limits::default(),
        counters,
        WORKERS,
        false,
    );
    let services = Services::in_memory()?;
    let compiler = CompilerOptions::new(&CacheFolder::Off, &Limits::default());
    let plugins = Plugins::open(folder, compiler, limits, registry, None, services).await?;
    plugins.get("console").context("the console does not load")
}

fn built() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace.join("target"), PathBuf::from);
    std::env::var_os("JACKFIELD_PLUGINS").map_or_else(|| target.join("plugins"), PathBuf::from)
}
