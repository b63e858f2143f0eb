//! `plugins`: which builds run on which nodes, and going back to another one.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::api_client::ApiClient;
use super::deploy;
use super::flags::ApiFlags;
use super::output::{ago, items, print, print_json, print_table, short_digest, table, text, time};

/// What is done about plugins; nothing: they are listed.
#[derive(Args)]
pub struct PluginsFlags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(subcommand)]
    command: Option<PluginsCommand>,
}

/// A command about the builds of a plugin.
#[derive(Subcommand)]
enum PluginsCommand {
    /// List the builds of a plugin that a node keeps, those that were loaded last first.
    Builds {
        /// The name of the plugin.
        plugin: String,
    },
    /// Load another build of a plugin that a node keeps. No client is closed. The build that ran is
    /// not loaded again, until its component or manifest changes or it is named here.
    Rollback {
        /// The name of the plugin.
        plugin: String,
        /// The first digits of the build's digest; without them, the build before this one.
        digest: Option<String>,
        /// Deploy the build on all nodes that run the plugin, and not on this one alone.
        #[arg(long)]
        everywhere: bool,
    },
}

/// Runs a command about plugins.
pub(super) async fn run(flags: PluginsFlags) -> anyhow::Result<()> {
    let (api, is_json) = (ApiClient::new(&flags.api)?, flags.api.json);
    match flags.command {
        None => list(&api, is_json).await,
        Some(PluginsCommand::Builds { plugin }) => builds(&api, &plugin, is_json).await,
        Some(PluginsCommand::Rollback {
            plugin,
            digest,
            everywhere: true,
        }) => deploy::deploy_kept(&api, &plugin, digest.as_deref(), is_json).await,
        Some(PluginsCommand::Rollback { plugin, digest, .. }) => {
            let request = json!({ "digest": digest });
            let answer = api.call(&plugin, "rollback", &request).await?;
            if is_json {
                return print_json(&answer);
            }
            let (generation, digest) =
                (text(&answer["generation"]), short_digest(&answer["digest"]));
            print(&format!(
                "{plugin} runs the build {digest} as generation {generation}\n"
            ))
        }
    }
}

async fn list(api: &ApiClient, is_json: bool) -> anyhow::Result<()> {
    let nodes = api.get("/v1/nodes").await?;
    let peers = items(&nodes["peers"]);
    let all: Vec<&Value> = std::iter::once(&nodes["node"]).chain(peers).collect();
    if is_json {
        let plugins = all
            .iter()
            .map(|node| json!({ "node": node["incarnation"], "plugins": node["plugins"] }));
        return print_json(&plugins.collect());
    }
    let mut rows = table(&[
        "NODE",
        "PLUGIN",
        "STATE",
        "GENERATION",
        "DIGEST",
        "SOURCE",
        "LOADED",
        "ERROR",
    ]);
    for node in all {
        for plugin in items(&node["plugins"]) {
            let mut row = vec![text(&node["incarnation"]), text(&plugin["name"])];
            row.extend(plugin_rows(plugin));
            row.push(text(&plugin["failure"]));
            rows.add_row(row);
            let canary = &plugin["canary"];
            if canary.is_object() {
                let state = format!("canary {}", deploy::share(&canary["percent"]));
                let mut row = vec![text(&node["incarnation"]), text(&plugin["name"]), state];
                row.extend(build_rows(&canary["build"]));
                row.push(text(&Value::Null));
                rows.add_row(row);
            }
        }
    }
    print_table(&rows)
}

/// The state of a plugin and its build, for a table.
pub(super) fn plugin_rows(plugin: &Value) -> [String; 5] {
    let [generation, digest, source, loaded] = build_rows(&plugin["build"]);
    [text(&plugin["state"]), generation, digest, source, loaded]
}

fn build_rows(build: &Value) -> [String; 4] {
    [
        text(&build["generation"]),
        short_digest(&build["digest"]),
        text(&build["source"]),
        ago(&build["loaded_at_ms"]),
    ]
}

async fn builds(api: &ApiClient, plugin: &str, is_json: bool) -> anyhow::Result<()> {
    let answer = api.call(plugin, "get-builds", &json!({})).await?;
    if is_json {
        return print_json(&answer);
    }
    let mut rows = table(&["DIGEST", "BYTES", "LOADED", "GENERATION", "TAKEN BACK"]);
    for build in items(&answer["builds"]) {
        rows.add_row([
            short_digest(&build["digest"]),
            text(&build["bytes"]),
            time(&build["loaded_at_ms"]),
            text(&build["generation"]),
            text(&build["taken_back"]),
        ]);
    }
    print_table(&rows)
}
