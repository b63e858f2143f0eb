//! `cargo xtask autobahn`: the Autobahn test suite (<https://github.com/crossbario/autobahn-testsuite>),
//! whose fuzzing client plays 517 conversations of the WebSocket protocol with a node's `echo`.
//!
//! The suite is of 2018 and needs Python 2.7: `python.rs` fetches both into a folder below
//! `target`.

mod python;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::json;

use self::python::Python;
use crate::file::remove;
use crate::host::{self, Running, Started};
use crate::workspace::Workspace;
use crate::{plugins, process, progress};

/// The suite's chapters: framing, pings, reserved bits, opcodes, fragments, UTF-8, closing, sizes
/// and times, what belongs to none, and compression.
const CHAPTERS: [&str; 11] = [
    "1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*", "12.*", "13.*",
];

/// The cases that they have.
const CASES: usize = 517;

/// The largest message among them, and room for it in an outbox.
const LIMITS: [&str; 4] = [
    "--set",
    "limits.message_bytes=16777216",
    "--set",
    "limits.outbox_bytes=33554432",
];

/// More than all of them took on two cores.
const TIME: Duration = Duration::from_secs(2_400);

/// The suite's name for the node.
const AGENT: &str = "Jackfield";

pub(crate) fn autobahn(workspace: &Workspace) -> Result<()> {
    let folder = workspace.target.join("autobahn");
    let python = Python::ensure(&folder.join("python"))?;
    plugins::build(workspace, &["echo".to_owned()])?;
    host::build_debug(workspace)?;

    let served = folder.join("plugins");
    fs::create_dir_all(&served)?;
    fs::copy(
        workspace.plugin_folder().join("echo.wasm"),
        served.join("echo.wasm"),
    )?;
    // Whatever is compressed at all is.
    fs::write(served.join("echo.toml"), "[compression]\nmin_bytes = 1\n")?;
    let mut node = Command::new(host::debug_program(workspace));
    node.args(["node", "--listen", "127.0.0.1:0", "--api", ""])
        .args(["--log", "error", "--plugins"])
        .arg(served)
        .args(LIMITS);
    let mut node = Running::start(&mut node)?;
    let (line, _stdout) = node.first_line()?.context("the node did not start")?;
    let started: Started = serde_json::from_str(&line)?;
    let address = started.listening.clients.context("it has no clients")?;

    let reports = folder.join("reports");
    remove(&reports)?;
    progress::step(&format!("playing {CASES} cases"), || {
        play(&python, &folder, &reports, address)
    })?;
    ensure!(node.ended()?.is_none(), "the node has ended");
    let index = fs::read_to_string(reports.join("index.json")).context("there is no report")?;
    judge(&index, &reports, &mut io::stdout().lock())
}

fn play(python: &Python, folder: &Path, reports: &Path, address: SocketAddr) -> Result<()> {
    let plan = folder.join("fuzzingclient.json");
    let plan_is = json!({
        "outdir": reports,
        "servers": [{ "agent": AGENT, "url": format!("ws://{address}/echo") }],
        "cases": CHAPTERS,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    });
    fs::write(&plan, plan_is.to_string())?;
    let log = folder.join("wstest.log");
    let output = File::create(&log)?;
    process::run_within(
        TIME,
        python
            .command("wstest")
            .args(["--mode", "fuzzingclient", "--spec"])
            .arg(plan)
            .stdout(output.try_clone()?)
            .stderr(output),
    )
    .with_context(|| format!("the suite did not come to its end; see {}", log.display()))
}

/// What the suite writes of one case.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    behavior: String,
    behavior_close: String,
    reportfile: String,
}

impl Case {
    /// Neither the conversation nor its end broke a rule.
    fn passed(&self) -> bool {
        [&self.behavior, &self.behavior_close]
            .into_iter()
            .all(|behavior| matches!(&**behavior, "OK" | "NON-STRICT" | "INFORMATIONAL"))
    }

    fn is_plain(&self) -> bool {
        self.behavior == "OK" && self.behavior_close == "OK"
    }
}

/// Reads the suite's `index.json`, prints what is to be seen there, and fails where a case did.
fn judge(index: &str, reports: &Path, out: &mut impl Write) -> Result<()> {
    let mut agents: BTreeMap<String, BTreeMap<String, Case>> =
        serde_json::from_str(index).context("the suite's report has another shape")?;
    let cases = agents.remove(AGENT).unwrap_or_default();
    let mut counts = BTreeMap::<&str, usize>::new();
    for (name, case) in &cases {
        *counts.entry(&case.behavior).or_default() += 1;
        if !case.is_plain() {
            let Case {
                behavior,
                behavior_close,
                reportfile,
            } = case;
            let report = reports.join(reportfile).with_extension("html");
            let report = report.display();
            writeln!(
                out,
                "{name:<8} {behavior:<14} close: {behavior_close:<14} {report}"
            )?;
        }
    }
    for (behavior, count) in counts {
        writeln!(out, "{count:>4} {behavior}")?;
    }
    writeln!(out, "report: {}", reports.join("index.html").display())?;
    ensure!(
        cases.len() == CASES,
        "the suite played {} cases, and not {CASES}",
        cases.len()
    );
    let failed = cases.values().filter(|case| !case.passed()).count();
    ensure!(failed == 0, "{failed} of {CASES} cases failed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(behavior: &str, close: &str, cases: usize) -> String {
        let ok = json!({ "behavior": "OK", "behaviorClose": "OK", "reportfile": "a.json", "duration": 1 });
        let mut all: BTreeMap<_, _> = (1..cases)
            .map(|case| (format!("1.{case}"), ok.clone()))
            .collect();
        let last = json!({ "behavior": behavior, "behaviorClose": close, "reportfile": "b.json" });
        all.insert("9.1.6".to_owned(), last);
        json!({ AGENT: all }).to_string()
    }

    fn judged(index: &str) -> (Result<()>, String) {
        let mut out = Vec::new();
        let result = judge(index, Path::new("reports"), &mut out);
        (result, String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn a_failed_case_is_named_and_fails_the_command() {
        for (behavior, close) in [
            ("FAILED", "OK"),
            ("OK", "FAILED"),
            ("UNIMPLEMENTED", "OK"),
            ("OK", "WRONG CODE"),
        ] {
            let (result, out) = judged(&index(behavior, close, CASES));
            assert!(
                out.contains("9.1.6") && out.contains("reports/b.html"),
                "{out}"
            );
            assert_eq!(
                result.map_err(|error| error.to_string()),
                Err(format!("1 of {CASES} cases failed"))
            );
        }
    }

    #[test]
    fn what_the_suite_lets_pass_is_shown_and_passes() {
        for behavior in ["NON-STRICT", "INFORMATIONAL"] {
            let (result, out) = judged(&index(behavior, "OK", CASES));
            assert!(
                result.is_ok() && out.contains(&format!("9.1.6    {behavior}")),
                "{out}"
            );
            assert!(out.contains(&format!("{} OK", CASES - 1)), "{out}");
        }
    }

    #[test]
    fn a_case_that_was_not_played_is_missed() {
        assert!(judged(&index("OK", "OK", CASES - 1)).0.is_err());
        assert!(judged("{}").0.is_err());
    }
}
