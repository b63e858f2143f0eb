//! `canary`: a build that runs beside another one, for a part of the clients.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::api_client::ApiClient;
use super::deploy::{percent, share};
use super::flags::ApiFlags;
use super::output::{ago, field, items, print, print_json, print_table, short_digest, table, text};

/// What is done about a canary.
#[derive(Args)]
pub struct CanaryFlags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(subcommand)]
    command: CanaryCommand,
}

/// A command about the canary of a plugin.
#[derive(Subcommand)]
enum CanaryCommand {
    /// Show the canary of a plugin beside the build of the other clients, on each node.
    Show {
        /// The name of the plugin.
        plugin: String,
    },
    /// Let the canary take over for all clients: on all nodes if it was deployed, otherwise on one.
    Promote {
        /// The name of the plugin.
        plugin: String,
    },
    /// End the canary: its clients have the build of the others. It is not loaded again, until its
    /// component or manifest changes or somebody deploys it.
    Withdraw {
        /// The name of the plugin.
        plugin: String,
    },
    /// Change which clients a canary that was deployed is for. What is not given stays as it is, and
    /// so do the clients that it has been for.
    Set {
        /// The name of the plugin.
        plugin: String,
        /// The share of the clients, for example 20%.
        #[arg(long, value_name = "PERCENT", value_parser = percent)]
        percent: Option<f64>,
        /// A uid that it is for in any case, in place of those before. It can be given several times.
        #[arg(long, value_name = "UID")]
        uid: Vec<String>,
        /// When it takes over for all clients by itself, after its start; 0s: it does not.
        #[arg(long, value_name = "TIME")]
        promote_after: Option<humantime::Duration>,
        /// How many times as long as in the other build messages may take at the 99th percentile; 0:
        /// that is no matter.
        #[arg(long, value_name = "NUMBER")]
        max_p99_ratio: Option<f64>,
    },
}

/// Runs a command about a canary.
pub(super) async fn run(flags: CanaryFlags) -> anyhow::Result<()> {
    let (api, is_json) = (ApiClient::new(&flags.api)?, flags.api.json);
    let done = |answer: Value, what: String| match is_json {
        true => print_json(&answer),
        false => print(&format!("{what}\n")),
    };
    match flags.command {
        CanaryCommand::Show { plugin } => show(&api, &plugin, is_json).await,
        CanaryCommand::Promote { plugin } => {
            let answer = api.call(&plugin, "promote-canary", &json!({})).await?;
            done(
                answer,
                format!("the canary of {plugin} is for all clients now"),
            )
        }
        CanaryCommand::Withdraw { plugin } => {
            let answer = api.call(&plugin, "withdraw-canary", &json!({})).await?;
            done(answer, format!("the canary of {plugin} has ended"))
        }
        CanaryCommand::Set {
            plugin,
            percent,
            uid,
            promote_after,
            max_p99_ratio,
        } => {
            let after = promote_after.map(|after| u64::try_from(after.as_millis()));
            let request = json!({
                "percent": percent,
                "uids": uid,
                "promote_after_ms": after.transpose()?,
                "max_p99_ratio": max_p99_ratio,
            });
            let answer = api.call(&plugin, "set-canary", &request).await?;
            done(answer, format!("the canary of {plugin} is changed"))
        }
    }
}

async fn show(api: &ApiClient, plugin: &str, is_json: bool) -> anyhow::Result<()> {
    let canary = api.call(plugin, "get-canary", &json!({})).await?;
    if is_json {
        return print_json(&canary);
    }
    field("digest", &short_digest(&canary["digest"]))?;
    field("for", &share(&canary["percent"]))?;
    let uids: Vec<_> = items(&canary["uids"]).map(text).collect();
    if !uids.is_empty() {
        field("uids", &uids.join(", "))?;
    }
    let after = canary["promote_after_ms"]
        .as_u64()
        .map(Duration::from_millis);
    let after = after.map_or("by hand".to_owned(), |after| {
        format!("after {}", humantime::format_duration(after))
    });
    field("promoted", &after)?;
    if canary["max_p99_ratio"].is_number() {
        field("max p99 ratio", &text(&canary["max_p99_ratio"]))?;
    }
    print("\n")?;
    let mut rows = table(&[
        "NODE",
        "BUILD",
        "GENERATION",
        "DIGEST",
        "CLIENTS",
        "EVENTS",
        "FAILURES",
        "P99",
        "SINCE",
    ]);
    for node in items(&canary["nodes"]) {
        let (all, taken) = (&node["clients"], &node["canary_clients"]);
        let others = all.as_u64().zip(taken.as_u64());
        let others = json!(others.map(|(all, taken)| all.saturating_sub(taken)));
        for (what, clients) in [("stable", &others), ("canary", taken)] {
            let build = &node[what];
            let p99 = build["p99_us"].as_u64().map(Duration::from_micros);
            rows.add_row([
                text(&node["node"]),
                what.to_owned(),
                text(&build["generation"]),
                short_digest(&build["digest"]),
                text(clients),
                text(&build["events"]),
                text(&build["failures"]),
                text(&json!(p99.map(|p99| format!("{p99:?}")))),
                ago(&node["since_ms"]),
            ]);
        }
    }
    print_table(&rows)
}
