//! `tail`: what happens on a node, as it happens.

use std::time::{Duration, SystemTime};

use clap::Args;
use http_body_util::BodyExt as _;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::api_client::ApiClient;
use super::flags::ApiFlags;
use super::output::{print, text, without_c1};

/// The time without a word of the node after which it counts as ended. It says something every 15
/// seconds.
const SILENCE: Duration = Duration::from_secs(45);

/// The most bytes of what has come and is not printed yet.
const LINE_BYTES: usize = 4 << 20;

/// The reason why nothing more is printed.
const ENDED: &str = "nothing more is heard of the node: it has ended, or the connection broke";

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
    let named = flags.plugin.iter().map(|plugin| {
        let plugin = utf8_percent_encode(plugin, NON_ALPHANUMERIC);
        format!("plugin={plugin}")
    });
    let query = named.collect::<Vec<_>>().join("&");
    let mut body = api.events(&format!("/v1/events?{query}")).await?;
    let mut lines = Vec::new();
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(SILENCE, body.frame()).await {
        let Ok(bytes) = frame.into_data() else {
            continue;
        };
        lines.extend_from_slice(&bytes);
        anyhow::ensure!(
            lines.len() <= LINE_BYTES,
            "this is no stream of events: a line has more than {LINE_BYTES} bytes (--api)"
        );
        // An event is a few lines, and only that with its data counts.
        while let Some(end) = lines.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = lines.drain(..=end).collect();
            if let Some(data) = line.strip_prefix(b"data:") {
                show(&serde_json::from_slice(data)?, flags.api.json)?;
            }
        }
    }
    anyhow::bail!("{ENDED}")
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
