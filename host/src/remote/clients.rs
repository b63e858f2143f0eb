//! `clients`, `client` and `kick`: the clients of the whole cluster.

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use super::api_client::{ApiClient, warn_of_missing};
use super::flags::ApiFlags;
use super::output::{ago, field, joined, print, print_json, print_table, table, text, time};

/// Which clients are listed.
#[derive(Args)]
pub struct ClientsFlags {
    #[command(flatten)]
    api: ApiFlags,
    /// Only clients of this plugin.
    #[arg(long, value_name = "NAME")]
    plugin: Option<String>,
    /// Only clients with this uid.
    #[arg(long, value_name = "UID", conflicts_with = "group")]
    uid: Option<String>,
    /// Only clients in this group.
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Only clients with this address, or in this network: 192.0.2.7 or 192.0.2.0/24.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["uid", "group"])]
    address: Option<String>,
    /// The most clients that are listed.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: usize,
}

/// Which client is shown.
#[derive(Args)]
pub struct ClientFlags {
    #[command(flatten)]
    api: ApiFlags,
    /// The id of the client.
    client: String,
    /// The plugin of the client.
    #[arg(long, value_name = "NAME")]
    plugin: Option<String>,
}

/// Which clients are closed, and how.
#[derive(Args)]
pub struct KickFlags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    to: KickTarget,
    /// The plugin of the clients.
    #[arg(long, value_name = "NAME")]
    plugin: Option<String>,
    /// The code of the close frame: 1000, or 3000 to 4999.
    #[arg(long, value_name = "CODE")]
    code: Option<u16>,
    /// The reason in the close frame.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// The clients that are closed.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct KickTarget {
    /// The client with this id.
    #[arg(long, value_name = "ID")]
    client: Option<String>,
    /// All clients with this uid.
    #[arg(long, value_name = "UID")]
    uid: Option<String>,
    /// All clients in this group.
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
}

/// Lists clients of the whole cluster.
pub(super) async fn list(flags: &ClientsFlags) -> anyhow::Result<()> {
    let api = ApiClient::new(&flags.api)?;
    let plugins = api.plugins(flags.plugin.as_deref()).await?;
    let mut rows = table(&[
        "PLUGIN",
        "CLIENT",
        "UID",
        "GROUPS",
        "ADDRESS",
        "CONNECTED",
        "HEARD",
        "QUEUED",
        "RECEIVED",
        "SENT",
    ]);
    let (mut listed, mut failed, mut has_more) = (Vec::new(), Vec::new(), false);
    for plugin in &plugins {
        let left = flags.limit.saturating_sub(listed.len());
        if left == 0 {
            has_more = true;
            break;
        }
        let (ids, more) = ids(&api, plugin, flags, left).await?;
        has_more |= more;
        let requests = ids
            .iter()
            .map(|id| json!({ "plugin": plugin, "client": id }));
        let requests: Vec<_> = requests.collect();
        for mut outcome in api.batch("get_client", &requests).await? {
            let problem = &outcome["error"];
            if outcome["client"].is_object() {
                let mut client = outcome["client"].take();
                client["plugin"] = json!(plugin);
                listed.push(client);
            } else if problem["reason"] != "NOT_FOUND" {
                // It has not just left: its node does not answer.
                failed.push(text(&problem["message"]));
            }
        }
    }
    if flags.api.json {
        print_json(&Value::Array(listed))?;
    } else {
        for client in &listed {
            rows.add_row([
                text(&client["plugin"]),
                text(&client["client"]),
                text(&client["uid"]),
                joined(&client["groups"]),
                text(&client["address"]),
                ago(&client["connected_at_ms"]),
                ago(&client["heard_at_ms"]),
                text(&client["queued_frames"]),
                text(&client["received_messages"]),
                text(&client["sent_frames"]),
            ]);
        }
        print_table(&rows)?;
    }
    if has_more {
        eprintln!("jackfield: there are more clients: --limit lists them");
    }
    match failed.first() {
        None => Ok(()),
        Some(why) => bail!("{} clients cannot be shown: {why}", failed.len()),
    }
}

