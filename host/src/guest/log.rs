//! The output of a guest: its stdout, stderr and `log` become log lines of its plugin.
//!
//! The number of lines of each event, the length of each line, and the bytes of a plugin in a second
//! are limited; writing never waits.
//! The last lines of stderr are held back until the event has ended. If the event trapped, these
//! lines explain the trap, and are part of its record instead of separate log lines.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::identity::Identity;
use crate::limits::LOG_LINE_BYTES;

/// The target of the log lines, for `--log`. Operators use this name in their configurations.
pub const LOG_TARGET: &str = "jackfield::plugin::log";

/// How much of stderr the log line of a trap repeats, in bytes.
const LAST_WORDS_BYTES: usize = 4 << 10;

/// The log of one instance. All clones share its limits.
#[derive(Clone)]
pub(super) struct LogStream {
    stream: OutputKind,
    shared: Arc<LogState>,
}

struct LogState {
    identity: Identity,
    lines_per_event: u32,
    /// Whether the current event has written anything. Most events write nothing, and then only
    /// this flag is read.
    has_written: AtomicBool,
    output: Mutex<Output>,
}

/// The output of the current event.
#[derive(Default)]
struct Output {
    lines: u32,
    /// The last lines of stderr, up to `LAST_WORDS_BYTES`.
    held: VecDeque<HeldLine>,
    held_bytes: usize,
    /// Whether a line of stderr was the first line of a Rust panic.
    has_panicked: bool,
    /// The unfinished last line of stdout and of stderr.
    unfinished: [Vec<u8>; 2],
}

/// One line of stderr that is held back.
struct HeldLine {
    text: String,
    /// Whether the line is within the event's limit of lines.
    is_within_limit: bool,
}

/// The last lines that a guest wrote to stderr before its trap.
#[derive(Debug, Default)]
pub(super) struct LastWords {
    pub(super) text: String,
    pub(super) has_panicked: bool,
}

/// One of the output streams of a guest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputKind {
    Stdout,
    Stderr,
    /// The `log` function of the contract.
    Log,
}

impl OutputKind {
    fn as_str(self) -> &'static str {
        match self {
            OutputKind::Stdout => "stdout",
            OutputKind::Stderr => "stderr",
            OutputKind::Log => "log",
        }
    }
}

impl LogState {
    fn write(&self) -> MutexGuard<'_, Output> {
        self.has_written.store(true, Ordering::Relaxed);
        self.output.lock()
    }
}

impl LogStream {
    /// The log of one instance, as the stream of the contract's `log`.
    pub(super) fn new(identity: Identity, lines_per_event: u32) -> LogStream {
        LogStream {
            stream: OutputKind::Log,
            shared: Arc::new(LogState {
                identity,
                lines_per_event,
                has_written: AtomicBool::new(false),
                output: Mutex::default(),
            }),
        }
    }

    /// The same log, as the given stream of the guest.
    pub(super) fn of(&self, stream: OutputKind) -> LogStream {
        LogStream {
            stream,
            shared: self.shared.clone(),
        }
    }

    /// Writes the lines that an event left unfinished or held back, when it has ended or another
    /// one begins.
    pub(super) fn flush(&self) {
        if !self.shared.has_written.load(Ordering::Relaxed) {
            return;
        }
        let unfinished = std::mem::take(&mut self.shared.output.lock().unfinished);
        for (stream, bytes) in [OutputKind::Stdout, OutputKind::Stderr]
            .into_iter()
            .zip(unfinished)
        {
            if !bytes.is_empty() {
                self.of(stream).bytes_line(&bytes);
            }
        }
        self.shared.has_written.store(false, Ordering::Relaxed);
        let output = std::mem::take(&mut *self.shared.output.lock());
        for held in output.held {
            self.write_held(&held);
        }
    }

    /// Takes the last lines that the event wrote to stderr. These lines are not written as log
    /// lines any more.
    pub(super) fn take_last_words(&self) -> LastWords {
        let mut output = self.shared.output.lock();
        let unfinished = std::mem::take(&mut output.unfinished[1]);
        let unfinished = String::from_utf8_lossy(&unfinished).into_owned();
        let has_panicked = output.has_panicked || is_panic(&unfinished);
        let held = std::mem::take(&mut output.held);
        output.held_bytes = 0;
        let lines: Vec<_> = held.into_iter().map(|held| held.text).collect();
        let text = [lines.join("\n"), unfinished].join("\n");
        LastWords {
            text: text.trim().to_owned(),
            has_panicked,
        }
    }

