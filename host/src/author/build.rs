//! `jackfield build`: the command of the project, and whether a node would load what it makes.

use std::path::Path;
use std::process::{ExitStatus, Stdio};

use anyhow::{Context as _, bail, ensure};
use tokio::process::Command;

use super::plugins_folder::PluginsFolder;
use super::project::{Project, ProjectFlags};
use super::wit;
use crate::config::CacheFolder;
use crate::guest::CompilerOptions;
use crate::limits::{Limits, PluginLimits};
use crate::log::indented;
use crate::plugin;
use crate::stdout::print;

/// Builds the project and checks the component.
#[tokio::main(flavor = "current_thread")]
pub(super) async fn build(flags: &ProjectFlags) -> anyhow::Result<()> {
    let project = Project::find(&flags.project)?;
    wit::refresh(&project)?;
    make(&project).await?;
    let output = project.output();
    let folder = PluginsFolder::create(&project, "check")?;
    folder.put(&project)?;
    let compiler = CompilerOptions::new(&CacheFolder::Default, &Limits::default());
    let component = folder.component(&project);
    let checked = plugin::check(&component, compiler, PluginLimits::default()).await?;
    for advice in &checked.advice {
        print(&format!("warning: {advice}\n"))?;
    }
    if let Some(error) = &checked.error {
        bail!(
            "a node would not load {}: {}",
            output.display(),
            indented(&error.to_string())
        );
    }
    let bytes = std::fs::metadata(&output)?.len();
    print(&format!(
        "{} is ready, with {bytes} bytes\n",
        output.display()
    ))?;
    Ok(())
}

/// Runs the command of the project, and looks whether it has made the component. The command ends if
/// this is dropped.
///
/// # Errors
///
/// The command cannot be run, or fails, or makes no component.
pub(super) async fn make(project: &Project) -> anyhow::Result<()> {
    let output = project.output();
    if let Some(folder) = output.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    }
    let status = run(&project.folder, &project.build.command).await?;
    ensure!(
        status.success(),
        "the build failed ({status}): it says why above"
    );
    ensure!(
        output.is_file(),
        "the build has ended, and there is no {}: let build.command make it, or name the file that it \
         makes (build.output)",
        output.display()
    );
    Ok(())
}

async fn run(folder: &Path, command: &str) -> anyhow::Result<ExitStatus> {
    let jackfield = std::env::current_exe().context("the path of this program")?;
    let mut process = Command::new("sh")
        .args(["-c", command])
        .current_dir(folder)
        .env("JACKFIELD", jackfield)
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .context("`sh` cannot be run")?;
    // What it has started ends with it.
    let group = process.id().and_then(|id| i32::try_from(id).ok());
    let group = group.and_then(rustix::process::Pid::from_raw);
    let group = scopeguard::guard(group, |group| {
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    });
    let status = process.wait().await?;
    scopeguard::ScopeGuard::into_inner(group);
    Ok(status)
}
