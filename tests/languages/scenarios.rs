//! Scenarios of `jackfield test`: one file tests the same plugin in each language.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jackfield_tests::node_command;

/// The scenarios of the lobby, as `jackfield new` writes them.
const LOBBY: &str = include_str!("../../guest-sdk/common/scenarios/lobby.scenario");

/// An hour of an auction, and what ends it.
const AUCTION: &str = r#"
connect ada ?name=ada
connect bob ?name=bob
call open {"item":"vase","price":100,"ms":3600000} => {"item":"vase","ends_in_ms":3600000}
call open {"item":"vase","price":100,"ms":1000} => error invalid-argument
call state {"item":"lamp"} => error not-found
ada> {"bid":{"item":"vase","amount":120}}
ada< {"event":"bid","item":"vase","amount":120,"by":"ada"}
bob< {"event":"bid","item":"vase","amount":120,"by":"ada"}
bob> {"bid":{"item":"vase","amount":120}}
bob< {"event":"refused","item":"vase","why":"the price is 120"}
advance 59m 59s
# It goes on for five seconds.
bob> {"bid":{"item":"vase","amount":121}}
ada< {"event":"bid","item":"vase","amount":121,"by":"bob"}
bob< {"event":"bid","item":"vase","amount":121,"by":"bob"}
advance 4999ms
advance 1ms
ada< {"event":"sold","item":"vase","amount":121,"by":"bob"}
bob< {"event":"sold","item":"vase","amount":121,"by":"bob"}
call state {"item":"vase"} => {"item":"vase","price":121,"by":"bob","open":false}
"#;

/// The time for a command that compiles a component, at the lowest priority, while other tests run.
const DEADLINE: Duration = Duration::from_secs(180);

/// Runs scenarios with a component that was built.
async fn pass(component: &Path, plugin: &str, manifest: &str, scenarios: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let write = |name: String, text: &str| fs::write(folder.path().join(name), text);
    let project = format!("[build]\ncommand = 'true'\noutput = '{plugin}.wasm'\n");
    write("jackfield.toml".to_owned(), &project)?;
    write(format!("{plugin}.toml"), manifest)?;
    fs::copy(component, folder.path().join(format!("{plugin}.wasm")))?;
    fs::create_dir(folder.path().join("scenarios"))?;
    write("scenarios/it.scenario".to_owned(), scenarios)?;
    let path = folder.path().display().to_string();
    let mut command = node_command()?;
    command.args(["test", "--project", &path, "--timeout", "20s"]);
    let run = command.kill_on_drop(true).output();
    let output = tokio::time::timeout(DEADLINE, run).await;
    let output = output.context("the command does not end")??;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

mod lobby {
    use super::*;

    async fn works(component: std::path::PathBuf) -> Result<()> {
        pass(&component, "lobby", "", LOBBY).await
    }

    crate::in_each_language!("lobby", rust, ts, js, python, go, c);
}

mod auction {
    use super::*;

    async fn works(component: std::path::PathBuf) -> Result<()> {
        let manifest = include_str!("auction.toml");
        pass(&component, "auction", manifest, AUCTION).await
    }

    crate::in_each_language!("auction", rust, ts, python, go, c);
}
