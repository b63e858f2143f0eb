//! What is passed on beside the program: the configuration, the unit, the chart and the file for
//! compose say only what this node understands.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use jackfield_tests::{binary_path, run_node_binary, run_node_binary_in};

fn dist() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../xtask/dist")
}

fn read(path: &str) -> Result<String> {
    let path = dist().join(path);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

#[tokio::test]
async fn the_configuration_of_the_packages_has_no_mistake() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let plugins = folder.path().display().to_string();
    let file = dist().join("node.toml").display().to_string();
    let arguments = ["config", "check", "--config", &file, "--plugins", &plugins];
    let output = run_node_binary(&arguments).await?;
    assert_eq!(output.code, 0, "{}", output.text());
    Ok(())
}

/// The flags in a text.
fn flags(text: &str) -> BTreeSet<&str> {
    let words = text.split(|char: char| !(char.is_ascii_alphanumeric() || char == '-'));
    let is_flag = |word: &&str| word.starts_with("--") && word.len() > 2;
    words.filter(is_flag).collect()
}

#[tokio::test]
async fn the_chart_and_the_file_for_compose_use_flags_and_variables_that_there_are() -> Result<()> {
    let (node, register) = (
        run_node_binary(&["node", "--help"]).await?.stdout,
        run_node_binary(&["register", "--help"]).await?.stdout,
    );
    let known: BTreeSet<&str> = flags(&node).union(&flags(&register)).copied().collect();
    let chart = read("helm/jackfield/templates/statefulset.yaml")?;
    let (_, arguments) = chart.split_once("args:").context("arguments")?;
    let (arguments, _) = arguments.split_once("env:").context("their end")?;
    let compose = read("compose/docker-compose.yml")?;
    let commands = compose
        .lines()
        .filter(|line| !line.contains("redis-server"));
    let commands: Vec<_> = commands.collect();
    let commands = commands.join("\n");
    for used in [arguments, &commands] {
        let used = flags(used);
        ensure!(used.len() > 5, "is this test still reading them? {used:?}");
        let unknown: Vec<_> = used.difference(&known).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
    // The node itself takes no unknown variable for a mistake.
    let config = run_node_binary(&["node", "--print-config"]).await?.stdout;
    let image = read("Dockerfile")?;
    let mut seen = 0;
    for text in [&compose, &image] {
        let words = text.split(|char: char| !(char.is_ascii_alphanumeric() || char == '_'));
        for variable in words.filter_map(|word| word.strip_prefix("JACKFIELD_")) {
            if variable == "IMAGE" {
                continue;
            }
            let key = variable.to_lowercase().replace("__", ".");
            assert!(config.contains(&format!("\n{key} = ")), "{variable}");
            seen += 1;
        }
    }
    ensure!(seen >= 6, "is this test still reading the variables?");
    // The image's own variables are such that a node starts with them.
    let variables = [
        ("JACKFIELD_LISTEN", "0.0.0.0:8080"),
        ("JACKFIELD_PLUGINS", "/"),
        ("JACKFIELD_CACHE", "/tmp"),
    ];
    let checked = run_node_binary_in(&variables, &["config", "check"]).await?;
    assert_eq!(checked.code, 0, "{}", checked.text());
    Ok(())
}

/// systemd's own check, and its score of what the unit is kept from: 10 is everything allowed.
#[test]
fn systemd_understands_the_unit_and_finds_it_hardened() -> Result<()> {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("skipped: there is no systemd-analyze on this machine");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let unit = folder.path().join("jackfield.service");
    let program = binary_path()?.display().to_string();
    let text = read("jackfield.service")?;
    ensure!(text.contains("ExecStart=/usr/bin/jackfield "), "{text}");
    std::fs::write(&unit, text.replace("/usr/bin/jackfield", &program))?;
    let analyze = |arguments: &[&str]| {
        let output = Command::new("systemd-analyze")
            .args(arguments)
            .arg(&unit)
            .output()?;
        let said = [output.stdout, output.stderr].concat();
        anyhow::Ok((output.status.success(), String::from_utf8(said)?))
    };
    let (is_good, said) = analyze(&["verify", "--man=no", "--recursive-errors=no"])?;
    let about_it: Vec<_> = said
        .lines()
        .filter(|line| line.contains("jackfield"))
        .collect();
    ensure!(is_good && about_it.is_empty(), "{said}");
    let (is_hardened, said) = analyze(&["security", "--offline=yes", "--threshold=20"])?;
    ensure!(is_hardened, "{said}");
    Ok(())
}
