//! The reason why an event ended badly, as a text for the log and with a counter for each kind.

use std::fmt;

use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::log::LastWords;
use super::memory::MemoryLimit;
use crate::counters::{Counter, Counters};
use crate::limits::PluginLimits;

/// The kind of a bad end of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TrapKind {
    /// The guest has panicked.
    Panic,
    /// The guest executed `unreachable`, and did not say why.
    Unreachable,
    /// The guest ran longer than `event_timeout`.
    Deadline,
    /// The event took longer than `wait_timeout`, with all its waiting.
    Wait,
    /// The guest was refused memory beyond `memory_bytes`, or beyond what its plugin or all plugins
    /// may have together.
    Memory,
    /// The guest used up its stack.
    Stack,
    /// The guest accessed memory out of bounds.
    OutOfBounds,
    /// The guest called `exit`.
    Exit,
    /// The generation was retired, and the event did not end in time.
    Retired,
    /// Another error, which the trap's own text describes.
    Other,
}

/// The bad end of an event: its kind, and what the guest and wasmtime say about it.
#[derive(Debug)]
pub(crate) struct Trapped {
    pub(crate) kind: TrapKind,
    /// The cause, as one line.
    pub(crate) cause: String,
    /// The guest's last lines on stderr, for example the text of a panic.
    pub(crate) said: String,
    /// The backtrace of the guest, if there is one.
    pub(crate) backtrace: String,
}

/// The facts about an event that ended badly, apart from its error.
#[derive(Debug)]
pub(super) struct Evidence<'a> {
    /// The limits of the event.
    pub(super) limits: &'a PluginLimits,
    /// The memory that the event wanted and was refused, if any was refused.
    pub(super) refused: Option<RefusedMemory>,
    /// Whether the generation was retired and ends its events.
    pub(super) is_retired: bool,
    /// The guest's last lines on stderr.
    pub(super) last_words: LastWords,
}

/// Memory that a guest was refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct RefusedMemory {
    /// The memory that the instance would have had, in bytes.
    pub(super) bytes: usize,
    /// The limit that does not permit it.
    pub(super) limit: MemoryLimit,
}

/// The reason why the host gave up a call of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GivenUp {
    /// The call took longer than `wait_timeout`.
    TimedOut,
    /// The generation was retired, and the call did not end in time.
    Retired,
}

impl Trapped {
    /// The bad end of a call for which wasmtime returned an error.
    pub(super) fn new(error: &wasmtime::Error, evidence: Evidence<'_>) -> Trapped {
        let (kind, cause) = classify(error, &evidence);
        let backtrace = error
            .downcast_ref::<WasmBacktrace>()
            .map(ToString::to_string);
        Trapped {
            kind,
            cause,
            said: evidence.last_words.text,
            backtrace: backtrace.unwrap_or_default(),
        }
    }

    /// The bad end of a call that the host gave up.
    pub(super) fn given_up(given_up: GivenUp, evidence: Evidence<'_>) -> Trapped {
        let (kind, cause) = match given_up {
            GivenUp::TimedOut => {
                let limit = evidence.limits.wait_timeout;
                let cause = format!("it took longer than {limit:?} (wait_timeout)");
                (TrapKind::Wait, cause)
            }
            GivenUp::Retired => (TrapKind::Retired, RETIRED.to_owned()),
        };
        Trapped {
            kind,
            cause,
            said: evidence.last_words.text,
            backtrace: String::new(),
        }
    }
}

const RETIRED: &str = "its generation was replaced and it did not end in time";

impl fmt::Display for Trapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)?;
        if !self.said.is_empty() {
            write!(f, "; it said: {}", self.said)?;
        }
        Ok(())
    }
}

impl TrapKind {
    pub(crate) fn counter(self, counters: &Counters) -> &Counter {
        match self {
            TrapKind::Panic => &counters.traps_panic,
            TrapKind::Unreachable => &counters.traps_unreachable,
            TrapKind::Deadline => &counters.traps_deadline,
            TrapKind::Wait => &counters.traps_wait,
            TrapKind::Memory => &counters.traps_memory,
            TrapKind::Stack => &counters.traps_stack,
            TrapKind::OutOfBounds => &counters.traps_out_of_bounds,
            TrapKind::Exit => &counters.traps_exit,
            TrapKind::Retired => &counters.traps_retired,
            TrapKind::Other => &counters.traps_other,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            TrapKind::Panic => "panic",
            TrapKind::Unreachable => "unreachable",
            TrapKind::Deadline => "deadline",
            TrapKind::Wait => "wait",
            TrapKind::Memory => "memory",
            TrapKind::Stack => "stack",
            TrapKind::OutOfBounds => "out-of-bounds",
            TrapKind::Exit => "exit",
            TrapKind::Retired => "retired",
            TrapKind::Other => "other",
        }
    }
}

