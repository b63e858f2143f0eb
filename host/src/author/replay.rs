//! `jackfield replay`: what clients have sent, run through a build of a plugin, and what that build sends
//! differently from another one or from what was recorded.
//!
//! A build runs on a node of this process, whose clock goes as the recording does and whose state is
//! empty. It sends no requests to anybody, and its randomness is the same in each run.

mod client_ids;
mod deliveries;
mod difference;
mod recording;
mod replay_handshake;
mod replay_manifest;
mod replay_run;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

use self::deliveries::Deliveries;
use self::difference::ReplayComparison;
use self::recording::Recording;
use self::replay_run::ReplayRun;
use crate::log;
use crate::stdout::print;

/// Which recording runs through which builds.
#[derive(Args)]
pub struct ReplayFlags {
    /// The recording, as `jackfield record` has written it.
    recording: PathBuf,
    /// The component of the build. Its manifest is the file NAME.toml beside it, if there is one.
    #[arg(long, value_name = "FILE")]
    plugin: PathBuf,
    /// The manifest of the build.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// The component of another build, with which the build is compared, and not with what was recorded.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// The manifest of the other build.
    #[arg(long, value_name = "FILE", requires = "against")]
    against_manifest: Option<PathBuf>,
    /// Show all differences, and not only the first 100.
    #[arg(long)]
    all: bool,
    /// How long the node may take for one step.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Runs a recording through a build, and prints what differs.
pub(super) fn replay(flags: &ReplayFlags) -> anyhow::Result<()> {
    let recording = Recording::read(&flags.recording)?;
    for gap in recording.gaps() {
        print(&format!("{gap}\n"))?;
    }
    log::start_for_readers("warn,jackfield::plugin=error")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Of a share of the clients, nobody knows what timers have to send.
    let compares_timers = flags.against.is_some() || recording.is_of_all();
    let run = async |component: &Path, manifest: Option<&Path>| {
        let how = (compares_timers, flags.timeout);
        let run = Box::pin(ReplayRun::run(&recording, component, manifest, how));
        run.await
            .with_context(|| format!("the replay through {}", component.display()))
    };
    let ran = runtime.block_on(async {
        let before = match &flags.against {
            Some(component) => Some(run(component, flags.against_manifest.as_deref()).await?),
            None => None,
        };
        anyhow::Ok((before, run(&flags.plugin, flags.manifest.as_deref()).await?))
    });
    runtime.shutdown_background();
    let (before, after) = ran?;
    let names = [
        flags.against.as_ref().map_or_else(
            || "the recording".to_owned(),
            |component| component.display().to_string(),
        ),
        flags.plugin.display().to_string(),
    ];
    let both = [before.as_ref().unwrap_or(recording.sent()), &after];
    compare(&recording, names, both, flags.all)
}

/// Prints what differs. That something does is an error.
fn compare(
    recording: &Recording,
    names: [String; 2],
    [before, after]: [&Deliveries; 2],
    shows_all: bool,
) -> anyhow::Result<()> {
    let comparison = ReplayComparison::of(recording, before, after);
    if comparison.differences() > 0 {
        print(&format!("--- {}\n+++ {}\n", names[0], names[1]))?;
        print(&comparison.shown(shows_all))?;
    }
    for (name, deliveries) in names.iter().zip([before, after]) {
        for note in &deliveries.notes {
            print(&format!("{name}: {note}\n"))?;
        }
    }
    let (differ, all) = (comparison.differences(), comparison.messages());
    let of = format!(
        "{all} messages to {} clients in {} steps",
        recording.clients(),
        recording.steps().len()
    );
    if differ > 0 {
        bail!("{differ} of {of} differ");
    }
    print(&format!("the same: {of}\n"))
}
