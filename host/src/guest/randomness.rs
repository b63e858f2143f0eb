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

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use wasmtime_wasi::WasiCtx;
    use wasmtime_wasi::p2::bindings::random::random::Host as _;

    use super::*;

    #[test]
    fn the_same_is_drawn_in_each_run_and_by_no_two_instances() {
        let draws = |clock: &Clock| {
            [(); 2].map(|()| {
                let mut wasi = WasiCtx::builder();
                set_randomness(&mut wasi, clock);
                wasi.build().random().get_random_u64().expect("a number")
            })
        };
        let standing = || Clock::standing(SystemTime::UNIX_EPOCH);
        let [first, second] = draws(&standing());
        assert_ne!(first, second);
        assert_eq!(draws(&standing()), [first, second]);
        let [first, second] = draws(&Clock::default());
        assert_ne!(first, second);
        assert_ne!(draws(&Clock::default()), [first, second]);
    }
}
