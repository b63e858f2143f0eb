//! `cargo xtask test`: everything the tests need, then the tests.
//!
//! The tests find the node and the components through the environment, so they never build
//! anything themselves: `JACKFIELD_BIN` (the node's binary), `JACKFIELD_PLUGINS` and
//! `JACKFIELD_GUESTS` (folders of components).

use std::process::Command;

use anyhow::Result;

use crate::process::{self, cargo};
use crate::programs::{self, Program};
use crate::workspace::Workspace;
use crate::{clients, guests, host, languages, plain, plugins};

#[derive(clap::Args, Default)]
#[command(override_usage = "cargo xtask test [CARGO_ARGS]... [-- TEST_ARGS...]")]
pub(crate) struct Options {
    /// For `cargo test`: part of a test's name, `--test NAME`, `-p PACKAGE` …
    #[arg(allow_hyphen_values = true, value_terminator = "--")]
    cargo_args: Vec<String>,
    /// For the tests themselves: `--nocapture` …
    #[arg(allow_hyphen_values = true)]
    test_args: Vec<String>,
}

impl Options {
    /// Whether they choose tests, or how these are run; otherwise it is everything.
    fn chooses(&self) -> bool {
        !(self.cargo_args.is_empty() && self.test_args.is_empty())
    }
}

pub(crate) fn test(workspace: &Workspace, options: &Options) -> Result<()> {
    // A chosen test may well do without; those that do not say what is missing.
    if !options.chooses() {
        require_programs()?;
    }
    plugins::build(workspace, &[])?;
    guests::build(workspace)?;
    build_node_and_run(workspace, options)
}

/// What the tests run, and the package of Debian's that has it.
const PROGRAMS: &[Program] = &[
    ("chromium", "chromium"),
    ("chromedriver", "chromium-driver"),
    ("curl", "curl"),
    ("docker-registry", "docker-registry"),
    ("etcd", "etcd-server"),
    ("haproxy", "haproxy"),
    ("ip", "iproute2"),
    ("nginx", "nginx-light"),
    ("openssl", "openssl"),
    ("pebble", "pebble"),
    ("prometheus", "prometheus"),
    ("promtool", "prometheus"),
    ("redis-server", "redis-server"),
    ("stunnel4", "stunnel4"),
    ("systemd-socket-activate", "systemd"),
];

/// Makes sure of what the tests run, now rather than at the end of a long build.
pub(crate) fn require_programs() -> Result<()> {
    programs::require("the tests", PROGRAMS)
}

/// The part after the components: the node, then `cargo test`.
pub(crate) fn build_node_and_run(workspace: &Workspace, options: &Options) -> Result<()> {
    host::build_debug(workspace)?;
    let wants_driver = std::env::var_os(TURNS).is_some_and(|turns| turns == "driver");
    if options.chooses() && !wants_driver {
        let is_chosen = |suite: &str| options.cargo_args.iter().any(|argument| argument == suite);
        if is_chosen("languages") {
            languages::build(workspace)?;
        }
        if is_chosen("resume") || is_chosen("browser") {
            clients::build(workspace)?;
        }
        return process::run(&mut tests(workspace, options));
    }
    let [plugins, guests] = plain::build(workspace)?;
    let driver = [
        ("JACKFIELD_PLUGINS", &*plugins),
        ("JACKFIELD_GUESTS", &*guests),
    ];
    if options.chooses() {
        return process::run(tests(workspace, options).envs(driver));
    }
    // A suite that fails keeps no other from being run: one look says all that is wrong.
    // What the functions mean is shown twice more: with three nodes in the place of each, and
    // with a gateway and a node that runs its plugins; and there who may come in, too. And what
    // holds for each message is shown with the driver of turns, and without turns.
    let each_message = ["semantics", "events", "reload", "turns"];
    let consoles = languages::build(workspace)?;
    clients::build(workspace)?;
    let runs: [Run<'_>; 5] = [
        (&[], &[]),
        (&[("JACKFIELD_TESTS_NODES", "3")], &["semantics"]),
        (
            &[("JACKFIELD_TESTS_NODES", "gateway")],
            &["semantics", "access"],
        ),
        (&driver, &each_message),
        (&[(TURNS, "off")], &each_message),
    ];
    let run = |(environment, suites): Run<'_>| {
        let suites = suites.iter().flat_map(|suite| ["--test", suite]);
        let options = Options {
            cargo_args: suites
                .chain(["--no-fail-fast"])
                .map(str::to_owned)
                .collect(),
            test_args: Vec::new(),
        };
        process::run(tests(workspace, &options).envs(environment.iter().copied()))
    };
    let outcomes = runs.map(run);
    // And with the plugin `console` of each language that has an SDK.
    let in_languages = consoles.iter().map(|console| {
        languages::compile(workspace, console)?;
        let console = console.parent().unwrap_or(console).display().to_string();
        run((&[("JACKFIELD_PLUGINS", &*console)], &["semantics"]))
    });
    let in_languages = in_languages.collect::<Vec<_>>();
    outcomes.into_iter().chain(in_languages).collect()
}

