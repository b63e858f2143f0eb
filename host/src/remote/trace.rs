//! `trace`: what happens to a client, or to the clients of a uid, as it happens.

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use serde_json::Value;

use super::api_client::ApiClient;
use super::event_stream::EventStream;
use super::flags::ApiFlags;
use super::output::{text, visible};

/// Whom a trace is about.
#[derive(Args)]
pub struct TraceFlags {
    #[command(flatten)]
    api: ApiFlags,
    /// The plugin that the client is connected to.
    #[arg(long, value_name = "NAME")]
    plugin: Option<String>,
    /// The id of the client.
    #[arg(long, value_name = "ID", required_unless_present = "uid")]
    client: Option<String>,
    /// All clients of this uid, also those that come later.
    #[arg(long, conflicts_with = "client")]
    uid: Option<String>,
    /// Show what is in the messages, up to 4,096 bytes of each; needs the scope `inspect`.
    #[arg(long)]
    payloads: bool,
}

/// Prints steps until the node ends.
pub(super) async fn trace(flags: &TraceFlags) -> anyhow::Result<()> {
    let api = ApiClient::new(&flags.api)?;
    let plugin = api.plugin(flags.plugin.as_deref()).await?;
    let client = flags.client.iter().map(|client| ("client", &**client));
    let uid = flags.uid.iter().map(|uid| ("uid", &**uid));
    let payloads = flags.payloads.then_some(("payloads", "true"));
    let parameters: Vec<_> = client.chain(uid).chain(payloads).collect();
    let steps = EventStream::of_trace(&api, &plugin, &parameters).await?;
    steps.print_all(flags.api.json, shown).await
}

/// A step on one line, with the payload below it.
fn shown(step: &Value) -> String {
    let at = Duration::from_micros(step["at_us"].as_u64().unwrap_or_default());
    let at = humantime::format_rfc3339_micros(UNIX_EPOCH + at);
    let (node, client) = (text(&step["node"]), text(&step["client"]));
    let mut fields = step.as_object().into_iter().flatten();
    let kind = fields.find(|(key, _)| !["at_us", "node", "client"].contains(&key.as_str()));
    let Some((kind, what)) = kind else {
        return String::new();
    };
    let shown = match (kind.as_str(), what) {
        ("received", what) => format!("received  {}", message(what)),
        ("sent", what) => {
            let mut shown = format!("sent      {}", message(what));
            if what["outcome"] != "queued" {
                shown += &format!(" {}", text(&what["outcome"]));
            }
            if what["displaced"]
                .as_u64()
                .is_some_and(|displaced| displaced > 0)
            {
                shown += &format!(" displaced={}", text(&what["displaced"]));
            }
            format!("{shown} by={}", text(&what["by"]))
        }
        ("event", what) => {
            let duration = Duration::from_micros(what["duration_us"].as_u64().unwrap_or_default());
            let mut shown = format!("event     {} took={duration:?}", text(&what["function"]));
            if !what["generation"].is_null() {
                shown += &format!(" generation={}", text(&what["generation"]));
            }
            if !what["refused"].is_null() {
                shown += &format!(" refused={}", text(&what["refused"]));
            }
            if let Some(failure) = what["failure"].as_str() {
                shown += &format!(" failed: {}", visible(failure));
            }
            shown
        }
        ("closed", what) => {
            let (code, by) = (text(&what["code"]), text(&what["by"]));
            format!(
                "closed    code={code} by={by} reason={}",
                text(&what["reason"])
            )
        }
        ("missed", steps) if *steps == 0 => "(steps are missing here)".to_owned(),
        ("missed", steps) => format!("({} steps are missing here)", text(steps)),
        ("unanswered", why) => format!("(the node does not answer: {})", text(why)),
        (kind, name) => format!("{kind:<9} {}", text(name)),
    };
    let payload = what["payload"].as_str().unwrap_or_default();
    let payload = BASE64_STANDARD.decode(payload).unwrap_or_default();
    let mut lines = format!("{at} {node} {client} {shown}\n");
    for line in String::from_utf8_lossy(&payload).lines() {
        lines += &format!("    {}\n", visible(line));
    }
    lines
}

fn message(what: &Value) -> String {
    let kind = match what["is_text"].as_bool() {
        Some(true) => "text",
        _ => "binary",
    };
    format!("{kind} {} bytes", text(&what["bytes"]))
}
