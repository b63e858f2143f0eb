//! `groups` and `uids`: the names of a plugin's clients, in the whole cluster; and `timers`.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::api_client::{ApiClient, warn_of_missing};
use super::flags::ApiFlags;
use super::output::{print_json, print_table, table, text, time};

/// Which names are listed.
#[derive(Args)]
pub struct NamesFlags {
    #[command(flatten)]
    api: ApiFlags,
    /// The plugin whose names are listed.
    #[arg(long, value_name = "NAME")]
    plugin: Option<String>,
    /// The most names that are listed.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: usize,
}

/// Lists groups, each with the number of its clients.
pub(super) async fn groups(flags: &NamesFlags) -> anyhow::Result<()> {
    let api = ApiClient::new(&flags.api)?;
    let plugin = api.plugin(flags.plugin.as_deref()).await?;
    let (groups, has_more) = api
        .list(&plugin, "get-all-groups", json!({}), flags.limit)
        .await?;
    let requests = groups
        .iter()
        .map(|group| json!({ "plugin": plugin, "group": group }));
    let requests: Vec<_> = requests.collect();
    let counts = api.batch("get_client_count_by_group", &requests).await?;
    let counts = counts.iter().map(|outcome| {
        warn_of_missing(&outcome["count"]);
        outcome["count"]["value"].clone()
    });
    show("GROUP", groups.into_iter().zip(counts), has_more, flags)
}

/// Lists uids, each with the number of its clients.
pub(super) async fn uids(flags: &NamesFlags) -> anyhow::Result<()> {
    let api = ApiClient::new(&flags.api)?;
    let plugin = api.plugin(flags.plugin.as_deref()).await?;
    let (uids, has_more) = api
        .list(&plugin, "get-all-uids", json!({}), flags.limit)
        .await?;
    let requests = uids
        .iter()
        .map(|uid| json!({ "plugin": plugin, "uid": uid, "limit": 1_000 }));
    let requests: Vec<_> = requests.collect();
    let clients = api.batch("get_client_ids_by_uid", &requests).await?;
    let counts = clients.iter().map(|outcome| {
        let page = &outcome["page"];
        warn_of_missing(page);
        match (page["items"].as_array(), page["next"].is_string()) {
            (Some(items), false) => json!(items.len()),
            (Some(items), true) => json!(format!("{}+", items.len())),
            // Its last client has left meanwhile.
            (None, _) if outcome["error"]["reason"] == "NOT_FOUND" => json!(0),
            (None, _) => Value::Null,
        }
    });
    show("UID", uids.into_iter().zip(counts), has_more, flags)
}

/// Lists the timers that a node knows, with the time when each fires next.
pub(super) async fn timers(flags: &NamesFlags) -> anyhow::Result<()> {
    let api = ApiClient::new(&flags.api)?;
    let plugin = api.plugin(flags.plugin.as_deref()).await?;
    let (timers, has_more) = api
        .pages(&plugin, "get-timers", "timers", json!({}), flags.limit)
        .await?;
    if flags.api.json {
        print_json(&timers.into())?;
    } else {
        let mut rows = table(&["TIMER", "SCOPE", "DUE", "EVERY"]);
        for timer in timers {
            let scope = match timer["of_cluster"].as_bool() {
                Some(true) => "cluster",
                _ => "node",
            };
            let every = timer["every_ms"].as_u64().map(Duration::from_millis);
            let every = every.map(|every| humantime::format_duration(every).to_string());
            rows.add_row([
                text(&timer["name"]),
                scope.to_owned(),
                time(&timer["due_at_ms"]),
                text(&json!(every)),
            ]);
        }
        print_table(&rows)?;
    }
    say_more(has_more);
    Ok(())
}

fn say_more(has_more: bool) {
    if has_more {
        eprintln!("jackfield: there are more: --limit lists them");
    }
}

fn show(
    kind: &str,
    names: impl Iterator<Item = (String, Value)>,
    has_more: bool,
    flags: &NamesFlags,
) -> anyhow::Result<()> {
    if flags.api.json {
        let key = kind.to_lowercase();
        let all = names.map(|(name, count)| json!({ &key: name, "clients": count }));
        print_json(&all.collect())?;
    } else {
        let mut rows = table(&[kind, "CLIENTS"]);
        for (name, count) in names {
            rows.add_row([text(&json!(name)), text(&count)]);
        }
        print_table(&rows)?;
    }
    say_more(has_more);
    Ok(())
}
