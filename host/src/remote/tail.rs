//! `tail`: what happens on a node, as it happens.

use std::time::SystemTime;

use clap::Args;
use serde_json::Value;

use super::api_client::ApiClient;
use super::event_stream::{EventStream, plugin_parameters, query};
use super::flags::ApiFlags;
use super::output::text;

/// Whose events are printed.
#[derive(Args)]
pub struct TailFlags {
    #[command(flatten)]
    api: ApiFlags,
    /// Only events of this plugin; may be repeated.
    #[arg(long, value_name = "NAME")]
    plugin: Vec<String>,
}

/// Prints events until the node ends.
pub(super) async fn tail(flags: &TailFlags) -> anyhow::Result<()> {
    let api = ApiClient::new(&flags.api)?;
    let path = format!("/v1/events?{}", query(&plugin_parameters(&flags.plugin)));
    let events = EventStream::open(&api, &path).await?;
    events.print_all(flags.api.json, shown).await
}

fn shown(event: &Value) -> String {
    let now = humantime::format_rfc3339_millis(SystemTime::now());
    let plugin = text(&event["plugin"]);
    let kinds = event.as_object().into_iter().flatten();
    let lines = kinds.filter(|(key, _)| *key != "plugin");
    let lines = lines.map(|(kind, fields)| {
        let kind = kind.replace('_', "-");
        let fields = fields.as_object().into_iter().flatten();
        let fields = fields.filter(|(_, value)| !value.is_null() && **value != "");
        let fields = fields.map(|(name, value)| format!(" {name}={}", text(value)));
        let fields: String = fields.collect();
        format!("{now} {plugin} {kind}{fields}\n")
    });
    lines.collect()
}
