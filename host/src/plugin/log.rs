//! What a guest says: stdout, stderr and `log` become log lines of its plugin.
//!
//! Bounded for each event in lines, and for each line in bytes; writing never waits.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
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
    name: &'static str,
    host: Arc<Host>,
    said: Arc<Mutex<Said>>,
}

#[derive(Default)]
struct Said {
    lines: u32,
    last_words: String,
}

impl LogStream {
    pub(super) fn new(host: Arc<Host>) -> LogStream {
        LogStream {
            name: "log",
            host,
            said: Arc::default(),
        }
    }

    /// The same log, as the guest's `stdout` or `stderr`.
    pub(super) fn named(&self, name: &'static str) -> LogStream {
        LogStream {
            name,
            ..self.clone()
        }
    }

    /// A new event begins.
    pub(super) fn begin(&self) {
        let mut said = self.said.lock();
        said.lines = 0;
        said.last_words.clear();
    }

    /// What stderr got in this event, the last of it.
    pub(super) fn last_words(&self) -> String {
        self.said.lock().last_words.trim().to_owned()
    }

    /// Writes one line, if the event has not written too many.
    pub(super) fn line(&self, level: tracing::Level, line: &str) {
        let line = truncated(line, LOG_LINE_BYTES);
        if !self.count(line) {
            self.host
                .namespace
                .registry()
                .counters()
                .log_lines_dropped
                .add_one();
            return;
        }
        let (plugin, generation, stream) = (&*self.host.name, self.host.generation, self.name);
        match level {
            tracing::Level::TRACE => tracing::trace!(plugin, generation, stream, "{line}"),
            tracing::Level::DEBUG => tracing::debug!(plugin, generation, stream, "{line}"),
            tracing::Level::INFO => tracing::info!(plugin, generation, stream, "{line}"),
            tracing::Level::WARN => tracing::warn!(plugin, generation, stream, "{line}"),
            tracing::Level::ERROR => tracing::error!(plugin, generation, stream, "{line}"),
        }
    }

    fn count(&self, line: &str) -> bool {
        let mut said = self.said.lock();
        said.lines = said.lines.saturating_add(1);
        if self.name == "stderr" && said.last_words.len() + line.len() < LAST_WORDS_BYTES {
            said.last_words.push_str(line);
            said.last_words.push('\n');
        }
        said.lines <= self.host.limits.log_lines_per_event
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
        Box::new(LineWriter {
            log: self.clone(),
            line: Vec::new(),
        })
    }
}

/// Cuts a guest's bytes into lines.
struct LineWriter {
    log: LogStream,
    line: Vec<u8>,
}

impl OutputStream for LineWriter {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LOG_LINE_BYTES.saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.end_line();
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

impl LineWriter {
    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.line);
        let line = line.trim_end();
        if !line.is_empty() {
            self.log.line(tracing::Level::INFO, line);
        }
        self.line.clear();
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        self.end_line();
    }
}

#[async_trait]
impl Pollable for LineWriter {
    async fn ready(&mut self) {}
}

fn truncated(line: &str, bytes: usize) -> &str {
    &line[..line.floor_char_boundary(bytes)]
}
