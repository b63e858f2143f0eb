//! The engine: one for the process, with its ticker and the compiler's thread.
//!
//! The compiler runs at the lowest priority and compiles one component at a time. A reload thus
//! takes little processor time from the clients that are served meanwhile.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use wasmtime::component::Component;
use wasmtime::{
    Cache, Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
};

use super::ticker::Ticker;
use super::turn_driver;
use crate::limits::{MEMORY_BYTES_MAX, TOTAL_INSTANCES};

/// Core instances in the pool for each component instance. A Rust component has 4 of them at most,
/// a Python component 14, and the driver of turns adds 2.
const CORE_INSTANCES_EACH: u32 = 6;

/// Memories in the pool for each component instance: the guest's, and that of the driver of turns.
const MEMORIES_EACH: u32 = 2;

/// How many compilations may wait behind the current one. The plugin folder asks for one at a time.
const COMPILATIONS: usize = 4;

/// The longest backtrace, in frames; more frames would not help anybody.
const BACKTRACE_FRAMES: std::num::NonZeroUsize = std::num::NonZeroUsize::new(16).unwrap();

/// The compiler of components, which runs outside the runtime's worker threads.
#[derive(Clone)]
pub(super) struct Compiler {
    engine: Engine,
    ticker: Arc<Ticker>,
    jobs: mpsc::Sender<CompileJob>,
}

struct CompileJob {
    bytes: Vec<u8>,
    in_turns: bool,
    done: oneshot::Sender<wasmtime::Result<Compiled>>,
}

/// A component in its compiled form.
pub(super) struct Compiled {
    pub(super) component: Component,
    /// Whether the driver of turns was put beside the component.
    pub(super) has_driver: bool,
}

impl Compiler {
    /// Starts the engine, its ticker and its compiler. `cache` is the cache of compiled components.
    pub(super) fn start(cache: Option<Cache>) -> wasmtime::Result<Compiler> {
        let engine = engine(cache)?;
        let ticker = Ticker::start(&engine)?;
        let (jobs, queue) = mpsc::channel(COMPILATIONS);
        start_compiler(engine.clone(), queue)?;
        Ok(Compiler {
            engine,
            ticker,
            jobs,
        })
    }

    /// The engine of this process.
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The ticker that interrupts guests on the engine.
    pub(super) fn ticker(&self) -> &Arc<Ticker> {
        &self.ticker
    }

    /// Compiles a component, or fetches it from the cache. `in_turns` says whether the component
    /// shall take several messages at once, by a driver if it can't by itself.
    pub(super) async fn compile(
        &self,
        bytes: Vec<u8>,
        in_turns: bool,
    ) -> wasmtime::Result<Compiled> {
        let (done, compiled) = oneshot::channel();
        let gone = || wasmtime::Error::msg("the compiler's thread has ended");
        self.jobs
            .send(CompileJob {
                bytes,
                in_turns,
                done,
            })
            .await
            .map_err(|_| gone())?;
        compiled.await.map_err(|_| gone())?
    }
}

fn engine(cache: Option<Cache>) -> wasmtime::Result<Engine> {
    let pooled = InstanceAllocationStrategy::Pooling(pool());
    Engine::new(&config(pooled, cache.clone())).or_else(|error| {
        tracing::warn!(
            %error,
            "no address space for the instance pool: instances are made one by one, \
             which is slower; see `ulimit -v` and vm.overcommit_memory"
        );
        Engine::new(&config(InstanceAllocationStrategy::OnDemand, cache))
    })
}

fn config(strategy: InstanceAllocationStrategy, cache: Option<Cache>) -> Config {
    let mut config = Config::new();
    config
        .allocation_strategy(strategy)
        // On, it costs 0.9 µs a call; components of the async ABI are refused at load.
        .concurrency_support(false)
        .epoch_interruption(true)
        .wasm_backtrace_max_frames(Some(BACKTRACE_FRAMES))
        .cache(cache);
    config
}

fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(TOTAL_INSTANCES)
        .total_core_instances(TOTAL_INSTANCES * CORE_INSTANCES_EACH)
        .total_memories(TOTAL_INSTANCES * MEMORIES_EACH)
        .total_tables(TOTAL_INSTANCES * 2)
        .total_stacks(TOTAL_INSTANCES)
        .max_memory_size(MEMORY_BYTES_MAX)
        .max_unused_warm_slots(64)
        // Kept pages make a slot's next use cheap, and with two threads twice as fast; the
        // kernel's page map tells which of them are dirty (Linux 6.7).
        .linear_memory_keep_resident(2 << 20)
        .table_keep_resident(64 << 10)
        .pagemap_scan(Enabled::Auto);
    pool
}

fn start_compiler(engine: Engine, mut queue: mpsc::Receiver<CompileJob>) -> std::io::Result<()> {
    let compile = move || {
        // Of this thread alone, on Linux. Refused, compiling is only less polite.
        let _ = rustix::process::setpriority_process(None, 19);
        while let Some(job) = queue.blocking_recv() {
            let CompileJob {
                bytes,
                in_turns,
                done,
            } = job;
            // A component that makes the compiler panic must not end the compiler.
            let compile = || compile(&engine, &bytes, in_turns);
            let compiled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(compile));
            let panicked =
                || wasmtime::Error::msg("the compiler panicked at it; its log says more");
            let _ = done.send(compiled.unwrap_or_else(|_| Err(panicked())));
        }
    };
    std::thread::Builder::new()
        .name("compiler".to_owned())
        .spawn(compile)?;
    Ok(())
}

fn compile(engine: &Engine, bytes: &[u8], in_turns: bool) -> wasmtime::Result<Compiled> {
    if in_turns {
        match with_driver(engine, bytes) {
            Ok(Some(component)) => {
                return Ok(Compiled {
                    component,
                    has_driver: true,
                });
            }
            Ok(None) => {}
            // What is wrong with a component is said of the component alone.
            Err(error) => tracing::debug!("no driver of turns: {error:#}"),
        }
    }
    Ok(Compiled {
        component: Component::new(engine, bytes)?,
        has_driver: false,
    })
}

/// The component with the driver of turns beside it, if it needs one.
fn with_driver(engine: &Engine, bytes: &[u8]) -> anyhow::Result<Option<Component>> {
    let composed = turn_driver::put_beside(bytes)?;
    let compiled = composed.map(|composed| Component::new(engine, composed));
    Ok(compiled.transpose()?)
}
