//! One event inside the host: what calling a guest costs, and what sending from it does.
//!
//! No sockets: the client has none, and its outbox keeps the 16 newest messages, so that each
//! send queues one frame and frees another, as it does where a socket takes them. Everything
//! runs on this thread, whose own CPU time is what counts: neighbours do not. The cases take
//! turns in every round.
//!
//! `cargo bench -p jackfield-bench --bench event`; the components are those of
//! `JACKFIELD_PLUGINS` and `JACKFIELD_GUESTS`, or where `cargo xtask bench` leaves them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, anyhow};
use jackfield::config::CacheFolder;
use jackfield::counters::Counters;
use jackfield::guest::{CompilerOptions, Services, compile_if_asked};
use jackfield::id::Incarnation;
use jackfield::limits::{Limits, PluginLimits};
use jackfield::message::{Frame, Message};
use jackfield::plugin::{Plugins, Session, Turn};
use jackfield::registry::{Arrival, Client, Registry};
use jackfield::tracer::Tracer;
use rustix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 31;
const EVENTS: u32 = 20_000;

/// The events of a turn: a client's waiting messages go through one instance.
const TURN: u32 = 16;

/// As long as a message of the other benchmarks.
const MESSAGE: &str = "0000000000000000 the quick brown fox jumps over the lazy dog 012";

/// What a plugin's clients are sent beyond their outbox displaces what waits longest.
const MANIFEST: &str = "[policies]\noverflow = \"drop-oldest\"\n";

fn main() -> Result<ExitCode> {
    if let Some(code) = compile_if_asked() {
        return Ok(code);
    }
    // The node has a slot for each worker, and two threads are at work in some of the cases.
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(measure())?;
    Ok(ExitCode::SUCCESS)
}

async fn measure() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let plugins = open(folder.path()).await?;
    let echo = Subject::new(&plugins, "echo")?;
    let silent = Subject::new(&plugins, "silent")?;
    let mut cases: [(&str, Vec<f64>); 8] = [
        ("a send by the host itself", Vec::new()),
        ("an event, nothing sent", Vec::new()),
        ("an event that sends once", Vec::new()),
        ("an event of 16 in a turn, nothing sent", Vec::new()),
        ("an event of 16 in a turn that sends once", Vec::new()),
        ("an event, nothing sent, on two threads at once", Vec::new()),
        (
            "an event that sends once, on two threads at once",
            Vec::new(),
        ),
        (
            "an event of 16 in a turn that sends once, on two threads at once",
            Vec::new(),
        ),
    ];
    for _ in 0..=ROUNDS {
        let round = [
            echo.sends()?,
            silent.events(1).await?,
            echo.events(1).await?,
            silent.events(TURN).await?,
            echo.events(TURN).await?,
            beside_another(&plugins, &silent, 1).await?,
            beside_another(&plugins, &echo, 1).await?,
            beside_another(&plugins, &echo, TURN).await?,
        ];
        for ((_, rounds), nanos) in cases.iter_mut().zip(round) {
            rounds.push(nanos);
        }
    }
    report(cases)
}

/// Nanoseconds of an event while another thread handles events of another client of the same
/// plugin. What the two share costs more than on one thread.
async fn beside_another(plugins: &Plugins, subject: &Subject, a_turn: u32) -> Result<f64> {
    let other = Subject::new(plugins, subject.session.plugin().name())?;
    let (began, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|threads| {
        let beside = threads.spawn(|| -> Result<()> {
            let runtime = own_runtime()?;
            while !is_over.load(Ordering::Relaxed) {
                runtime.block_on(other.events(a_turn))?;
                began.store(true, Ordering::Relaxed);
            }
            Ok(())
        });
        while !began.load(Ordering::Relaxed) && !beside.is_finished() {
            std::thread::yield_now();
        }
        // An event may have to wait here: the other thread interrupts this one.
        let here = threads.spawn(|| own_runtime()?.block_on(subject.events(a_turn)));
        let nanos = here.join();
        is_over.store(true, Ordering::Relaxed);
        let beside = beside
            .join()
            .map_err(|_| anyhow!("the other thread panicked"))?;
        beside?;
        nanos.map_err(|_| anyhow!("the thread panicked"))?
    })
}

