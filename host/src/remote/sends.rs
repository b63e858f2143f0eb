//! `send`: a message to clients of the whole cluster.

use std::io::Read as _;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use super::api_client::{ApiClient, warn_of_missing};
use super::clients::plugin_of;
use super::flags::ApiFlags;
use super::output::{print, print_json};

/// To whom a message is sent.
#[derive(Args)]
pub struct SendFlags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    to: SendTarget,
    /// The plugin of the clients.
    #[arg(long, value_name = "NAME")]
    plugin: Option<String>,
    /// The message, as text; `-` reads it from the standard input.
    message: String,
}

/// The clients that get a message.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct SendTarget {
    /// The client with this id.
    #[arg(long, value_name = "ID")]
    client: Option<String>,
    /// All clients with this uid; may be repeated.
    #[arg(long, value_name = "UID")]
    uid: Vec<String>,
    /// The members of this group; may be repeated.
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,
    /// All clients of the plugin.
    #[arg(long)]
    all: bool,
}

/// Sends a message to the clients that are named.
pub(super) async fn send(flags: &SendFlags) -> anyhow::Result<()> {
    let api = ApiClient::new(&flags.api)?;
    let client = flags.to.client.as_deref();
    let plugin = plugin_of(&api, flags.plugin.as_deref(), client).await?;
    let text = match &*flags.message {
        "-" => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.context("the message cannot be read from the standard input")?;
            text
        }
        text => text.to_owned(),
    };
    let message = json!({ "text": text });
    let to = &flags.to;
    let (function, request) = if let Some(client) = &to.client {
        (
            "send-to-client",
            json!({ "client": client, "message": message }),
        )
    } else if !to.uid.is_empty() {
        ("send-to-uid", json!({ "uids": to.uid, "message": message }))
    } else if !to.group.is_empty() {
        (
            "send-to-group",
            json!({ "groups": to.group, "message": message }),
        )
    } else if to.all {
        ("send-to-all", json!({ "message": message }))
    } else {
        bail!("name a client, a uid or a group, or all");
    };
    let answer = api.call(&plugin, function, &request).await?;
    if flags.api.json {
        return print_json(&answer);
    }
    warn_of_missing(&answer);
    let reached = answer["clients"].as_u64().unwrap_or(1);
    let dropped = answer["dropped"].as_u64().unwrap_or_default();
    print(&match dropped {
        0 => format!("sent to {reached}\n"),
        dropped => format!("sent to {reached}, {dropped} had no room for it\n"),
    })
}
