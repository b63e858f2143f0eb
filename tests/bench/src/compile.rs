//! Compiling: how long a component takes from its file to an instance that has started.
//!
//! A second build is the first one with a custom section behind it: another file, with the same
//! functions. Builds of a plugin that brings its interpreter differ as little.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::machine;
use crate::server::Built;
use crate::table::{median, table};

/// Measures a shipped plugin, and `component` if there is one, and prints the table.
pub(crate) fn run_compile(built: &Built, component: Option<&Path>, rounds: usize) -> Result<()> {
    let shipped = built.plugins.join("console.wasm");
    let components = [Some(shipped.as_path()), component];
    let mut rows = Vec::new();
    for component in components.into_iter().flatten() {
        let bytes = std::fs::read(component).with_context(|| component.display().to_string())?;
        let rounds: Result<Vec<_>> = (0..rounds).map(|_| measure(built, &bytes)).collect();
        let rounds = rounds?;
        let of = |value: fn(&[Duration; 3]) -> Duration| {
            let seconds = rounds.iter().map(|round| value(round).as_secs_f64());
            format!("{:.3}", median(seconds))
        };
        let name = component.file_name().unwrap_or_default().to_string_lossy();
        rows.push([
            format!("{name}, {} KiB", bytes.len() >> 10),
            of(|[first, _, _]| *first),
            of(|[_, second, _]| *second),
            of(|[_, _, known]| *known),
        ]);
    }
    let head = ["", "first build, s", "second build, s", "known build, s"];
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}\n", machine::describe())?;
    writeln!(
        stdout,
        "`jackfield check`, with its process\n\n{}",
        table(head, rows)
    )?;
    Ok(())
}

fn measure(built: &Built, component: &[u8]) -> Result<[Duration; 3]> {
    machine::pin_nowhere()?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("plugin.wasm");
    let check = |component: &[u8]| -> Result<Duration> {
        std::fs::write(&path, component)?;
        check(built, &path, &folder.path().join("cache"))
    };
    // Of type 0, with a name of one byte and nothing else.
    let second = [component, &[0, 2, 1, b'b']].concat();
    Ok([check(component)?, check(&second)?, check(component)?])
}

fn check(built: &Built, component: &Path, cache: &Path) -> Result<Duration> {
    let began = Instant::now();
    let output = Command::new(&built.node)
        .arg("check")
        .arg(component)
        .env("JACKFIELD_CACHE", cache)
        .output()?;
    ensure!(
        output.status.success(),
        "{} would not load: {}",
        component.display(),
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(began.elapsed())
}
