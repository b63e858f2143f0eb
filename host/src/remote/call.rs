//! `call`: a call into a plugin, as a backend makes it.

use std::io::{Read as _, Write as _};

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;

use super::api_client::ApiClient;
use super::flags::ApiFlags;
use super::output::print;
use crate::log::indented;

/// The plugin, method and payload of a call.
#[derive(Args)]
pub struct CallFlags {
    #[command(flatten)]
    api: ApiFlags,
    /// The plugin; without it, the only one that the node has.
    #[arg(long, value_name = "NAME")]
    plugin: Option<String>,
    /// The method, which the plugin's `on-call` knows.
    method: String,
    /// The payload; `-` reads it from the standard input.
    #[arg(default_value = "", allow_hyphen_values = true)]
    payload: String,
    /// Write the answer as it is, and not as text for a terminal.
    #[arg(long)]
    raw: bool,
}

/// Calls the plugin, and prints its answer.
pub(super) async fn call(flags: &CallFlags) -> anyhow::Result<()> {
    let api = ApiClient::new(&flags.api)?;
    let plugin = api.plugin(flags.plugin.as_deref()).await?;
    let payload = match &*flags.payload {
        "-" => {
            let mut payload = Vec::new();
            let read = std::io::stdin().read_to_end(&mut payload);
            read.context("the payload cannot be read from the standard input")?;
            payload
        }
        text => text.as_bytes().to_vec(),
    };
    let answer = api
        .call_method(&plugin, &flags.method, Bytes::from(payload))
        .await?;
    match std::str::from_utf8(&answer) {
        Ok(text) if !flags.raw => print(&format!("{}\n", indented(text))),
        Err(_) if !flags.raw => print(&format!("({} bytes: --raw writes them)\n", answer.len())),
        _ => {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(&answer)?;
            Ok(stdout.flush()?)
        }
    }
}
