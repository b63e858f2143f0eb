//! The ticker: advances the engine's epoch once a millisecond while guests run, and rests while
//! none does.
//!
//! A guest runs only inside a poll of its event. Each poll asks for a tick, after the guest's
//! deadline is set, so the tick that is asked for ends or interrupts whatever runs in that poll;
//! the guest then steps aside, and its next poll asks again. Asking costs a look at a flag; the
//! first to ask after a tick also sets it, and wakes the thread if that rests.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::Thread;
use std::time::Duration;

use wasmtime::{Engine, EngineWeak};

/// How often a running guest steps aside.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// Ticks on demand. Its thread ends with it.
#[derive(Debug, Default)]
pub(super) struct Ticker {
    is_wanted: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Ticker {
    /// Starts the thread that advances the engine's epoch.
    ///
    /// # Errors
    ///
    /// The system has no thread left.
    pub(super) fn start(engine: &Engine) -> io::Result<Arc<Ticker>> {
        let ticker = Arc::<Ticker>::default();
        let (engine, weak) = (engine.weak(), Arc::downgrade(&ticker));
        let thread = std::thread::Builder::new()
            .name("epoch".to_owned())
            .spawn(move || keep_ticking(&engine, &weak))?;
        let _ = ticker.thread.set(thread.thread().clone());
        Ok(ticker)
    }

    /// Asks for a tick within about two milliseconds: a guest is about to run.
    pub(super) fn want(&self) {
        // What the guest's deadline was set by is seen before the flag: a tick that came before
        // the deadline was set has cleared the flag, and is not taken for one to come.
        fence(Ordering::Acquire);
        if self.is_wanted.load(Ordering::Relaxed) || self.is_wanted.swap(true, Ordering::AcqRel) {
            return;
        }
        self.wake();
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.wake();
    }
}

fn keep_ticking(engine: &EngineWeak, ticker: &Weak<Ticker>) {
    loop {
        std::thread::sleep(TICK);
        let (Some(ticker), Some(engine)) = (ticker.upgrade(), engine.upgrade()) else {
            return;
        };
        let is_wanted = ticker.is_wanted.swap(false, Ordering::AcqRel);
        if is_wanted {
            // Whoever sees this tick sees the flag cleared.
            fence(Ordering::Release);
            engine.increment_epoch();
        }
        drop((ticker, engine));
        if !is_wanted {
            // Who asks between the look at the flag and here has left a token: this returns.
            std::thread::park();
        }
    }
}
