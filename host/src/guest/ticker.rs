//! The ticker: it advances the engine's epoch once a millisecond while guests run, and sleeps while
//! no guest runs.
//!
//! A guest runs only inside a poll of its event. Each thread has a flag of its own that says
//! whether the thread is in such a poll. While at least one thread is, the ticker ticks, so that
//! each loop of a guest is interrupted. This costs the message path two stores to a flag that no
//! other thread writes, and one read of a shared flag. The first poll after a tick sets this shared
//! flag, and wakes the ticker if it sleeps.
//!
//! The ticks are also the clock by which guests are charged for processors. A guest that runs for a
//! part of a tick is charged for a whole tick or for none. On average, this is what it has run, and
//! the message path reads no clock for it.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::Poll;
use std::thread::Thread;
use std::time::Duration;

use parking_lot::Mutex;
use wasmtime::{Engine, EngineWeak};

/// How often a running guest yields to other tasks.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// A thread that ticks on demand. The thread ends when this value is dropped.
#[derive(Debug, Default)]
pub(super) struct Ticker {
    is_wanted: AtomicBool,
    /// How often the ticker has ticked.
    now: AtomicU64,
    thread: OnceLock<Thread>,
}

/// Whether a thread is in a poll that may run a guest. The flag has a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct IsRunning(AtomicBool);

/// The flags of all threads that ever ran a guest and have not ended.
static THREADS: Mutex<Vec<Weak<IsRunning>>> = Mutex::new(Vec::new());

thread_local! {
    static THIS_THREAD: Arc<IsRunning> = {
        let is_running = Arc::<IsRunning>::default();
        THREADS.lock().push(Arc::downgrade(&is_running));
        is_running
    };

    /// The tick in which the poll that this thread is in has begun.
    static BEGAN: Cell<u64> = const { Cell::new(0) };

    /// Whether a guest has used up its slice in the poll that this thread is in.
    static IS_SLICE_USED_UP: Cell<bool> = const { Cell::new(false) };
}

/// A guard: while it exists, this thread is in a poll that may run a guest.
#[derive(Debug)]
pub(super) struct Running {
    /// Whether the poll is inside another one, as when a plugin calls a plugin.
    pub(super) is_nested: bool,
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

    /// Marks this thread as running a guest, so that the ticker ticks.
    pub(super) fn run(&self) -> Running {
        let is_nested = THIS_THREAD.with(|thread| {
            let is_nested = thread.0.load(Ordering::Relaxed);
            thread.0.store(true, Ordering::Release);
            is_nested
        });
        if !is_nested {
            BEGAN.set(self.now());
        }
        // A flag that is cleared just now was seen by a ticker that ticks once more, and looks at
        // the threads after that.
        if !self.is_wanted.load(Ordering::Relaxed) && !self.is_wanted.swap(true, Ordering::AcqRel) {
            self.wake();
        }
        Running { is_nested }
    }

    /// How often the ticker has ticked.
    pub(super) fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    /// Whether the ticker has ticked since this thread's poll of a guest has begun.
    pub(super) fn has_ticked(&self) -> bool {
        BEGAN.get() != self.now()
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

impl Running {
    /// The tick in which the poll has begun.
    pub(super) fn began() -> u64 {
        BEGAN.get()
    }

    /// Whether a guest has used up its slice since the last call.
    pub(super) fn take_slice_used_up() -> bool {
        IS_SLICE_USED_UP.take()
    }
}

/// Ends the slice of a guest. It goes on when its event is polled again, and nobody is woken for
/// that: whoever polls the event asks for the next slice.
pub(super) async fn end_slice() {
    let mut has_ended = false;
    poll_fn(|_| {
        if std::mem::replace(&mut has_ended, true) {
            return Poll::Ready(());
        }
        IS_SLICE_USED_UP.set(true);
        Poll::Pending
    })
    .await;
}

impl Drop for Running {
    fn drop(&mut self) {
        // Where the thread itself is ending, its flag goes with it.
        let _ = THIS_THREAD.try_with(|thread| thread.0.store(self.is_nested, Ordering::Release));
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
        let is_wanted = ticker.is_wanted.swap(false, Ordering::AcqRel) || is_any_running();
        if is_wanted {
            ticker.now.fetch_add(1, Ordering::Relaxed);
            engine.increment_epoch();
        }
        drop((ticker, engine));
        if !is_wanted {
            // Who asks between the look at the flag and here has left a token: this returns.
            std::thread::park();
        }
    }
}

fn is_any_running() -> bool {
    let mut is_any = false;
    THREADS.lock().retain(|thread| {
        let thread = thread.upgrade();
        is_any |= thread
            .as_ref()
            .is_some_and(|thread| thread.0.load(Ordering::Acquire));
        thread.is_some()
    });
    is_any
}