/// What a run of the tests has in its environment, and the suites that it runs; all if none is named.
type Run<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);

/// The variable that says how messages go to plugins: `off` is one by one, and `driver` is with the
/// components that have no `turn-handler`.
const TURNS: &str = "JACKFIELD_TESTS_TURNS";

fn tests(workspace: &Workspace, options: &Options) -> Command {
    let mut tests = cargo();
    tests.arg("test");
    if !names_packages(&options.cargo_args) {
        tests.arg("--workspace");
    }
    if std::env::var_os(THREADS).is_none() {
        tests.env(THREADS, tests_at_once().to_string());
    }
    tests
        .args(&options.cargo_args)
        .arg("--")
        .args(&options.test_args)
        .current_dir(&workspace.root)
        .env("PATH", process::search_path())
        .env("JACKFIELD_BIN", host::debug_program(workspace))
        .env("JACKFIELD_PLUGINS", workspace.plugin_folder())
        .env("JACKFIELD_GUESTS", workspace.guest_folder())
        .env("JACKFIELD_LANGUAGES", languages::folder(workspace))
        .env("JACKFIELD_JS_CLIENT", clients::folder(workspace));
    tests
}

/// The variable by which Rust's test programs learn how many tests to run at once.
const THREADS: &str = "RUST_TEST_THREADS";

/// How many tests of a program run at once. Most of them wait for a timeout or a process most of
/// the time, so twice as many as processors take little more than half the time.
fn tests_at_once() -> usize {
    2 * std::thread::available_parallelism().map_or(2, usize::from)
}

/// Whether `args` say which packages to test, which `--workspace` would override.
fn names_packages(args: &[String]) -> bool {
    args.iter()
        .any(|arg| arg.starts_with("-p") || arg.starts_with("--package"))
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;

    fn parse(line: &str) -> Options {
        let words = std::iter::once("test").chain(line.split_whitespace());
        let matches = Options::augment_args(clap::Command::new("test")).get_matches_from(words);
        Options::from_arg_matches(&matches).expect("any arguments will do")
    }

    #[test]
    fn arguments_are_for_cargo_until_two_dashes_and_then_for_the_tests() {
        let cases: [(&str, &[&str], &[&str]); 5] = [
            ("", &[], &[]),
            ("-- --nocapture", &[], &["--nocapture"]),
            ("--test reload", &["--test", "reload"], &[]),
            ("reload -- --nocapture", &["reload"], &["--nocapture"]),
            (
                "-p xtask demo -- --exact -p",
                &["-p", "xtask", "demo"],
                &["--exact", "-p"],
            ),
        ];
        for (line, for_cargo, for_tests) in cases {
            let options = parse(line);
            assert_eq!(options.cargo_args, for_cargo, "{line}");
            assert_eq!(options.test_args, for_tests, "{line}");
        }
    }

    #[test]
    fn a_chosen_package_replaces_the_whole_workspace() {
        assert!(names_packages(&parse("-p xtask").cargo_args));
        assert!(names_packages(&parse("--package=xtask reload").cargo_args));
        assert!(!names_packages(&parse("reload -- -p").cargo_args));
    }
}
