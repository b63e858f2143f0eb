//! The randomness of guests on a node whose clock is moved by somebody: the same in each run, so that what
//! a guest draws can be expected, and two builds can be compared.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use wasmtime_wasi::WasiCtxBuilder;

use crate::registry::Clock;

/// Gives a guest the randomness of its node, if this is not the system's, which it has anyway. Each
/// instance draws something else.
pub(super) fn set_randomness(wasi: &mut WasiCtxBuilder, clock: &Clock) {
    if let Some(seed) = clock.next_seed() {
        let mut random = StdRng::seed_from_u64(seed);
        wasi.insecure_random_seed(random.random());
        wasi.insecure_random(random.fork());
        wasi.secure_random(random);
    }
}