fn classify(error: &wasmtime::Error, evidence: &Evidence<'_>) -> (TrapKind, String) {
    let limits = evidence.limits;
    if let Some(RefusedMemory { bytes, limit }) = evidence.refused {
        let cause = match limit {
            MemoryLimit::Instance => format!(
                "it wanted {bytes} bytes of memory and may have {} (memory_bytes in its manifest)",
                limits.memory_bytes
            ),
            MemoryLimit::Plugin => format!(
                "it wanted {bytes} bytes of memory, and all instances of its plugin together may \
                 have {} (total_memory_bytes in its manifest)",
                limits.total_memory_bytes
            ),
            MemoryLimit::Node => format!(
                "it wanted {bytes} bytes of memory, and its plugin has as much as is left for \
                 others (plugins_memory_bytes in the node's configuration)"
            ),
        };
        return (TrapKind::Memory, cause);
    }
    if let Some(I32Exit(code)) = error.downcast_ref() {
        return (
            TrapKind::Exit,
            format!("it called exit({code}), which ends nothing but this event"),
        );
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) if evidence.is_retired => (TrapKind::Retired, RETIRED.to_owned()),
        Some(Trap::Interrupt) => {
            let limit = limits.event_timeout;
            (
                TrapKind::Deadline,
                format!("it ran longer than {limit:?} (event_timeout)"),
            )
        }
        Some(Trap::StackOverflow) => (TrapKind::Stack, "it used up its stack".to_owned()),
        Some(Trap::UnreachableCodeReached) if evidence.last_words.has_panicked => {
            (TrapKind::Panic, "it panicked".to_owned())
        }
        Some(Trap::UnreachableCodeReached) => (
            TrapKind::Unreachable,
            "it executed an unreachable instruction".to_owned(),
        ),
        Some(Trap::MemoryOutOfBounds) => {
            let cause = "it accessed memory out of bounds (a stack overflow of Rust or C looks \
                         the same)";
            (TrapKind::OutOfBounds, cause.to_owned())
        }
        _ => (TrapKind::Other, error.root_cause().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(error: &wasmtime::Error, change: fn(&mut Evidence<'_>)) -> TrapKind {
        let limits = PluginLimits::default();
        let mut evidence = Evidence {
            limits: &limits,
            refused: None,
            is_retired: false,
            last_words: LastWords::default(),
        };
        change(&mut evidence);
        Trapped::new(error, evidence).kind
    }

    #[test]
    fn what_ended_an_event_is_told_by_its_error_and_the_evidence() {
        let nothing: fn(&mut Evidence<'_>) = |_| {};
        for (trap, change, expected) in [
            (Trap::Interrupt, nothing, TrapKind::Deadline),
            (
                Trap::Interrupt,
                |evidence| evidence.is_retired = true,
                TrapKind::Retired,
            ),
            (Trap::StackOverflow, nothing, TrapKind::Stack),
            (Trap::UnreachableCodeReached, nothing, TrapKind::Unreachable),
            (
                Trap::UnreachableCodeReached,
                |evidence| evidence.last_words.has_panicked = true,
                TrapKind::Panic,
            ),
            // Most languages abort when they get no memory: the refusal is the reason.
            (
                Trap::UnreachableCodeReached,
                |evidence| {
                    evidence.refused = Some(RefusedMemory {
                        bytes: 1,
                        limit: MemoryLimit::Plugin,
                    });
                },
                TrapKind::Memory,
            ),
            (Trap::MemoryOutOfBounds, nothing, TrapKind::OutOfBounds),
            (Trap::IntegerDivisionByZero, nothing, TrapKind::Other),
        ] {
            assert_eq!(kind(&trap.into(), change), expected, "{trap:?}");
        }
        let exit = wasmtime::Error::from(I32Exit(0));
        assert_eq!(kind(&exit, nothing), TrapKind::Exit);
    }
}
