//! Bad events on purpose: what a node must survive.
//!
//! `black_box` keeps the optimiser from seeing that none of this has a point.

use std::hint::black_box;
use std::time::{Duration, Instant};

use jackfield_sdk::{ClientId, is_online};

const MIB: usize = 1 << 20;

/// The machine's own trap, without a word of explanation.
pub(crate) fn unreachable() -> ! {
    #[cfg(target_family = "wasm")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_family = "wasm"))]
    panic!("unreachable");
}

/// Works for this time, or for ever.
pub(crate) fn spin(time: Option<Duration>) {
    let end = time.map(|time| Instant::now() + time);
    let mut turn = 0_u64;
    while end.is_none_or(|end| Instant::now() < end) {
        turn = black_box(turn.wrapping_add(1));
    }
}

/// Never ends either, but keeps coming back to the node.
pub(crate) fn spin_host(client: &ClientId) -> ! {
    loop {
        let _ = black_box(is_online(client));
    }
}

/// Each call waits for the next, and what it does with the result keeps the calls from being
/// folded into a loop. The frame holds a number: it is the call stack that runs out, not the
/// stack in linear memory.
#[inline(never)]
pub(crate) fn overflow_stack(depth: u64) -> u64 {
    if depth == u64::MAX {
        return 0;
    }
    overflow_stack(depth + 1).wrapping_mul(31).rotate_left(7) ^ depth
}

/// One allocation of this size, touched; or more and more until something gives way.
pub(crate) fn eat_memory(bytes: Option<usize>) {
    if let Some(bytes) = bytes {
        black_box(vec![1_u8; bytes]);
        return;
    }
    let mut eaten = Vec::new();
    loop {
        eaten.push(black_box(vec![1_u8; MIB]));
    }
}

/// Asks for linear memory without the allocator, which gives up before it asks where the size
/// can't be had; says whether the node granted it.
pub(crate) fn grow_memory(bytes: usize) -> bool {
    #[cfg(target_family = "wasm")]
    {
        const PAGE_BYTES: usize = 65_536;
        core::arch::wasm32::memory_grow::<0>(bytes.div_ceil(PAGE_BYTES)) != usize::MAX
    }
    #[cfg(not(target_family = "wasm"))]
    {
        let _ = bytes;
        false
    }
}