    /// Writes a text of one or several lines, within the event's limit of lines.
    pub(super) fn lines(&self, level: tracing::Level, text: &str) {
        // Each by itself: nothing that a guest says may look like the node's own next line.
        text.lines().for_each(|line| self.line(level, line));
    }

    fn bytes_line(&self, bytes: &[u8]) {
        let line = String::from_utf8_lossy(bytes);
        let line = line.trim_end();
        if !line.is_empty() {
            self.line(tracing::Level::INFO, line);
        }
    }

    fn line(&self, level: tracing::Level, line: &str) {
        let line = truncated(line, LOG_LINE_BYTES);
        let is_within_limit = self.count();
        if self.stream == OutputKind::Stderr {
            self.hold(line, is_within_limit);
        } else if is_within_limit {
            self.write(level, line);
        }
    }

    fn count(&self) -> bool {
        let mut output = self.shared.write();
        output.lines = output.lines.saturating_add(1);
        let is_within_limit = output.lines <= self.shared.lines_per_event;
        if !is_within_limit {
            self.shared.identity.counters.log_lines_dropped.add_one();
        }
        is_within_limit
    }

    /// Holds a line of stderr back, and writes the older lines that exceed the limit of bytes.
    fn hold(&self, line: &str, is_within_limit: bool) {
        let pushed_out = {
            let mut output = self.shared.write();
            output.has_panicked |= is_panic(line);
            output.held_bytes += line.len();
            output.held.push_back(HeldLine {
                text: line.to_owned(),
                is_within_limit,
            });
            let mut pushed_out = Vec::new();
            while output.held_bytes > LAST_WORDS_BYTES && output.held.len() > 1 {
                let Some(first) = output.held.pop_front() else {
                    break;
                };
                output.held_bytes -= first.text.len();
                pushed_out.push(first);
            }
            pushed_out
        };
        for held in pushed_out {
            self.write_held(&held);
        }
    }

    fn write_held(&self, held: &HeldLine) {
        if held.is_within_limit {
            self.of(OutputKind::Stderr)
                .write(tracing::Level::INFO, &held.text);
        }
    }

    fn write(&self, level: tracing::Level, line: &str) {
        let identity = &self.shared.identity;
        // What nobody wants to read does not count.
        let is_wanted = match level {
            tracing::Level::TRACE => tracing::enabled!(target: LOG_TARGET, tracing::Level::TRACE),
            tracing::Level::DEBUG => tracing::enabled!(target: LOG_TARGET, tracing::Level::DEBUG),
            tracing::Level::INFO => tracing::enabled!(target: LOG_TARGET, tracing::Level::INFO),
            tracing::Level::WARN => tracing::enabled!(target: LOG_TARGET, tracing::Level::WARN),
            tracing::Level::ERROR => tracing::enabled!(target: LOG_TARGET, tracing::Level::ERROR),
        };
        if !is_wanted || !identity.may_log(line.len()) {
            return;
        }
        let (plugin, generation) = (&*identity.plugin, identity.generation);
        let stream = self.stream.as_str();
        match level {
            tracing::Level::TRACE => {
                tracing::trace!(target: LOG_TARGET, plugin, generation, stream, "{line}")
            }
            tracing::Level::DEBUG => {
                tracing::debug!(target: LOG_TARGET, plugin, generation, stream, "{line}")
            }
            tracing::Level::INFO => {
                tracing::info!(target: LOG_TARGET, plugin, generation, stream, "{line}")
            }
            tracing::Level::WARN => {
                tracing::warn!(target: LOG_TARGET, plugin, generation, stream, "{line}")
            }
            tracing::Level::ERROR => {
                tracing::error!(target: LOG_TARGET, plugin, generation, stream, "{line}")
            }
        }
    }
}

/// Whether a line is the first of a Rust panic.
fn is_panic(line: &str) -> bool {
    line.contains("panicked at")
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Asked for by WASI 0.3 only, which is not served.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(LineWriter(self.clone()))
    }
}

/// A writer that splits a guest's bytes into lines.
struct LineWriter(LogStream);

impl OutputStream for LineWriter {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let mut output = self.0.shared.write();
            let line = &mut output.unfinished[usize::from(self.0.stream == OutputKind::Stderr)];
            let room = LOG_LINE_BYTES.saturating_sub(line.len());
            line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                let line = std::mem::take(line);
                drop(output);
                self.0.bytes_line(&line);
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

#[async_trait]
impl Pollable for LineWriter {
    async fn ready(&mut self) {}
}

fn truncated(line: &str, bytes: usize) -> &str {
    &line[..line.floor_char_boundary(bytes)]
}
