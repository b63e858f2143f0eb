//! `deploy`, `undeploy` and `deployments`: builds for all nodes of the cluster.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use futures_util::{StreamExt as _, stream};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tempfile::NamedTempFile;
use tokio_util::io::ReaderStream;

use super::api_client::ApiClient;
use super::flags::ApiFlags;
use super::oci::OciReference;
use super::output::{ago, items, print, print_json, print_table, short_digest, table, text};
use crate::limits::NAME_BYTES_MAX;

/// Which build is deployed, and how.
#[derive(Args)]
pub struct DeployFlags {
    #[command(flatten)]
    api: ApiFlags,
    /// The component: a file such as `chat.wasm`, or what a registry has at `oci://HOST/chat:1.2`.
    component: String,
    /// The name of the plugin; without it, that of the component.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The manifest; without it, the NAME.toml beside the component's file, if there is one.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Change one node after the other, each after the one before has run the build for so long, for
    /// example 30s. Without it, all change at once.
    #[arg(long, value_name = "TIME", conflicts_with = "canary")]
    rolling: Option<humantime::Duration>,
    /// Run the build beside the one that runs, for this share of the clients, for example 5%. `jackfield
    /// canary` shows how it does.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    canary: Option<f64>,
    /// With --canary: a uid that the build is for in any case. It can be given several times; for more
    /// than some hundred, write them into the manifest ([rollout]).
    #[arg(long, value_name = "UID", requires = "canary")]
    canary_uid: Vec<String>,
    /// With --canary: let the build take over for all clients after this time, for example 1h, unless
    /// it fails. Without it, `jackfield canary promote` does so.
    #[arg(long, value_name = "TIME", requires = "canary")]
    promote_after: Option<humantime::Duration>,
    /// With --canary: withdraw the build if its messages take more than so many times as long as those
    /// of the other one, at the 99th percentile.
    #[arg(long, value_name = "NUMBER", requires = "canary")]
    max_p99_ratio: Option<f64>,
    /// A file with certificates of authorities in PEM that are trusted for the registry, in addition
    /// to those of the system.
    #[arg(long, value_name = "FILE")]
    registry_authority: Option<PathBuf>,
}

/// Which deployment is withdrawn.
#[derive(Args)]
pub struct UndeployFlags {
    #[command(flatten)]
    api: ApiFlags,
    /// The name of the plugin.
    plugin: String,
}

/// Deploys a build on all nodes.
pub(super) async fn deploy(flags: DeployFlags) -> anyhow::Result<()> {
    let api = ApiClient::new(&flags.api)?;
    let reference = OciReference::parse(&flags.component)?;
    // It goes away with this value.
    let pulled = NamedTempFile::new()?;
    let (component, name, origin) = match &reference {
        Some(reference) => {
            let authority = flags.registry_authority.unwrap_or_default();
            let origin = reference.pull(&authority, pulled.path()).await?;
            (
                pulled.path().to_owned(),
                Some(reference.name().to_owned()),
                origin,
            )
        }
        None => {
            let path = PathBuf::from(&flags.component);
            let name = path
                .file_stem()
                .map(|name| name.to_string_lossy().into_owned());
            let origin = origin(&path);
            (path, name, origin)
        }
    };
    let plugin = flags.name.or(name).context("name the plugin with --name")?;
    // What is beside a file that was pulled may be anybody's.
    let beside = reference
        .is_none()
        .then(|| component.with_extension("toml"));
    let beside = beside.filter(|beside| beside.exists());
    let manifest = flags.manifest.or(beside);
    let manifest = match &manifest {
        Some(path) => Some(read(path).await?),
        None => None,
    };
    let mut path = format!(
        "{}?origin={}",
        deployment(&plugin),
        utf8_percent_encode(&origin, NON_ALPHANUMERIC)
    );
    if let Some(rolling) = flags.rolling {
        path.push_str(&format!("&rolling_ms={}", rolling.as_millis()));
    }
    if let Some(percent) = flags.canary {
        path.push_str(&format!("&canary_percent={percent}"));
        for uid in &flags.canary_uid {
            let uid = utf8_percent_encode(uid, NON_ALPHANUMERIC);
            path.push_str(&format!("&canary_uid={uid}"));
        }
        if let Some(after) = flags.promote_after {
            path.push_str(&format!("&promote_after_ms={}", after.as_millis()));
        }
        if let Some(ratio) = flags.max_p99_ratio {
            path.push_str(&format!("&max_p99_ratio={ratio}"));
        }
    }
    let file = tokio::fs::File::open(&component).await;
    let file = file.with_context(|| format!("{} cannot be read", component.display()))?;
    let (format, form) = form(file, manifest)?;
    let answer = api.put(&path, &format, form).await?;
    deployed(&plugin, &answer, flags.api.json)
}

