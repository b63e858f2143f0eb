//! Why an event ended badly, in words for the log and with a counter for each.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::instance::Guest;
use super::log::LastWords;
use crate::counters::{Counter, Counters};

/// What ended an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The guest panicked.
    Panic,
    /// It executed `unreachable` without saying why.
    Unreachable,
    /// It ran longer than `event_timeout`.
    Deadline,
    /// It took longer than `wait_timeout`, waiting and all.
    Wait,
    /// It was refused memory beyond `memory_bytes`.
    Memory,
    /// It used up its stack.
    Stack,
    /// It accessed memory that it has not.
    OutOfBounds,
    /// It called `exit`.
    Exit,
    /// Its generation was retired and this event did not end in time.
    Retired,
    /// Something else, which the trap's own text tells.
    Other,
}

/// An event's bad end: what it was, and what the guest and wasmtime say of it.
#[derive(Debug)]
pub(super) struct Trapped {
    pub(super) kind: Kind,
    /// One line.
    pub(super) cause: String,
    /// The guest's last lines on stderr: a panic's own text.
    pub(super) said: String,
    /// Where it was.
    pub(super) backtrace: String,
}

/// Ends what a retired generation still has under way.
#[derive(Debug, Default)]
pub(super) struct Cut {
    is_cut: AtomicBool,
    told: Notify,
}

impl Cut {
    /// From here on, events end.
    pub(super) fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
        self.told.notify_waiters();
    }

    /// Everything has ended; what comes now (`on-stop`) has its own time.
    pub(super) fn end(&self) {
        self.is_cut.store(false, Ordering::Relaxed);
    }

    /// Whether they do.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }

    /// Waits until they do.
    pub(super) async fn told(&self) {
        let told = self.told.notified();
        if !self.is_cut() {
            told.await;
        }
    }
}

impl Trapped {
    /// From the error of a guest's call.
    pub(super) fn new(error: &wasmtime::Error, guest: &Guest) -> Trapped {
        let words = guest.take_last_words();
        let (kind, cause) = classify(error, guest, &words);
        let backtrace = error
            .downcast_ref::<WasmBacktrace>()
            .map(ToString::to_string);
        Trapped {
            kind,
            cause,
            said: words.text,
            backtrace: backtrace.unwrap_or_default(),
        }
    }

    /// Of a call that was given up from outside.
    pub(super) fn given_up(kind: Kind, cause: String, guest: &Guest) -> Trapped {
        Trapped {
            kind,
            cause,
            said: guest.take_last_words().text,
            backtrace: String::new(),
        }
    }
}

impl fmt::Display for Trapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)?;
        if !self.said.is_empty() {
            write!(f, "; it said: {}", self.said)?;
        }
        Ok(())
    }
}

impl Kind {
    pub(super) fn counter(self, counters: &Counters) -> &Counter {
        match self {
            Kind::Panic => &counters.traps_panic,
            Kind::Unreachable => &counters.traps_unreachable,
            Kind::Deadline => &counters.traps_deadline,
            Kind::Wait => &counters.traps_wait,
            Kind::Memory => &counters.traps_memory,
            Kind::Stack => &counters.traps_stack,
            Kind::OutOfBounds => &counters.traps_out_of_bounds,
            Kind::Exit => &counters.traps_exit,
            Kind::Retired => &counters.traps_retired,
            Kind::Other => &counters.traps_other,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Kind::Panic => "panic",
            Kind::Unreachable => "unreachable",
            Kind::Deadline => "deadline",
            Kind::Wait => "wait",
            Kind::Memory => "memory",
            Kind::Stack => "stack",
            Kind::OutOfBounds => "out-of-bounds",
            Kind::Exit => "exit",
            Kind::Retired => "retired",
            Kind::Other => "other",
        }
    }
}

fn classify(error: &wasmtime::Error, guest: &Guest, words: &LastWords) -> (Kind, String) {
    let limits = &guest.host().limits;
    if let Some(bytes) = guest.refused_memory() {
        let limit = limits.memory_bytes;
        let cause = format!(
            "it wanted {bytes} bytes of memory and may have {limit} (memory_bytes in its manifest)"
        );
        return (Kind::Memory, cause);
    }
    if let Some(I32Exit(code)) = error.downcast_ref() {
        return (
            Kind::Exit,
            format!("it called exit({code}), which ends nothing but this event"),
        );
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) if guest.is_cut() => (
            Kind::Retired,
            "its generation was replaced and it did not end in time".to_owned(),
        ),
        Some(Trap::Interrupt) => {
            let limit = limits.event_timeout;
            (
                Kind::Deadline,
                format!("it ran longer than {limit:?} (event_timeout)"),
            )
        }
        Some(Trap::StackOverflow) => (Kind::Stack, "it used up its stack".to_owned()),
        Some(Trap::UnreachableCodeReached) if words.has_panicked => {
            (Kind::Panic, "it panicked".to_owned())
        }
        Some(Trap::UnreachableCodeReached) => (
            Kind::Unreachable,
            "it executed an unreachable instruction".to_owned(),
        ),
        Some(Trap::MemoryOutOfBounds) => {
            let cause = "it accessed memory out of bounds (a stack overflow of Rust or C looks \
                         the same)";
            (Kind::OutOfBounds, cause.to_owned())
        }
        _ => (Kind::Other, error.root_cause().to_string()),
    }
}
