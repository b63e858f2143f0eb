//! What a guest says: stdout, stderr and `log` become log lines of its plugin.
//!
//! Bounded for each event in lines, and for each line in bytes; writing never waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::contract::Host;
use crate::limits::LOG_LINE_BYTES;

/// How much of stderr a trap's log line repeats.
const LAST_WORDS_BYTES: usize = 4 << 10;

/// The log of one instance; clones share its bounds.
#[derive(Clone)]
pub(super) struct LogStream {
    stream: Stream,
    host: Arc<Host>,
    said: Arc<Said>,
}

/// What an event has said.
#[derive(Default)]
struct Said {
    /// Most events say nothing: a look at this is all that they cost.
    anything: AtomicBool,
    words: Mutex<Words>,
}

#[derive(Default)]
struct Words {
    lines: u32,
    last_words: String,
    /// What stdout and stderr have of a line that has not ended.
    unfinished: [Vec<u8>; 2],
}

/// Which of the guest's streams it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
    /// The contract's `log`.
    Log,
}

impl Stream {
    fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
            Stream::Log => "log",
        }
    }
}

impl Said {
    fn speak(&self) -> MutexGuard<'_, Words> {
        self.anything.store(true, Ordering::Relaxed);
        self.words.lock()
    }
}

impl LogStream {
    pub(super) fn new(host: Arc<Host>) -> LogStream {
        LogStream {
            stream: Stream::Log,
            host,
            said: Arc::default(),
        }
    }

    /// The same log, as the guest's stdout or stderr.
    pub(super) fn of(&self, stream: Stream) -> LogStream {
        LogStream {
            stream,
            ..self.clone()
        }
    }

    /// A new event begins; a line that the last one left unfinished is that one's.
    pub(super) fn begin(&self) {
        if !self.said.anything.load(Ordering::Relaxed) {
            return;
        }
        self.said.anything.store(false, Ordering::Relaxed);
        let unfinished = {
            let mut words = self.said.words.lock();
            words.lines = 0;
            words.last_words.clear();
            std::mem::take(&mut words.unfinished)
        };
        for (stream, bytes) in [Stream::Stdout, Stream::Stderr].into_iter().zip(unfinished) {
            if !bytes.is_empty() {
                self.of(stream).bytes_line(&bytes);
            }
        }
    }

    /// What stderr got in this event, the last of it.
    pub(super) fn last_words(&self) -> String {
        self.said.words.lock().last_words.trim().to_owned()
    }

    /// Writes what may be several lines, as far as the event has not written too many.
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
        if !self.count(line) {
            let counters = self.host.namespace().registry().counters();
            counters.log_lines_dropped.add_one();
            return;
        }
        let (plugin, generation) = (self.host.plugin(), self.host.generation);
        let stream = self.stream.as_str();
        match level {
            tracing::Level::TRACE => tracing::trace!(plugin, generation, stream, "{line}"),
            tracing::Level::DEBUG => tracing::debug!(plugin, generation, stream, "{line}"),
            tracing::Level::INFO => tracing::info!(plugin, generation, stream, "{line}"),
            tracing::Level::WARN => tracing::warn!(plugin, generation, stream, "{line}"),
            tracing::Level::ERROR => tracing::error!(plugin, generation, stream, "{line}"),
        }
    }

    fn count(&self, line: &str) -> bool {
        let mut words = self.said.speak();
        words.lines = words.lines.saturating_add(1);
        if self.stream == Stream::Stderr {
            words.last_words.push_str(line);
            words.last_words.push('\n');
            let over = words.last_words.len().saturating_sub(LAST_WORDS_BYTES);
            let from = words.last_words.ceil_char_boundary(over);
            words.last_words.drain(..from);
        }
        words.lines <= self.host.limits.log_lines_per_event
    }
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

/// Cuts a guest's bytes into lines.
struct LineWriter(LogStream);

impl OutputStream for LineWriter {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let mut words = self.0.said.speak();
            let line = &mut words.unfinished[usize::from(self.0.stream == Stream::Stderr)];
            let room = LOG_LINE_BYTES.saturating_sub(line.len());
            line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                let line = std::mem::take(line);
                drop(words);
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