/// Deploys a build that the node keeps: the one whose digest begins with these digits, or the one that
/// ran before.
pub(super) async fn deploy_kept(
    api: &ApiClient,
    plugin: &str,
    digits: Option<&str>,
    is_json: bool,
) -> anyhow::Result<()> {
    let digits = utf8_percent_encode(digits.unwrap_or_default(), NON_ALPHANUMERIC);
    let path = format!("{}?build={digits}", deployment(plugin));
    let format = "application/octet-stream";
    let answer = api.put(&path, format, stream::empty()).await?;
    deployed(plugin, &answer, is_json)
}

/// Says what was deployed, and where.
fn deployed(plugin: &str, answer: &Value, is_json: bool) -> anyhow::Result<()> {
    if is_json {
        return print_json(answer);
    }
    let digest = short_digest(&answer["digest"]);
    print(&format!(
        "{plugin} {digest} is deployed (version {})\n\n",
        text(&answer["version"])
    ))?;
    let mut rows = table(&["NODE", "MESH", "GENERATION", "ERROR"]);
    for node in items(&answer["nodes"]) {
        rows.add_row(["node", "mesh", "generation", "failure"].map(|key| text(&node[key])));
    }
    print_table(&rows)
}

/// Withdraws the deployment of a plugin.
pub(super) async fn undeploy(flags: UndeployFlags) -> anyhow::Result<()> {
    let (api, plugin) = (ApiClient::new(&flags.api)?, flags.plugin);
    let answer = api.delete(&deployment(&plugin)).await?;
    match flags.api.json {
        true => print_json(&answer),
        false => print(&format!(
            "{plugin} is not deployed any more: each node runs what its folder has\n"
        )),
    }
}

/// Lists what is deployed.
pub(super) async fn list(flags: &ApiFlags) -> anyhow::Result<()> {
    let answer = ApiClient::new(flags)?.get("/v1/deployments").await?;
    if flags.json {
        return print_json(&answer);
    }
    let mut rows = table(&[
        "PLUGIN", "VERSION", "DIGEST", "FOR", "BYTES", "DEPLOYED", "BY", "ORIGIN",
    ]);
    for deployment in items(&answer["deployments"]) {
        rows.add_row([
            text(&deployment["plugin"]),
            text(&deployment["version"]),
            short_digest(&deployment["digest"]),
            share(&deployment["canary_percent"]),
            text(&deployment["component_bytes"]),
            ago(&deployment["at_ms"]),
            text(&deployment["by"]),
            text(&deployment["origin"]),
        ]);
    }
    print_table(&rows)
}

/// The share of the clients that a build is for.
pub(super) fn share(percent: &Value) -> String {
    match percent.as_f64() {
        Some(percent) => format!("{percent} %"),
        None => "all".to_owned(),
    }
}

/// Reads a share of the clients: `5%` or `5`.
pub(super) fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').trim_end().parse().ok();
    let number = number.filter(|percent| (0.0..=100.0).contains(percent));
    number.ok_or_else(|| "it is a number from 0% to 100%".to_owned())
}

fn deployment(plugin: &str) -> String {
    let plugin = utf8_percent_encode(plugin, NON_ALPHANUMERIC);
    format!("/v1/plugins/{plugin}/deployment")
}

/// Where a component is taken from, for those who look at the deployment later.
fn origin(component: &Path) -> String {
    let full = std::path::absolute(component);
    let full = full.unwrap_or_else(|_| component.to_owned());
    let origin = full.display().to_string();
    origin[..origin.floor_char_boundary(NAME_BYTES_MAX)].to_owned()
}

async fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let read = tokio::fs::read(path).await;
    read.with_context(|| format!("{} cannot be read", path.display()))
}

/// The body of a request with a component and its manifest, and its format (RFC 7578).
fn form(
    component: tokio::fs::File,
    manifest: Option<Vec<u8>>,
) -> anyhow::Result<(
    String,
    impl futures_util::Stream<Item = std::io::Result<Bytes>> + Send + 'static,
)> {
    // No file has it in it.
    let boundary = format!(
        "jackfield-{:016x}{:016x}",
        getrandom::u64()?,
        getrandom::u64()?
    );
    let head = |name: &str, format: &str| {
        format!(
            "--{boundary}\r\ncontent-disposition: form-data; name=\"{name}\"; \
             filename=\"{name}\"\r\ncontent-type: {format}\r\n\r\n"
        )
    };
    let mut before = Vec::new();
    if let Some(manifest) = manifest {
        before.extend(head("manifest", "application/toml").into_bytes());
        before.extend(manifest);
        before.extend(b"\r\n");
    }
    before.extend(head("component", "application/wasm").into_bytes());
    let after = format!("\r\n--{boundary}--\r\n");
    let whole = |bytes: Vec<u8>| stream::once(async move { Ok(Bytes::from(bytes)) });
    let body = whole(before)
        .chain(ReaderStream::with_capacity(component, 64 << 10))
        .chain(whole(after.into_bytes()));
    Ok((format!("multipart/form-data; boundary={boundary}"), body))
}
