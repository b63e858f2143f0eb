//! What an author sees while the plugin runs: its lines, its traps, and when a build is live.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tracing::Level;

use crate::guest::LOG_TARGET;
use crate::log::{LogReader, LogRecord, indented};

/// A change that is older than this was not made just now: an unpacked archive has old files.
const RECENT: Duration = Duration::from_secs(60);

/// The screen of one project.
pub(super) struct DevScreen {
    changed: Arc<Mutex<SystemTime>>,
}

impl DevScreen {
    /// Begins to print what the node logs of a plugin, and its own warnings.
    /// `all` prints whatever the log's filter lets through, and not only warnings.
    pub(super) fn start(plugin: &str, all: bool) -> (DevScreen, JoinHandle<()>) {
        let changed = Arc::new(Mutex::new(SystemTime::now()));
        let (plugin, since) = (plugin.to_owned(), changed.clone());
        let mut reader = LogReader::new();
        let printing = tokio::spawn(async move {
            loop {
                let text = match reader.next().await {
                    Ok(record) => {
                        let since = since.lock().elapsed().unwrap_or_default();
                        shown(&record, &plugin, since, all)
                    }
                    Err(missed) => {
                        Some(format!("({missed} lines are missing: they came too fast)"))
                    }
                };
                if let Some(text) = text {
                    say(&text);
                }
            }
        });
        (DevScreen { changed }, printing)
    }

    /// Notes that files have changed, from when on the time to a running build counts.
    pub(super) fn change(&self, files: &[PathBuf]) {
        let written = files
            .iter()
            .filter_map(|path| path.metadata().ok()?.modified().ok());
        let written = written
            .max()
            .filter(|written| written.elapsed().is_ok_and(|elapsed| elapsed < RECENT));
        *self.changed.lock() = written.unwrap_or_else(SystemTime::now);
        let name = |path: &PathBuf| {
            path.file_name()
                .map(|name| name.to_string_lossy().into_owned())
        };
        let names: Vec<_> = files.iter().filter_map(name).collect();
        say(&format!("\nchanged: {}", indented(&names.join(", "))));
    }

    /// Prints why there is no new build. The one before goes on.
    pub(super) fn failed(&self, error: &anyhow::Error) {
        let error = indented(&format!("{error:#}"));
        say(&format!("failed: {error}\n(what ran before goes on)"));
    }
}

/// Prints a line. A screen that cannot be written to ends nothing: the plugin goes on.
pub(super) fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}

/// What is printed of a record, if anything is.
pub(super) fn shown(
    record: &LogRecord,
    plugin: &str,
    since_change: Duration,
    all: bool,
) -> Option<String> {
    let is_its = record.plugin.as_deref() == Some(plugin);
    let field = |name: &str| {
        let mut fields = record.fields.iter();
        fields
            .find(|(field, _)| *field == name)
            .map(|(_, value)| &**value)
    };
    if record.target == LOG_TARGET {
        return Some(format!("{:5} {}", record.level, indented(&record.message)));
    }
    if is_its && record.message == "plugin loaded" {
        let generation = field("generation").unwrap_or("?");
        return Some(format!(
            "live: generation {generation}, {:.1} s after the change",
            since_change.as_secs_f64()
        ));
    }
    if is_its && record.message.contains("nothing to do") {
        return Some("live: what was built is what runs".to_owned());
    }
    if record.level > Level::WARN && !all {
        return None;
    }
    let mut text = format!("{:5} {}", record.level, indented(&record.message));
    for name in ["function", "client"] {
        if let Some(value) = field(name) {
            text.push_str(&format!(" ({name} {value})"));
        }
    }
    for name in ["said", "backtrace"] {
        if let Some(value) = field(name).filter(|value| !value.is_empty()) {
            text.push_str("\n    ");
            text.push_str(&indented(value.trim_end()));
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(level: Level, target: &str, message: &str) -> LogRecord {
        LogRecord {
            at: SystemTime::now(),
            level,
            target: target.to_owned(),
            message: message.to_owned(),
            plugin: Some("room".to_owned()),
            fields: Vec::new(),
        }
    }

    #[test]
    fn an_author_reads_lines_traps_and_what_is_live() {
        let since = Duration::from_millis(1_240);
        let shown = |record: &LogRecord| shown(record, "room", since, false);
        let line = record(Level::INFO, LOG_TARGET, "hello\nworld");
        assert_eq!(shown(&line).as_deref(), Some("INFO  hello\n    world"));

        let mut loaded = record(Level::INFO, "jackfield::plugin", "plugin loaded");
        loaded.fields.push(("generation", "3".to_owned()));
        let expected = "live: generation 3, 1.2 s after the change";
        assert_eq!(shown(&loaded).as_deref(), Some(expected));

        let mut trap = record(
            Level::ERROR,
            "jackfield::plugin",
            "an event trapped: unreachable",
        );
        trap.fields.push(("function", "on-message".to_owned()));
        trap.fields
            .push(("said", "panicked at src/lib.rs:7:5:\nno tea\n".to_owned()));
        trap.fields.push(("backtrace", String::new()));
        let expected = "ERROR an event trapped: unreachable (function on-message)\n    \
             panicked at src/lib.rs:7:5:\n    no tea";
        assert_eq!(shown(&trap).as_deref(), Some(expected));

        assert_eq!(
            shown(&record(Level::INFO, "jackfield::node", "serving")),
            None
        );
        let warned = record(Level::WARN, "jackfield::node", "few files");
        assert_eq!(shown(&warned).as_deref(), Some("WARN  few files"));
    }
}
