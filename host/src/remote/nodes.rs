//! `status`, `nodes` and `drain`: a node, and the nodes that it knows.

use serde_json::{Value, json};

use super::api_client::ApiClient;
use super::flags::ApiFlags;
use super::output::{field, items, joined, print, print_json, print_table, table, text};
use super::plugins::plugin_rows;

/// Shows one node and its plugins.
pub(super) async fn status(flags: &ApiFlags) -> anyhow::Result<()> {
    let nodes = ApiClient::new(flags)?.get("/v1/nodes").await?;
    if flags.json {
        return print_json(&nodes);
    }
    let node = &nodes["node"];
    field("node", &text(&node["incarnation"]))?;
    field("stage", &text(&node["stage"]))?;
    field("role", &text(&node["role"]))?;
    field("mesh", &text(&node["mesh"]))?;
    let store = &node["keyvalue"];
    field(
        "keyvalue",
        &match store["failure"].as_str() {
            Some(failure) => format!("{} fails: {failure}", text(&store["store"])),
            None => text(&store["store"]),
        },
    )?;
    field("peers", &peers(&nodes["peers"]))?;
    if nodes["dialled"]
        .as_array()
        .is_some_and(|all| !all.is_empty())
    {
        field("not found", &joined(&nodes["dialled"]))?;
    }
    let mut plugins = table(&[
        "PLUGIN",
        "STATE",
        "GENERATION",
        "DIGEST",
        "SOURCE",
        "LOADED",
        "CLIENTS",
        "UIDS",
        "GROUPS",
        "ERROR",
    ]);
    for plugin in items(&node["plugins"]) {
        let mut row = vec![text(&plugin["name"])];
        row.extend(plugin_rows(plugin));
        row.extend(["clients", "uids", "groups", "failure"].map(|key| text(&plugin[key])));
        plugins.add_row(row);
    }
    print("\n")?;
    print_table(&plugins)
}

/// How many peers there are, by their states.
fn peers(peers: &Value) -> String {
    let mut states: Vec<(String, usize)> = Vec::new();
    for peer in items(peers) {
        let state = text(&peer["state"]);
        match states.iter_mut().find(|(known, _)| *known == state) {
            Some((_, number)) => *number += 1,
            None => states.push((state, 1)),
        }
    }
    let states = states
        .iter()
        .map(|(state, number)| format!("{number} {state}"));
    let states = states.collect::<Vec<_>>().join(", ");
    match states.is_empty() {
        true => "none".to_owned(),
        false => states,
    }
}

/// Lists the nodes of the cluster.
pub(super) async fn list(flags: &ApiFlags) -> anyhow::Result<()> {
    let nodes = ApiClient::new(flags)?.get("/v1/nodes").await?;
    if flags.json {
        return print_json(&nodes);
    }
    let mut rows = table(&[
        "NODE", "MESH", "STATE", "PLUGINS", "CLIENTS", "UIDS", "GROUPS", "WAITING", "DROPPED",
    ]);
    let node = &nodes["node"];
    let own = |key: &str| {
        let plugins = items(&node["plugins"]);
        plugins
            .filter_map(|plugin| plugin[key].as_u64())
            .sum::<u64>()
    };
    let number = |of: &Value| of.as_array().map_or(0, Vec::len).to_string();
    rows.add_row([
        format!("{} (asked)", text(&node["incarnation"])),
        text(&node["mesh"]),
        text(&node["stage"]),
        number(&node["plugins"]),
        own("clients").to_string(),
        own("uids").to_string(),
        own("groups").to_string(),
        "-".to_owned(),
        "-".to_owned(),
    ]);
    for peer in items(&nodes["peers"]) {
        let mut row = vec![
            text(&peer["incarnation"]),
            text(&peer["mesh"]),
            text(&peer["state"]),
            number(&peer["plugins"]),
        ];
        let keys = ["clients", "uids", "groups", "waiting_frames", "dropped"];
        row.extend(keys.map(|key| text(&peer[key])));
        rows.add_row(row);
    }
    print_table(&rows)
}

/// Ends a node, as SIGTERM does.
pub(super) async fn drain(flags: &ApiFlags) -> anyhow::Result<()> {
    let api = ApiClient::new(flags)?;
    let answer = api.post("/v1/drain", &json!({})).await?;
    match flags.json {
        true => print_json(&answer),
        false => print("the node drains, and ends\n"),
    }
}
