//! `logs`: what a node logs, as it is written.

use std::time::{Duration, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::api_client::ApiClient;
use super::event_stream::{EventStream, plugin_parameters, query};
use super::flags::ApiFlags;
use super::output::{text, visible};

/// Which records are printed.
#[derive(Args)]
pub struct LogsFlags {
    #[command(flatten)]
    api: ApiFlags,
    /// Only records about this plugin; may be repeated.
    #[arg(long, value_name = "NAME")]
    plugin: Vec<String>,
    /// The least level; without it, all that the node logs.
    #[arg(long)]
    level: Option<LeastLevel>,
}

/// The least level of the records that are printed.
#[derive(Clone, Copy, ValueEnum)]
enum LeastLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// The fields whose text stands below their record, on separate lines.
const BELOW: [&str; 2] = ["said", "backtrace"];

/// Prints records until the node ends.
pub(super) async fn logs(flags: &LogsFlags) -> anyhow::Result<()> {
    let api = ApiClient::new(&flags.api)?;
    let mut parameters = plugin_parameters(&flags.plugin);
    let level = flags.level.and_then(|level| level.to_possible_value());
    if let Some(level) = &level {
        parameters.push(("level", level.get_name()));
    }
    let path = format!("/v1/logs?{}", query(&parameters));
    let records = EventStream::open(&api, &path).await?;
    records.print_all(flags.api.json, shown).await
}

/// A record on one line, with the long texts below it.
fn shown(record: &Value) -> String {
    if let Some(missed) = record.get("missed") {
        let records = text(&missed["records"]);
        return format!("({records} records are missing here)\n");
    }
    let line = &record["line"];
    let at = Duration::from_millis(line["at_ms"].as_u64().unwrap_or_default());
    let at = humantime::format_rfc3339_millis(UNIX_EPOCH + at);
    let level = text(&line["level"]).to_uppercase();
    let (target, message) = (text(&line["target"]), text(&line["message"]));
    let mut shown = format!("{at} {level:>5} {target}: {message}");
    if let Some(plugin) = line["plugin"].as_str() {
        shown += &format!(" plugin={}", visible(plugin));
    }
    let fields = line["fields"].as_object().into_iter().flatten();
    let (below, beside): (Vec<_>, Vec<_>) =
        fields.partition(|(name, _)| BELOW.contains(&name.as_str()));
    for (name, value) in beside {
        shown += &format!(" {}={}", visible(name), text(value));
    }
    for (_, value) in below {
        let lines = value.as_str().unwrap_or_default().lines();
        for line in lines.filter(|line| !line.is_empty()) {
            shown += &format!("\n    {}", visible(line));
        }
    }
    shown + "\n"
}
