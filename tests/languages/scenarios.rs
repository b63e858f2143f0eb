//! Scenarios of `jackfield test`: one file tests the same plugin in each language.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use jackfield_tests::run_node_binary;

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
    // A component of Python takes a while to compile.
    let output = run_node_binary(&["test", "--project", &path, "--timeout", "20s"]).await?;
    ensure!(output.code == 0, "{}", output.text());
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
