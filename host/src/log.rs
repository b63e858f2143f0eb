//! The log of the process: its destination, its filter and its format.
//!
//! In the text format, a record begins with its time and level, at the left margin. Text with
//! several lines (the last output of a guest, a backtrace) stands below the record, indented and
//! without control characters. No text of a guest can therefore look like a record of the node, or
//! move a cursor.

mod records;

use std::fmt::{self, Debug};
use std::str::FromStr as _;

use anyhow::Context as _;
use tracing::field::Field;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::format::{FormatFields, Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, reload};

use self::records::RecordLayer;
pub use self::records::{LogReader, LogRecord};
use crate::config::LogFormat;

/// The most lines that wait to be written to stderr. A line of a guest has at most 8 KiB.
const LINES: usize = 8192;

/// The directives for crates that log a line for each mistake of a guest, or of a stranger at a
/// port. Those lines are off unless the operator asks for them.
const QUIET: &str = "wasmtime_wasi_http=off,h2=error";

/// The way to replace the filter of a log.
type SetFilter = Box<dyn Fn(EnvFilter) -> anyhow::Result<()> + Send + Sync>;

/// The running log of this process. The lines that still wait are written when it is dropped.
pub struct RunningLog {
    _flush_at_the_end: WorkerGuard,
    set_filter: SetFilter,
}

impl RunningLog {
    /// Replaces the filter of the log.
    ///
    /// # Errors
    ///
    /// Returns an error when `directives` contains a word that is neither a level nor a directive.
    pub fn set_filter(&self, directives: &str) -> anyhow::Result<()> {
        (self.set_filter)(filter(directives)?)
    }
}

/// Starts the log of this process, on stderr.
///
/// # Errors
///
/// Returns an error when `directives` contains a word that is neither a level nor a directive.
pub fn start(directives: &str, format: LogFormat) -> anyhow::Result<RunningLog> {
    let filter = filter(directives)?;
    // A log that nobody reads must not stop the node: lines beyond its buffer are dropped.
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES)
        .finish(std::io::stderr());
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(false).fmt_fields(text_fields()).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    // The filter is for both: whoever reads records gets those of the log.
    let (filter, handle) = reload::Layer::new(filter);
    let log = tracing_subscriber::registry().with(filter);
    log.with(lines).with(RecordLayer).init();
    let set_filter: SetFilter = Box::new(move |filter| Ok(handle.reload(filter)?));
    Ok(RunningLog {
        _flush_at_the_end: guard,
        set_filter,
    })
}

/// Starts the log of this process for whoever reads its records, and writes none of them.
///
/// # Errors
///
/// Returns an error when `directives` contains a word that is neither a level nor a directive.
pub fn start_for_readers(directives: &str) -> anyhow::Result<()> {
    let log = tracing_subscriber::registry().with(filter(directives)?);
    log.with(RecordLayer).init();
    Ok(())
}

/// Checks the directives of the configuration without starting the log.
///
/// # Errors
///
/// Returns an error when `directives` contains a word that is neither a level nor a directive.
pub fn check(directives: &str) -> anyhow::Result<()> {
    filter(directives).map(drop)
}

fn filter(directives: &str) -> anyhow::Result<EnvFilter> {
    let parts = || {
        let parts = directives.split(',').map(str::trim);
        parts.filter(|part| !part.is_empty())
    };
    // A word alone would be the name of a room that logs everything, and all others nothing.
    let is_misspelt =
        |part: &&str| !part.contains(['=', '[']) && LevelFilter::from_str(part).is_err();
    if let Some(part) = parts().find(is_misspelt) {
        anyhow::bail!(
            "log = {directives:?}: {part:?} is no level: error, warn, info, debug, trace or off; \
             of one room, jackfield::mesh=debug"
        );
    }
    let all: Vec<&str> = std::iter::once(QUIET).chain(parts()).collect();
    EnvFilter::try_new(all.join(","))
        .with_context(|| format!("log = {directives:?} is no log filter"))
}

/// The formatter of a record's fields in the text format.
fn text_fields() -> impl for<'writer> FormatFields<'writer> + 'static {
    debug_fn(write_field)
}

/// The fields whose text stands below their record, on separate lines.
const BELOW: [&str; 2] = ["said", "backtrace"];

fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    match field.name() {
        "message" => writer.write_str(&indented(&format!("{value:?}"))),
        name if BELOW.contains(&name) => {
            let text = format!("{value:?}");
            match text.is_empty() {
                true => Ok(()),
                false => write!(writer, "\n    {}", indented(text.trim_end())),
            }
        }
        // Of the crate `log`: its target is the record's.
        name if name.starts_with("log.") => Ok(()),
        name => write!(writer, " {name}={value:?}"),
    }
}

/// Indents all lines of a text except the first one, and escapes its control characters.
pub fn indented(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => shown.push_str("\n    "),
            '\t' => shown.push('\t'),
            control if control.is_control() => shown.extend(control.escape_default()),
            other => shown.push(other),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn text_of(record: impl FnOnce()) -> String {
        let written = Written::default();
        let writer = written.clone();
        let log = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .fmt_fields(text_fields())
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(log, record);
        let bytes = written.0.lock().clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn a_trap_is_readable_below_its_record() {
        let text = text_of(|| {
            let (said, backtrace) = ("panicked at a.rs:1:\nno \"tea\"\n", "");
            tracing::error!(plugin = "chat", %said, %backtrace, "an event trapped");
        });
        let expected =
            "ERROR an event trapped plugin=\"chat\"\n    panicked at a.rs:1:\n    no \"tea\"\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn no_text_of_a_guest_looks_like_a_record_or_moves_the_cursor() {
        let evil = "a\nINFO jackfield: forged\r\x1b[2J\u{9b}2J";
        let text = text_of(|| tracing::info!(said = %evil, other = evil, "{evil}"));
        let forged = |line: &str| line.starts_with("INFO jackfield");
        assert!(!text.lines().any(forged), "{text}");
        let is_bare = |byte: char| byte.is_control() && byte != '\n';
        assert!(!text.contains(is_bare), "{text:?}");
    }

    #[test]
    fn a_misspelt_level_is_named() {
        for directives in ["", "info", "jackfield::mesh=debug, warn", "off"] {
            assert!(filter(directives).is_ok(), "{directives}");
        }
        let error = filter("info,dbug").expect_err("misspelt").to_string();
        assert!(error.contains("\"dbug\" is no level"), "{error}");
        assert!(filter("jackfield=dbug").is_err());
    }
}
