//! `jackfield test`: the tests of a project in its own language, and its scenarios, which drive the
//! component in nodes of this process.
//!
//! A scenario is a file `scenarios/NAME.scenario`. Each has nodes, a clock and clients of its own, and none
//! of them knows of another one.

mod scenario;
mod scenario_run;
mod scenario_words;
mod scripted_handshake;
mod scripted_message;
mod template;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use self::scenario::{Scenario, read_scenarios};
use self::scenario_run::run_scenario;
use super::build::{ProcessGroup, check, make, run_command};
use super::plugins_folder::PluginsFolder;
use super::project::{PROJECT_FILE, Project, ProjectFlags};
use super::wit;
use crate::guest::LOG_TARGET;
use crate::log;
use crate::stdout::print;

/// The folder of a project with its scenarios, and how their files end.
const FOLDER: &str = "scenarios";
const ENDING: &str = "scenario";

/// The most files with scenarios.
const FILES: usize = 1_000;

/// Which tests of a project run.
#[derive(Args)]
pub struct TestFlags {
    #[command(flatten)]
    project: ProjectFlags,
    /// Files with scenarios; without any, the tests of the language run, and all of scenarios/*.scenario.
    files: Vec<PathBuf>,
    /// Only scenarios whose file or title has this text, and no tests of the language.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Test the component as it was built last.
    #[arg(long)]
    no_build: bool,
    /// How long the nodes may take for what one line does.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Runs the tests of a project.
pub(super) fn test(flags: &TestFlags) -> anyhow::Result<()> {
    let project = Project::find(&flags.project.project)?;
    let scenarios = scenarios(&project, flags)?;
    let tests = project
        .test
        .as_ref()
        .filter(|_| flags.files.is_empty() && flags.filter.is_none());
    ensure!(
        tests.is_some() || !scenarios.is_empty(),
        "there is nothing to test: write a file {FOLDER}/NAME.{ENDING}, or name the command of your language \
         in {PROJECT_FILE} (command under [test])"
    );
    log::start_for_readers(&format!("warn,jackfield::plugin=info,{LOG_TARGET}=trace"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tested = runtime.block_on(async {
        if !flags.no_build {
            wit::refresh(&project)?;
            make(&project, ProcessGroup::Terminal).await?;
        }
        if let Some(tests) = tests {
            let status =
                run_command(&project.folder, &tests.command, ProcessGroup::Terminal).await?;
            ensure!(
                status.success(),
                "the tests of the language failed ({status})"
            );
        }
        run_all(&project, &scenarios, flags.timeout).await
    });
    runtime.shutdown_background();
    tested
}

/// The scenarios that the flags want, each with its file as it is shown.
fn scenarios(project: &Project, flags: &TestFlags) -> anyhow::Result<Vec<(String, Scenario)>> {
    let files = match flags.files.is_empty() {
        true => files_of(project)?,
        false => flags.files.clone(),
    };
    let mut scenarios = Vec::new();
    for file in files {
        let shown = file.strip_prefix(&project.folder).unwrap_or(&file);
        let shown = shown.display().to_string();
        scenarios.extend(
            read_scenarios(&file)?
                .into_iter()
                .map(|scenario| (shown.clone(), scenario)),
        );
    }
    if let Some(filter) = &flags.filter {
        scenarios.retain(|(file, scenario)| name(file, scenario).contains(filter.as_str()));
        ensure!(
            !scenarios.is_empty(),
            "no scenario has {filter:?} in its file or its title"
        );
    }
    Ok(scenarios)
}

fn files_of(project: &Project) -> anyhow::Result<Vec<PathBuf>> {
    let folder = project.folder.join(FOLDER);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let failed = || format!("the folder {}", folder.display());
    let mut files = Vec::new();
    for entry in folder.read_dir().with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        if path.extension().is_some_and(|ending| ending == ENDING) {
            ensure!(
                files.len() < FILES,
                "{} has more than {FILES} files",
                folder.display()
            );
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

async fn run_all(
    project: &Project,
    scenarios: &[(String, Scenario)],
    step_timeout: Duration,
) -> anyhow::Result<()> {
    if scenarios.is_empty() {
        return Ok(());
    }
    ensure!(
        project.output().is_file(),
        "there is no {}: leave --no-build out",
        project.output().display()
    );
    let scratch = format!("test-{}", std::process::id());
    let _remove = scopeguard::guard(project.scratch().join(&scratch), |folder| {
        let _ = std::fs::remove_dir_all(folder);
    });
    let plugins = Path::new(&scratch).join("plugins");
    let folder = PluginsFolder::create(project, &plugins)?;
    folder.put(project)?;
    // What is wrong with it is said once, and no node has to wait for the compiler.
    check(project, &folder).await?;
    let mut failed = 0;
    for (file, scenario) in scenarios {
        // Each has the manifest and the builds of a node that has just been set up.
        let folder = PluginsFolder::create(project, &plugins)?;
        folder.put(project)?;
        let began = Instant::now();
        let ran = Box::pin(run_scenario(scenario, project, &folder, step_timeout)).await;
        let (name, seconds) = (name(file, scenario), began.elapsed().as_secs_f64());
        match ran {
            Ok(()) => print(&format!("ok      {name} ({seconds:.1} s)\n"))?,
            Err(failure) => {
                failed += 1;
                let place = match failure.line {
                    0 => file.clone(),
                    line => format!("{file}:{line}"),
                };
                print(&format!(
                    "FAILED  {name} ({seconds:.1} s)\n{place}\n{}\n\n",
                    failure.lines.join("\n")
                ))?;
            }
        }
    }
    let all = scenarios.len();
    if failed > 0 {
        bail!("{failed} of {all} scenarios failed");
    }
    print(&format!("all scenarios passed: {all}\n"))
}

/// The name of a scenario: its file, and its title if it has one.
fn name(file: &str, scenario: &Scenario) -> String {
    match &*scenario.title {
        "" => file.to_owned(),
        title => format!("{file}: {title}"),
    }
}