async fn ids(
    api: &ApiClient,
    plugin: &str,
    flags: &ClientsFlags,
    most: usize,
) -> anyhow::Result<(Vec<String>, bool)> {
    let (function, request) = match (&flags.uid, &flags.group) {
        (Some(uid), _) => ("get-client-ids-by-uid", json!({ "uid": uid })),
        (None, Some(group)) => ("get-client-ids-by-group", json!({ "group": group })),
        (None, None) => ("get-all-client-ids", json!({ "address": flags.address })),
    };
    // That nobody has the uid in one of several plugins is no mistake.
    if let Some(uid) = flags.uid.as_ref().filter(|_| flags.plugin.is_none()) {
        let online = api
            .call(plugin, "is-uid-online", &json!({ "uid": uid }))
            .await?;
        if online["online"] == false {
            return Ok((Vec::new(), false));
        }
    }
    api.list(plugin, function, request, most).await
}

/// Shows what a node knows of one client.
pub(super) async fn show(flags: &ClientFlags) -> anyhow::Result<()> {
    let api = ApiClient::new(&flags.api)?;
    let (plugin, client) = find(&api, flags.plugin.as_deref(), &flags.client).await?;
    print_client(&plugin, &client, flags.api.json)
}

/// Finds a client among those of a plugin, or of all. Returns its plugin, and what its node knows of it.
async fn find(
    api: &ApiClient,
    plugin: Option<&str>,
    client: &str,
) -> anyhow::Result<(String, Value)> {
    let plugins = api.plugins(plugin).await?;
    let requests: Vec<_> = plugins
        .iter()
        .map(|plugin| json!({ "plugin": plugin, "client": client }))
        .collect();
    let mut why = "the node has no plugins".to_owned();
    let outcomes = api.batch("get_client", &requests).await?;
    for (plugin, mut outcome) in plugins.into_iter().zip(outcomes) {
        if outcome["client"].is_object() {
            return Ok((plugin, outcome["client"].take()));
        }
        why = text(&outcome["error"]["message"]);
    }
    bail!("{why}")
}

/// Returns the plugin that is named; otherwise that of the client, if one is named, or the only one.
pub(super) async fn plugin_of(
    api: &ApiClient,
    named: Option<&str>,
    client: Option<&str>,
) -> anyhow::Result<String> {
    match (named, client) {
        (None, Some(client)) => Ok(find(api, None, client).await?.0),
        (named, _) => api.plugin(named).await,
    }
}

fn print_client(plugin: &str, client: &Value, is_json: bool) -> anyhow::Result<()> {
    if is_json {
        return print_json(client);
    }
    let with_ago = |key: &str| format!("{} ({} ago)", time(&client[key]), ago(&client[key]));
    let amount = |number: &str, bytes: &str, what: &str| {
        format!("{} {what}, {} bytes", client[number], client[bytes])
    };
    field("client", &text(&client["client"]))?;
    field("plugin", plugin)?;
    field("node", &text(&client["node"]))?;
    field("address", &text(&client["address"]))?;
    field("uid", &text(&client["uid"]))?;
    field("groups", &joined(&client["groups"]))?;
    field("connected", &with_ago("connected_at_ms"))?;
    field("heard", &with_ago("heard_at_ms"))?;
    field(
        "received",
        &amount("received_messages", "received_bytes", "messages"),
    )?;
    field("sent", &amount("sent_frames", "sent_bytes", "frames"))?;
    field("queued", &amount("queued_frames", "queued_bytes", "frames"))?;
    let mut info: Vec<_> = client["info"].as_object().into_iter().flatten().collect();
    info.sort_unstable_by_key(|(key, _)| *key);
    for (key, value) in info {
        field("info", &format!("{} = {}", text(&json!(key)), text(value)))?;
    }
    Ok(())
}

/// Closes the clients that are named.
pub(super) async fn kick(flags: &KickFlags) -> anyhow::Result<()> {
    let api = ApiClient::new(&flags.api)?;
    let client = flags.to.client.as_deref();
    let plugin = plugin_of(&api, flags.plugin.as_deref(), client).await?;
    let mut request = json!({ "reason": flags.reason });
    if let Some(code) = flags.code {
        request["code"] = json!(code);
    }
    let KickTarget { client, uid, group } = &flags.to;
    let targets = [("client", client), ("uid", uid), ("group", group)];
    let target = targets
        .iter()
        .find_map(|(kind, name)| Some((*kind, name.as_ref()?)));
    let Some((kind, name)) = target else {
        bail!("name a client, a uid or a group");
    };
    request[kind] = json!(name);
    let answer = api
        .call(&plugin, &format!("close-{kind}"), &request)
        .await?;
    if flags.api.json {
        return print_json(&answer);
    }
    warn_of_missing(&answer);
    let closed = answer["value"].as_u64().unwrap_or(1);
    print(&format!("closed {closed}\n"))
}
