//! `record`: what clients send, and what is sent to them, in a file for `jackfield replay`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, value_parser};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::api_client::ApiClient;
use super::deploy::percent;
use super::event_stream::EventStream;
use super::flags::ApiFlags;
use super::output::{print, text, visible};

/// The version of the format of recordings.
pub const RECORDING_VERSION: u32 = 1;

/// How long `--for` may be, which is also how long it is without.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Whom a recording is about, and how large it may be.
#[derive(Args)]
pub struct RecordFlags {
    #[command(flatten)]
    api: ApiFlags,
    /// The plugin that the clients are connected to.
    #[arg(long, value_name = "NAME")]
    plugin: Option<String>,
    /// The id of the client.
    #[arg(long, value_name = "ID", required_unless_present_any = ["uid", "share"])]
    client: Option<String>,
    /// All clients of this uid, also those that come later.
    #[arg(long, conflicts_with_all = ["client", "share"])]
    uid: Option<String>,
    /// This share of the clients that connect from now on, such as `1%`.
    #[arg(long, value_name = "PERCENT", conflicts_with = "client", value_parser = recorded_percent)]
    share: Option<f64>,
    /// The file, which must not be there yet. It has what the clients send, with cookies and other
    /// credentials, so only this user can read it. Tokens (JWT) are in it without their signatures.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// End after this time, such as `10min`. Without it, Ctrl-C ends the recording.
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    lasts: Option<Duration>,
    /// End once the file has so many MiB.
    #[arg(long, value_name = "MIB", default_value = "256", value_parser = value_parser!(u64).range(1..=1024))]
    most_mib: u64,
}

fn recorded_percent(text: &str) -> Result<f64, String> {
    let percent = percent(text.trim()).ok();
    percent
        .filter(|percent| *percent >= 0.01)
        .ok_or_else(|| "write a share from 0.01% to 100%".to_owned())
}

/// The first line of a recording.
#[derive(Deserialize, Serialize)]
pub struct RecordingHeader {
    /// The version of the format.
    pub jackfield_recording: u32,
    /// The name of the plugin.
    pub plugin: String,
    /// The share of the clients in percent, if it is of a share.
    pub share: Option<f64>,
}

/// What has been written.
struct Recorder {
    file: File,
    bytes: u64,
    steps: u64,
    clients: BTreeSet<String>,
    missed: bool,
}

/// Writes a recording until its time is over, its file is full, or somebody ends it.
pub(super) async fn record(flags: &RecordFlags) -> anyhow::Result<()> {
    let api = ApiClient::new(&flags.api)?;
    let plugin = api.plugin(flags.plugin.as_deref()).await?;
    let share = flags.share.map(|percent| percent.to_string());
    let client = flags.client.iter().map(|client| ("client", &**client));
    let uid = flags.uid.iter().map(|uid| ("uid", &**uid));
    let share = share.iter().map(|percent| ("percent", &**percent));
    let recording = std::iter::once(("recording", "true"));
    let parameters: Vec<_> = client.chain(uid).chain(share).chain(recording).collect();
    let mut steps = EventStream::of_trace(&api, &plugin, &parameters).await?;
    let failed = || format!("the file {}", flags.output.display());
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600);
    let file = options.open(&flags.output).with_context(failed)?;
    let mut recorder = Recorder {
        file,
        bytes: 0,
        steps: 0,
        clients: BTreeSet::new(),
        missed: false,
    };
    let header = RecordingHeader {
        jackfield_recording: RECORDING_VERSION,
        plugin,
        share: flags.share,
    };
    recorder.write(&header).with_context(failed)?;
    print(&format!("recording into {}\n", flags.output.display()))?;
    let until = Instant::now() + flags.lasts.unwrap_or(LONGEST).min(LONGEST);
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    let ended = loop {
        tokio::select! {
            step = steps.next() => match step {
                Ok(step) => {
                    if let Some(why) = step["unanswered"].as_str() {
                        let node = text(&step["node"]);
                        print(&format!("{node} records nothing: {}\n", visible(why)))?;
                    }
                    recorder.add(&step).with_context(failed)?;
                }
                Err(error) => break Err(error),
            },
            () = tokio::time::sleep_until(until) => break Ok(()),
            interrupted = &mut interrupted => break Ok(interrupted?),
        }
        if recorder.bytes >= flags.most_mib << 20 {
            print(&format!(
                "the file has {} MiB (--most-mib)\n",
                flags.most_mib
            ))?;
            break Ok(());
        }
    };
    recorder.file.sync_all().with_context(failed)?;
    let (steps, clients) = (recorder.steps, recorder.clients.len());
    print(&format!(
        "{steps} steps of {clients} clients are in {}\n",
        flags.output.display()
    ))?;
    if recorder.missed {
        print("some steps are missing: they came too fast, or a message has more than 8 MiB\n")?;
    }
    match ended {
        Ok(()) if clients == 0 => bail!("no client came while it was recorded"),
        ended => ended,
    }
}

impl Recorder {
    fn add(&mut self, step: &Value) -> std::io::Result<()> {
        self.missed |= !step["missed"].is_null();
        if let Some(client) = step["client"].as_str().filter(|client| !client.is_empty()) {
            self.steps += 1;
            if !self.clients.contains(client) {
                self.clients.insert(client.to_owned());
            }
        }
        self.write(step)
    }

    fn write(&mut self, line: &impl Serialize) -> std::io::Result<()> {
        let line = format!("{}\n", serde_json::to_string(line)?);
        self.bytes += line.len() as u64;
        self.file.write_all(line.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage() {
        for (text, expected) in [("1%", 1.0), ("0.01", 0.01), (" 100 % ", 100.0)] {
            assert_eq!(recorded_percent(text), Ok(expected));
        }
        for text in ["", "0%", "0.001%", "101%", "NaN", "half"] {
            recorded_percent(text).expect_err(text);
        }
    }
}