fn own_runtime() -> Result<tokio::runtime::Runtime> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    Ok(runtime.enable_all().build()?)
}

/// Loads the two plugins: one echoes, the other does nothing.
async fn open(folder: &Path) -> Result<Arc<Plugins>> {
    for (name, original) in [
        ("echo", from_environment("JACKFIELD_PLUGINS", "plugins")),
        ("silent", from_environment("JACKFIELD_GUESTS", "guests")),
    ] {
        let file = format!("{name}.wasm");
        let original = original.join(&file);
        std::fs::copy(&original, folder.join(&file))
            .with_context(|| format!("{} is missing: `cargo xtask bench`", original.display()))?;
        std::fs::write(folder.join(format!("{name}.toml")), MANIFEST)?;
    }
    let limits = Limits {
        outbox_messages: TURN as usize,
        ..Limits::default()
    };
    let counters = Arc::<Counters>::default();
    let registry = Registry::new(
        Incarnation::draw()?,
        limits,
        counters,
        Tracer::default(),
        1,
        false,
    );
    let services = Services::in_memory()?;
    Plugins::open(
        folder.into(),
        CompilerOptions::new(&CacheFolder::Off, &Limits::default()),
        PluginLimits::default(),
        registry,
        None,
        services,
        Plugins::PATIENCE,
    )
    .await
}

/// A plugin, and a client of it.
struct Subject {
    session: Session,
    client: Arc<Client>,
}

impl Subject {
    fn new(plugins: &Plugins, name: &str) -> Result<Subject> {
        let plugin = plugins.get(name).filter(|plugin| plugin.is_open());
        let plugin = plugin.with_context(|| format!("the plugin {name} does not load"))?;
        let client = plugin.namespace().arrive(Arrival::default());
        // As in a client's turn: what is pushed needs no sweep.
        client.outbox().take_in_hand();
        let session = plugin.session(None);
        Ok(Subject { session, client })
    }

    /// Nanoseconds of a send without a guest.
    fn sends(&self) -> Result<f64> {
        let started = cpu_nanos();
        for _ in 0..EVENTS {
            let frame = Frame::message(Message::Text(MESSAGE));
            let namespace = self.session.plugin().namespace();
            namespace.send_to(&self.client, frame)?;
        }
        Ok((cpu_nanos() - started) / f64::from(EVENTS))
    }

    /// Nanoseconds of an event, so many of them in a turn.
    async fn events(&self, a_turn: u32) -> Result<f64> {
        let started = cpu_nanos();
        for _ in 0..EVENTS / a_turn {
            let mut turn = Turn::new(&self.session);
            for _ in 0..a_turn {
                let message = Message::Text(MESSAGE);
                let handled = turn.on_message(&self.client, message).await;
                handled.map_err(|failure| anyhow!("an event failed: {failure:?}"))?;
            }
        }
        Ok((cpu_nanos() - started) / f64::from(EVENTS))
    }
}

fn report(cases: [(&str, Vec<f64>); 8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(
        stdout,
        "| 64 bytes | least ns | median ns |\n|---|---:|---:|"
    )?;
    for (name, mut rounds) in cases {
        // The first round brought in code and memory.
        rounds.remove(0);
        rounds.sort_by(f64::total_cmp);
        let (least, median) = (rounds[0], rounds[ROUNDS / 2]);
        writeln!(stdout, "| {name} | {least:.0} | {median:.0} |")?;
    }
    Ok(())
}

/// CPU time of this thread.
#[expect(clippy::cast_precision_loss, reason = "no thread runs for 100 days")]
fn cpu_nanos() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn from_environment(variable: &str, default: &str) -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace.join("target"), PathBuf::from);
    std::env::var_os(variable).map_or_else(|| target.join(default), PathBuf::from)
}
