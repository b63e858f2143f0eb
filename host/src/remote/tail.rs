//! `tail`: what happens on a node, as it happens.

use std::time::SystemTime;

use clap::Args;
use serde_json::Value;

use super::api_client::ApiClient;
use super::event_stream::{EventStream, query};
use super::flags::ApiFlags;
use super::output::{print, text, without_c1};

/// Whose events are printed.
#[derive(Args)]
pub struct TailFlags {
    #[command(flatten)]
    api: ApiFlags,
    /// Only events of this plugin; may be repeated.
    #[arg(long, value_name = "NAME")]
    plugin: Vec<String>,
}

/// Prints events until the node ends, which is an error: whoever watches must hear of it.
pub(super) async fn tail(flags: &TailFlags) -> anyhow::Result<()> {
    let api = ApiClient::new(&flags.api)?;
    let plugins: Vec<_> = flags
        .plugin
        .iter()
        .map(|name| ("plugin", &**name))
        .collect();
    let path = format!("/v1/events?{}", query(&plugins));
    let mut events = EventStream::open(&api, &path).await?;
    loop {
        show(&events.next().await?, flags.api.json)?;
    }
}

fn show(event: &Value, is_json: bool) -> anyhow::Result<()> {
    if is_json {
        return print(&format!("{}\n", without_c1(&event.to_string())));
    }
    let now = humantime::format_rfc3339_millis(SystemTime::now());
    let plugin = text(&event["plugin"]);
    let kinds = event.as_object().into_iter().flatten();
    for (kind, fields) in kinds.filter(|(key, _)| *key != "plugin") {
        let kind = kind.replace('_', "-");
        let fields = fields.as_object().into_iter().flatten();
        let fields = fields.filter(|(_, value)| !value.is_null() && **value != "");
        let fields = fields.map(|(name, value)| format!(" {name}={}", text(value)));
        let fields: String = fields.collect();
        print(&format!("{now} {plugin} {kind}{fields}\n"))?;
    }
    Ok(())
}
