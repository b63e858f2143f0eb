//! `jackfield build`: the command of the project, and whether a node would load what it makes.

use std::path::Path;
use std::process::{ExitStatus, Stdio};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

use super::plugins_folder::PluginsFolder;
use super::project::{Project, ProjectFlags};
use super::wit;
use crate::config::{CacheFolder, Layers};
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
    make(&project, ProcessGroup::Terminal).await?;
    let folder = PluginsFolder::create(&project, "check")?;
    folder.put(&project)?;
    check(&project, &folder).await?;
    let output = project.output();
    let bytes = std::fs::metadata(&output)?.len();
    print(&format!(
        "{} is ready, with {bytes} bytes\n",
        output.display()
    ))
}

/// Checks that a node would load the plugin from this folder, and prints what is to be heeded. The component
/// is compiled then, for all nodes on this machine.
///
/// # Errors
///
/// A node would not load it.
pub(super) async fn check(project: &Project, folder: &PluginsFolder) -> anyhow::Result<()> {
    let compiler = CompilerOptions::new(&cache()?, &Limits::default());
    let component = folder.component(project);
    let checked = plugin::check(&component, compiler, PluginLimits::default()).await?;
    for advice in &checked.advice {
        print(&format!("warning: {}\n", indented(&advice.to_string())))?;
    }
    if let Some(error) = &checked.error {
        bail!(
            "a node would not load {}: {}",
            project.output().display(),
            indented(&error.to_string())
        );
    }
    Ok(())
}

/// The cache of compiled components, which is that of the nodes on this machine.
pub(super) fn cache() -> anyhow::Result<CacheFolder> {
    Ok(Layers::new(Vec::new(), None)?.read()?.cache)
}

/// Which signals of the terminal end the command.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ProcessGroup {
    /// Those that end this program.
    Terminal,
    /// None: it is ended here, with all that it has started.
    Own,
}

/// Runs the command of the project, and looks whether it has made the component. The command ends if
/// this is dropped.
///
/// # Errors
///
/// The command cannot be run, or fails, or makes no component.
pub(super) async fn make(project: &Project, group: ProcessGroup) -> anyhow::Result<()> {
    let output = project.output();
    if let Some(folder) = output.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    }
    let status = run_command(&project.folder, &project.build.command, group).await?;
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

/// Runs a command of a project by `sh -c` in a folder. The variable `JACKFIELD` has the path of this program.
///
/// # Errors
///
/// The command cannot be run.
pub(super) async fn run_command(
    folder: &Path,
    command: &str,
    group: ProcessGroup,
) -> anyhow::Result<ExitStatus> {
    let jackfield = std::env::current_exe().context("the path of this program")?;
    let mut process = Command::new("sh");
    process
        .args(["-c", command])
        .current_dir(folder)
        .env("JACKFIELD", jackfield)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if group == ProcessGroup::Terminal {
        return process.status().await.context("`sh` cannot be run");
    }
    let mut process = process
        .process_group(0)
        .spawn()
        .context("`sh` cannot be run")?;
    // What it has started ends with it.
    let group = process.id().and_then(|id| i32::try_from(id).ok());
    let group = scopeguard::guard(group.and_then(Pid::from_raw), |group| {
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    });
    let status = process.wait().await?;
    scopeguard::ScopeGuard::into_inner(group);
    Ok(status)
}
