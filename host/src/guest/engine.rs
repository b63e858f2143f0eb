//! The configuration of the engine, of which a node has one.

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::limits::{MEMORY_BYTES_MAX, TOTAL_INSTANCES};

/// Core instances in the pool for each component instance. A Rust component has 4 of them at most,
/// a Python component 14, and the driver of turns adds 2.
const CORE_INSTANCES_EACH: u32 = 6;

/// Memories in the pool for each component instance: the guest's, and that of the driver of turns.
const MEMORIES_EACH: u32 = 2;

/// The longest backtrace, in frames; more frames would not help anybody.
const BACKTRACE_FRAMES: std::num::NonZeroUsize = std::num::NonZeroUsize::new(16).unwrap();

/// Makes the engine of a node. Its instances are pooled, if there is address space for the pool.
pub(super) fn pooled() -> wasmtime::Result<Engine> {
    let pooled = InstanceAllocationStrategy::Pooling(pool());
    Engine::new(&config(pooled)).or_else(|error| {
        tracing::warn!(
            %error,
            "no address space for the instance pool: instances are made one by one, \
             which is slower; see `ulimit -v` and vm.overcommit_memory"
        );
        Engine::new(&config(InstanceAllocationStrategy::OnDemand))
    })
}

/// The configuration of an engine that runs components, or compiles them for one that does.
pub(super) fn config(strategy: InstanceAllocationStrategy) -> Config {
    let mut config = Config::new();
    config
        .allocation_strategy(strategy)
        // On, it costs 0.9 µs a call; components of the async ABI are refused at load.
        .concurrency_support(false)
        .epoch_interruption(true)
        .wasm_backtrace_max_frames(Some(BACKTRACE_FRAMES));
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
