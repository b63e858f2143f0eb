//! `state`: copies of the plugins' state, while the node runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use http_body_util::BodyExt as _;
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

use super::api_client::{ApiClient, LONG_TIMEOUT};
use super::flags::ApiFlags;
use super::output::{print, print_json, text};

/// The path of the plugins' state.
const STATE: &str = "/v1/state";

/// How long the next bytes of a copy may take.
const PATIENCE: Duration = Duration::from_secs(45);

/// What is done with the state of a node's plugins.
#[derive(Args)]
pub struct StateFlags {
    #[command(flatten)]
    api: ApiFlags,
    #[command(subcommand)]
    command: StateCommand,
}

/// A command about the state of a node's plugins.
#[derive(Subcommand)]
enum StateCommand {
    /// Write a copy of the state into a file. The node goes on meanwhile.
    Backup {
        /// The file, which is replaced once the copy is whole.
        file: PathBuf,
    },
    /// Replace the state of all plugins on the node by that of a copy, all at once.
    Restore {
        /// The file that `state backup` has written.
        file: PathBuf,
    },
}

/// Runs a command about the state.
pub(super) async fn run(flags: StateFlags) -> anyhow::Result<()> {
    let (api, is_json) = (ApiClient::new(&flags.api)?, flags.api.json);
    match flags.command {
        StateCommand::Backup { file } => {
            let bytes = backup(&api, &file).await?;
            match is_json {
                true => print_json(&serde_json::json!({ "bytes": bytes })),
                false => print(&format!("{} has {bytes} bytes\n", file.display())),
            }
        }
        StateCommand::Restore { file } => {
            let named = || format!("{} cannot be read", file.display());
            let copy = tokio::fs::File::open(&file).await.with_context(named)?;
            let (format, copy) = ("application/octet-stream", ReaderStream::new(copy));
            let answer = api.put(STATE, format, copy).await?;
            match is_json {
                true => print_json(&answer),
                false => {
                    let entries = text(&answer["entries"]);
                    print(&format!("the state has {entries} entries now\n"))
                }
            }
        }
    }
}

/// Writes a copy into a file, and returns its size. What was there before stays until the copy is
/// whole.
async fn backup(api: &ApiClient, file: &Path) -> anyhow::Result<u64> {
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let named = || format!("{} cannot be written", file.display());
    let copy = NamedTempFile::new_in(folder).with_context(named)?;
    let mut writer = tokio::fs::File::from_std(copy.reopen().with_context(named)?);
    let mut body = api.open(STATE, LONG_TIMEOUT).await?;
    let mut bytes = 0;
    loop {
        let next = tokio::time::timeout(PATIENCE, body.frame()).await;
        let next = next.context("the node sends nothing more of the copy")?;
        let Some(frame) = next else { break };
        // The length is known before: a copy that ends early is an error here.
        let frame = frame.context("the copy did not come whole")?;
        if let Ok(data) = frame.into_data() {
            bytes += data.len() as u64;
            writer.write_all(&data).await.with_context(named)?;
        }
    }
    writer.sync_all().await.with_context(named)?;
    copy.persist(file).with_context(named)?;
    Ok(bytes)
}
