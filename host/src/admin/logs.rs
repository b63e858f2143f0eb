//! The log of this node for its readers, over gRPC and as server-sent events.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracing::Level;

use super::api::Api;
use super::open_stream::{AnswerStream, OpenStream, StreamSource};
use super::problem::Problem;
use super::tokens::{ApiCaller, TokenScope};
use super::wire::{self, log_record::Record};
use crate::log::{LogReader, LogRecord};
use crate::registry::ms_since_1970;

/// One reader of the log, with the records that it may see and wants to see.
struct LogWatch {
    reader: LogReader,
    open: OpenStream,
    /// The plugins whose records the reader wants. An empty set means all records.
    plugins: BTreeSet<String>,
    level: Level,
}

impl Api {
    /// Opens a stream of all records of the log from now on.
    pub(super) fn logs(
        &self,
        caller: Arc<ApiCaller>,
        request: wire::LogsRequest,
    ) -> Result<AnswerStream<wire::LogRecord>, Problem> {
        caller.check_each(TokenScope::Inspect, &request.plugins)?;
        let level = match &*request.level {
            "" => Level::TRACE,
            level => level.parse().map_err(|_| {
                let level: String = level.chars().take(64).collect();
                Problem::invalid(format!(
                    "{level:?} is no level: error, warn, info, debug and trace are"
                ))
            })?,
        };
        let watch = LogWatch {
            open: self.open_stream(caller)?,
            reader: LogReader::new(),
            plugins: request.plugins.into_iter().collect(),
            level,
        };
        Ok(watch.into_stream())
    }
}

impl StreamSource for LogWatch {
    type Item = wire::LogRecord;

    async fn next(&mut self) -> Result<wire::LogRecord, Problem> {
        loop {
            let record = match self.open.next(self.reader.next()).await? {
                Ok(record) if self.wants(&record) => Record::Line(line(&record)),
                Ok(_) => continue,
                Err(records) => Record::Missed(wire::MissedRecords { records }),
            };
            return Ok(wire::LogRecord {
                record: Some(record),
            });
        }
    }
}

impl LogWatch {
    fn wants(&self, record: &LogRecord) -> bool {
        // The levels are in the order of their words: an error is the least.
        record.level <= self.level
            && match &record.plugin {
                Some(plugin) => {
                    let is_wanted = self.plugins.is_empty() || self.plugins.contains(plugin);
                    is_wanted && self.open.caller.may_see(plugin)
                }
                None => self.plugins.is_empty() && self.open.caller.may_see_all(),
            }
    }
}

fn line(record: &LogRecord) -> wire::LogLine {
    let fields = record.fields.iter();
    wire::LogLine {
        level: record.level.as_str().to_ascii_lowercase(),
        target: record.target.clone(),
        message: record.message.clone(),
        plugin: record.plugin.clone(),
        fields: fields
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
        at_ms: ms_since_1970(record.at),
    }
}
