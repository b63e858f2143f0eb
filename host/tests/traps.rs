//! Ten thousand traps leak nothing.
//!
//! How it knows: the process's allocator counts the bytes in use, which show a leak that
//! resident memory hides; a control run that leaks on purpose must be seen. Instances come
//! from a pool with fewer slots than there are traps, so one that is not given back is
//! noticed too.

use std::alloc::System;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jackfield::config::CacheFolder;
use jackfield::counters::Counters;
use jackfield::guest::{CompilerOptions, Services};
use jackfield::id::Incarnation;
use jackfield::limits::{Limits, PluginLimits, TOTAL_INSTANCES};
use jackfield::message::Message;
use jackfield::plugin::{Failure, Plugin, Plugins, Turn};
use jackfield::policy::TrapPolicy;
use jackfield::registry::{Arrival, Registry};
use jackfield::tracer::Tracer;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const TRAPS: usize = 10_000;

/// What a trap may leave behind. A leaked message or error would be a hundred at least.
const BYTES_A_TRAP: f64 = 8.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_traps_leak_nothing() {
    assert!(TRAPS > 4 * TOTAL_INSTANCES as usize);
    let folder = tempfile::tempdir().expect("a folder");
    let (plugin, counters) = console(folder.path()).await;
    for (request, counted) in [
        (r#"{"do":"panic"}"#, "traps_panic"),
        (r#"{"do":"unreachable"}"#, "traps_unreachable"),
        (r#"{"do":"overflow-stack"}"#, "traps_stack"),
        (r#"{"do":"exit","code":3}"#, "traps_exit"),
    ] {
        trap(&plugin, request, 500).await;
        let before = count(&counters, counted);
        let leaked = leaked_by(TRAPS, trap(&plugin, request, TRAPS)).await;
        assert!(
            leaked < BYTES_A_TRAP,
            "{request} leaks {leaked} bytes a time"
        );
        assert_eq!(
            count(&counters, counted) - before,
            TRAPS as u64,
            "{request}"
        );
    }
    let control = leaked_by(TRAPS, async {
        for _ in 0..TRAPS {
            std::mem::forget(vec![0_u8; 100]);
        }
    });
    assert!(
        control.await > BYTES_A_TRAP,
        "the check would not see a leak of 100 bytes"
    );
}

/// The bytes that stay in use, for each of `times`.
async fn leaked_by(times: usize, work: impl Future<Output = ()>) -> f64 {
    let before = ALLOCATOR.stats();
    work.await;
    let after = ALLOCATOR.stats();
    let taken = after.bytes_allocated - before.bytes_allocated;
    let given_back = after.bytes_deallocated - before.bytes_deallocated;
    #[expect(clippy::cast_precision_loss, reason = "a ratio of small numbers")]
    let leaked = (taken as f64 - given_back as f64) / times as f64;
    leaked
}

async fn trap(plugin: &Arc<Plugin>, request: &str, times: usize) {
    let client = plugin.namespace().arrive(Arrival::default());
    let session = plugin.session(None);
    for _ in 0..times {
        let handled = Turn::new(&session)
            .on_message(&client, Message::Text(request))
            .await;
        assert_eq!(handled, Err(Failure::Trapped(TrapPolicy::Close)));
    }
}

fn count(counters: &Counters, name: &str) -> u64 {
    let counted = counters
        .snapshot()
        .into_iter()
        .find(|(counter, ..)| *counter == name);
    counted.expect("a counter").2
}

async fn console(folder: &Path) -> (Arc<Plugin>, Arc<Counters>) {
    let component = built().join("console.wasm");
    std::fs::copy(&component, folder.join("console.wasm"))
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask test`", component.display()));
    let counters = Arc::<Counters>::default();
    let incarnation = Incarnation::draw().expect("randomness");
    let registry = Registry::new(
        incarnation,
        Limits::default(),
        counters.clone(),
        Tracer::default(),
        1,
        false,
    );
    let limits = PluginLimits {
        event_timeout: Duration::from_secs(30),
        wait_timeout: Duration::from_secs(60),
        // A plugin of which nothing works would be paused.
        probation: Duration::ZERO,
        ..PluginLimits::default()
    };
    let services = Services::in_memory().expect("roots");
    let compiler = CompilerOptions {
        program: env!("CARGO_BIN_EXE_jackfield").into(),
        ..CompilerOptions::new(&CacheFolder::Off, &Limits::default())
    };
    let plugins = Plugins::open(
        folder.into(),
        compiler,
        limits,
        registry,
        None,
        services,
        Plugins::PATIENCE,
    )
    .await
    .expect("plugins");
    (plugins.get("console").expect("the console"), counters)
}

/// Where `cargo xtask build-plugins` leaves components.
fn built() -> PathBuf {
    match std::env::var_os("JACKFIELD_PLUGINS") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/plugins"),
    }
}
