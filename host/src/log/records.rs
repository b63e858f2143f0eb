//! The records of the log for whoever reads them while they are written.

use std::fmt::Debug;
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// The most records that wait for the slowest reader. Beyond that, it misses some, and is told how
/// many.
const WAITING: usize = 1024;

/// The records of this process, whose log is one for all of it.
static RECORDS: LazyLock<broadcast::Sender<Arc<LogRecord>>> =
    LazyLock::new(|| broadcast::channel(WAITING).0);

/// One record of the log.
#[derive(Clone, Debug)]
pub struct LogRecord {
    /// When the record was written.
    pub at: SystemTime,
    /// The level of the record.
    pub level: Level,
    /// The part of the program that has written it, such as `jackfield::plugin::log`.
    pub target: String,
    /// The message of the record.
    pub message: String,
    /// The plugin that the record is about, if it is about one.
    pub plugin: Option<String>,
    /// The other fields, in the order of the record.
    pub fields: Vec<(&'static str, String)>,
}

/// A reader of the log, from now on.
pub struct LogReader(broadcast::Receiver<Arc<LogRecord>>);

impl LogReader {
    /// Begins to read the log.
    pub fn new() -> LogReader {
        LogReader(RECORDS.subscribe())
    }

    /// Waits for the next record.
    ///
    /// # Errors
    ///
    /// The reader was too slow, and has missed so many records.
    pub async fn next(&mut self) -> Result<Arc<LogRecord>, u64> {
        match self.0.recv().await {
            Ok(record) => Ok(record),
            Err(RecvError::Lagged(missed)) => Err(missed),
            // The sender is for ever.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }

    /// Takes a record that has been written already, if there is one.
    ///
    /// # Errors
    ///
    /// The reader was too slow, and has missed so many records.
    pub fn try_next(&mut self) -> Result<Option<Arc<LogRecord>>, u64> {
        match self.0.try_recv() {
            Ok(record) => Ok(Some(record)),
            Err(TryRecvError::Lagged(missed)) => Err(missed),
            Err(TryRecvError::Empty | TryRecvError::Closed) => Ok(None),
        }
    }
}

impl Default for LogReader {
    fn default() -> LogReader {
        LogReader::new()
    }
}

/// The layer that hands records to the readers.
pub(super) struct RecordLayer;

impl<S: Subscriber> Layer<S> for RecordLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if RECORDS.receiver_count() == 0 {
            return;
        }
        let metadata = event.metadata();
        let mut record = LogRecord {
            at: SystemTime::now(),
            level: *metadata.level(),
            target: metadata.target().to_owned(),
            message: String::new(),
            plugin: None,
            fields: Vec::new(),
        };
        event.record(&mut record);
        let _ = RECORDS.send(Arc::new(record));
    }
}

impl LogRecord {
    fn take(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            // The audit of the whole node names none.
            "plugin" => self.plugin = Some(value).filter(|plugin| !plugin.is_empty()),
            // Of the crate `log`: the target of its own is in a field.
            "log.target" => self.target = value,
            name if name.starts_with("log.") => {}
            name => self.fields.push((name, value)),
        }
    }
}

impl Visit for LogRecord {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.take(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[tokio::test]
    async fn a_reader_gets_the_fields_and_hears_what_it_has_missed() {
        let mut reader = LogReader::new();
        let log = tracing_subscriber::registry().with(RecordLayer);
        tracing::subscriber::with_default(log, || {
            let (client, kind) = ("c", Some("panic"));
            tracing::warn!(target: "room", plugin = "chat", generation = 3_u64, %client, kind, "said");
            for number in 0..WAITING {
                tracing::info!(number, "more");
            }
        });
        assert_eq!(reader.next().await.expect_err("missed"), 1);
        let mut read = 0;
        while read < WAITING {
            // Other tests of this program may write, too.
            read += usize::from(reader.next().await.is_ok_and(|r| r.message == "more"));
        }

        let mut reader = LogReader::new();
        let log = tracing_subscriber::registry().with(RecordLayer);
        tracing::subscriber::with_default(log, || {
            let (client, kind) = ("c", Some("panic"));
            tracing::warn!(target: "room", plugin = "chat", generation = 3_u64, %client, kind, "said");
        });
        let record = reader.next().await.expect("a record");
        assert_eq!((record.level, &*record.target), (Level::WARN, "room"));
        assert_eq!(
            (record.plugin.as_deref(), &*record.message),
            (Some("chat"), "said")
        );
        let expected = [("generation", "3"), ("client", "c"), ("kind", "panic")];
        let expected = expected.map(|(name, value)| (name, value.to_owned()));
        assert_eq!(record.fields, expected);
    }
}
