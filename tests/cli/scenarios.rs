//! `jackfield test`: scenarios that pass, and what is said of those that do not.
//!
//! The component is `console`, which does what its clients say; `chat` says what the time is.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use jackfield_tests::{Output, component, run_node_binary};
use tempfile::TempDir;

/// A project with a built component and scenarios.
struct Project(TempDir);

impl Project {
    fn new(plugin: &str, manifest: &str) -> Result<Project> {
        let folder = tempfile::tempdir()?;
        let project = format!(
            "[build]\ncommand = 'test ! -e broken'\noutput = '{plugin}.wasm'\n\
             [test]\ncommand = 'echo the tests of the language; test ! -e failing'\n"
        );
        fs::write(folder.path().join("jackfield.toml"), project)?;
        fs::write(folder.path().join(format!("{plugin}.toml")), manifest)?;
        let to = folder.path().join(format!("{plugin}.wasm"));
        fs::copy(component(plugin)?, to)?;
        fs::create_dir(folder.path().join("scenarios"))?;
        Ok(Project(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.path().join("scenarios").join(name), text)?)
    }

    async fn test(&self, arguments: &[&str]) -> Result<Output> {
        let path = self.path().display().to_string();
        let all = [&["test", "--project", &*path][..], arguments].concat();
        run_node_binary(&all).await
    }

    async fn passes(&self, arguments: &[&str]) -> Result<String> {
        let output = self.test(arguments).await?;
        ensure!(output.code == 0, "{}", output.text());
        Ok(output.stdout)
    }

    /// Runs one scenario that fails, and returns what is said of it.
    async fn fails(&self, scenario: &str) -> Result<String> {
        self.write("it.scenario", scenario)?;
        let output = self
            .test(&["--no-build", "--filter", "it.scenario"])
            .await?;
        ensure!(output.code == 1, "{}", output.text());
        Ok(output.text())
    }
}

fn console() -> Result<Project> {
    Project::new("console", "")
}

/// The first lines of each scenario here: Ada is connected, and hears of timers.
const ADA: &str =
    "connect ada\nada<...\nada> {\"do\":\"join-group\",\"group\":\"timers\"}\nada<...\n";

const MESSAGES: &str = r#"# Whatever a client can do.
scenario messages of all kinds
connect ada
ada< {"generation":1,"event":"connected","client":"${ada}"}
connect bob
bob<...
ada> {"id":1,"do":"join-group","group":"tea"}
ada< {"id":1,"ok":null}
bob> {"id":[2],"do":"send-to-group","group":"tea","text":"hello\n${x}"}

scenario placeholders, bytes and lines
connect ada
ada< {"event":"connected","client":"${ada}","generation":1}
connect bob
bob< {"event":"connected","client":"${bob}","generation":"${generation}"}
bob> {"id":1,"do":"send-to-client","client":"${ada}","text":"two\nlines of ${bob}"}
ada<"two\nlines of ${bob}"
bob< {"id":1,"ok":null}
bob> {"id":${generation},"do":"send-to-client","client":"${ada}","binary":"AP8="}
ada<0x00 ff
bob< {"id":1,"ok":null}
ada>0x00
ada< {"error":{"code":"invalid-argument","message":"${any}"},"id":"${any}"}

scenario closed by either side
connect ada
ada<...
connect bob
bob<...
bob> {"do":"close-client","client":"${any-client}"}
"#;

#[tokio::test]
async fn scenarios_and_the_tests_of_the_language_run() -> Result<()> {
    let project = console()?;
    // Each scenario has an error in its last line, apart from the second one.
    project.write("messages.scenario", MESSAGES)?;
    project.write("not-one.txt", "nonsense")?;
    let output = project.test(&[]).await?;
    let text = output.text();
    ensure!(output.code == 1, "{text}");
    for said in [
        "the tests of the language\n",
        "FAILED  scenarios/messages.scenario: messages of all kinds",
        "scenarios/messages.scenario:9\n  bob> {\"id\":[2]",
        "`${x}` has no value yet",
        "ok      scenarios/messages.scenario: placeholders, bytes and lines",
        "2 of 3 scenarios failed",
    ] {
        ensure!(text.contains(said), "{said}\n{text}");
    }
    let filtered = project.passes(&["--filter", "placeholders"]).await?;
    ensure!(filtered.contains("all scenarios passed: 1"), "{filtered}");
    ensure!(
        !filtered.contains("the tests of the language"),
        "{filtered}"
    );
    // Nothing is left of what it runs with.
    let scratch = fs::read_dir(project.path().join(".jackfield"))?.count();
    ensure!(scratch == 1, "{scratch}");
    fs::write(project.path().join("failing"), "")?;
    let text = project.test(&[]).await?.text();
    ensure!(
        text.contains("the tests of the language failed (exit status: 1)"),
        "{text}"
    );
    fs::write(project.path().join("broken"), "")?;
    let text = project.test(&[]).await?.text();
    ensure!(text.contains("the build failed"), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_project_without_tests_is_told_how_to_write_one() -> Result<()> {
    let project = console()?;
    let file = "[build]\ncommand = 'true'\noutput = 'console.wasm'\n";
    fs::write(project.path().join("jackfield.toml"), file)?;
    let output = project.test(&[]).await?;
    ensure!(
        output.code == 1 && output.stderr.contains("scenarios/NAME.scenario"),
        "{output:?}"
    );
    let output = project.test(&["--filter", "tea"]).await?;
    ensure!(
        output.stderr.contains("no scenario has \"tea\""),
        "{output:?}"
    );
    Ok(())
}

#[tokio::test]
async fn handshakes_closes_calls_and_traps_are_expected() -> Result<()> {
    let manifest = "origins = ['https://tea.example']\nsubprotocols = ['tea.v1']\n\
                    [jwt]\nsecret_file = 'console.secret'\n";
    let project = Project::new("console", manifest)?;
    let scenario = r#"
connect eve => 401 a token is required
connect eve => 403
  token eve
  header Origin: https://elsewhere.example
connect ada /console?x=1 => subprotocol tea.v1
  token ada role=admin
  header Origin: https://tea.example
  subprotocol tea.v2
  subprotocol tea.v1
ada< {"event":"connected","client":"${ada}","generation":1}
ada> {"id":1,"do":"get-uid-by-client-id"}
ada< {"id":1,"ok":"ada"}

call echo  {"tea": 1} => {"tea": 1.0}
call caller => api test
call fail not-found => error not-found
call bytes 3 => ${any}
call do {"do":"get-uid-by-client-id","client":"${ada}"} => {"id":null,"ok":"ada"}

ada> {"do":"panic","message":"no tea"}
ada closed 1011
trapped no tea
connect ada
  token ada
ada<...
call do {"do":"close-uid","uid":"ada","code":4000,"reason":"tea is over","text":"bye"} => {"id":null,"ok":"${any}"}
ada< bye
ada closed 4000 tea ${any} over
connect ada
  token ada
ada<...
reload
ada> {"do":"generation"}
ada< {"id":null,"ok":{"plugin":"console","generation":2,"node":"${node}"}}
close ada 4001 enough
connect ada
  token ada
ada<...
drop ada
call do get-all-client-count => {"id":null,"ok":{"value":0,"missing":[]}}
"#;
    project.write("doors.scenario", scenario)?;
    project.passes(&["--no-build"]).await?;
    Ok(())
}

#[tokio::test]
async fn the_clock_stands_still_and_moves_by_the_scenario() -> Result<()> {
    let project = console()?;
    let timers = r#"
scenario a timer fires when its time has come, and not before
connect ada
ada<...
ada> {"do":"join-group","group":"timers"}
ada< {"id":null,"ok":null}
ada> {"do":"set-timer","name":"tea","after_ms":30000}
ada< {"id":null,"ok":null}
advance 29999ms
advance 1ms
ada< {"event":"timer","name":"tea","generation":1,"node":"${any}"}
advance 1h

scenario timers fire in their order
connect ada
ada<...
ada> {"do":"join-group","group":"timers"}
ada< {"id":null,"ok":null}
ada> {"do":"set-timer","name":"twenty","after_ms":20000}
ada< {"id":null,"ok":null}
ada> {"do":"set-timer","name":"often","after_ms":15000,"every_ms":15000}
ada< {"id":null,"ok":null}
ada> {"do":"set-timer","name":"ten","after_ms":10000}
ada< {"id":null,"ok":null}
advance 45s
ada< {"event":"timer","name":"ten","generation":"${any}","node":"${any}"}
ada< {"event":"timer","name":"often","generation":"${any}","node":"${any}"}
ada< {"event":"timer","name":"twenty","generation":"${any}","node":"${any}"}
ada< {"event":"timer","name":"often","generation":"${any}","node":"${any}"}
ada< {"event":"timer","name":"often","generation":"${any}","node":"${any}"}
reload
advance 15s
ada< {"event":"timer","name":"often","generation":2,"node":"${any}"}
"#;
    project.write("timers.scenario", timers)?;
    project.passes(&["--no-build"]).await?;

    let project = Project::new("chat", "[keyvalue]\nbuckets = ['history', 'default']\n")?;
    let said = r#"
clock 2026-01-01T08:30:00Z
connect ada
ada> {"do":"enter","name":"Ada","room":"tea"}
ada<...
ada> {"do":"say","text":"hello"}
ada< {"event":"said","from":"Ada","room":"tea","text":"hello","at":1767256200000,"number":"${any}"}
advance 1d
ada> {"do":"say","text":"hello"}
ada< {"event":"said","from":"Ada","room":"tea","text":"hello","at":1767342600000,"number":"${any}"}
"#;
    project.write("time.scenario", said)?;
    project.passes(&["--no-build"]).await?;
    Ok(())
}

#[tokio::test]
async fn several_nodes_are_one_and_one_of_them_dies() -> Result<()> {
    let project = console()?;
    let scenario = r#"
scenario a group on two nodes
nodes 2
connect ada
ada<...
connect bob on node 2
bob< {"event":"connected","client":"${bob}","generation":1}
bob> {"do":"join-group","group":"tea"}
bob< {"id":null,"ok":null}
ada> {"do":"send-to-group","group":"tea","text":"hello"}
bob< hello
ada< {"id":null,"ok":{"clients":1,"dropped":0,"missing":[]}}
call on node 2 do get-all-client-count => {"id":null,"ok":{"value":2,"missing":[]}}
kill node 2
call do get-all-client-count => {"id":null,"ok":{"value":1,"missing":[]}}
ada> {"do":"send-to-group","group":"tea","text":"hello"}
ada< {"id":null,"ok":{"clients":0,"dropped":0,"missing":[]}}
start node 2
connect bob on node 2
bob<...
ada> {"do":"send-to-all","text":"again","exclude":[]}
ada< again
ada< {"id":null,"ok":{"clients":2,"dropped":0,"missing":[]}}
bob< again
drain node 2
bob closed 1012

scenario a timer of the cluster fires once
nodes 2
connect ada
ada<...
connect bob on node 2
bob<...
ada> {"do":"join-group","group":"timers"}
ada< {"id":null,"ok":null}
ada> {"do":"set-timer","name":"one","after_ms":30000,"scope":"cluster"}
ada< {"id":null,"ok":null}
bob> {"do":"set-timer","name":"two","after_ms":40000,"scope":"cluster"}
bob< {"id":null,"ok":null}
bob> {"do":"set-timer","name":"three","after_ms":50000,"scope":"cluster"}
bob< {"id":null,"ok":null}
advance 1m
ada< {"event":"timer","name":"one","generation":1,"node":"${any}"}
ada< {"event":"timer","name":"two","generation":1,"node":"${any}"}
ada< {"event":"timer","name":"three","generation":1,"node":"${any}"}
advance 1h
"#;
    project.write("nodes.scenario", scenario)?;
    project.passes(&["--no-build"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_failure_says_what_came_instead() -> Result<()> {
    let project = console()?;
    let echo =
        |expected: &str| format!("connect ada\nada<...\ncall echo ada: hello => {expected}\n");
    let said = project.fails(&echo("ada: helo")).await?;
    let expected = "scenarios/it.scenario:3\n  call echo ada: hello => ada: helo\n  \
                    expected ada: helo\n  came     ada: hello\n                   ^\n";
    ensure!(said.contains(expected), "{said}");
    let said = project
        .fails(
            "connect ada\nada<...\nconnect bob\nbob<...\n\
             ada> {\"id\":1,\"do\":\"send-to-all\",\"text\":\"tea\"}\n\
             ada< tea\nada< {\"id\":2,\"ok\":{\"clients\":3,\"dropped\":0,\"missing\":[]}}\nbob< tea\n",
        )
        .await?;
    for expected in [
        "scenarios/it.scenario:7\n",
        "  $.id: expected 2, came 1\n",
        "  $.ok.clients: expected 3, came 2\n",
        "what came of line 5, ada> {\"id\":1",
        "\n  ada< tea\n",
        "\n  bob< tea\n",
        "jackfield: 1 of 1 scenarios failed",
    ] {
        ensure!(said.contains(expected), "{expected}\n{said}");
    }
    let ada = |more: &str| format!("connect ada\nada<...\n{more}\n");
    for (scenario, expected) in [
        (
            ada("ada> {\"do\":\"print\",\"text\":\"for the log\"}"),
            "INFO  for the log",
        ),
        (
            ada("ada> {\"do\":\"send-to-all\",\"text\":\"tea\"}\nada<...\nada< tea"),
            "nothing has come to ada",
        ),
        (
            "connect ada".to_owned(),
            "no line expects it:\n    ada< {\"event\":\"connected\"",
        ),
        (
            ada("call do {\"do\":\"close-client\",\"client\":\"x\"} => {}\n"),
            "$.error: came {\"code\":\"invalid-argument\"",
        ),
        (
            ada("call panic => x"),
            "expected an answer\n  came     error unknown-method",
        ),
        (ada("call do panic => error failed\n"), "    trapped\n"),
        (ada("trapped"), "no event has trapped"),
        (ada("ada closed 1000"), "ada is not closed"),
        (ada("close ada\nada> hello"), "there is no client ada"),
        (ada("connect ada"), "ada is connected already"),
        (ada("bob> hello"), "there is no client bob"),
        (
            "connect ada => 401".to_owned(),
            "expected => 401\n  came     the client is accepted",
        ),
        ("connect ada /nothing".to_owned(), "came     => 404"),
        (
            "connect ada => subprotocol tea".to_owned(),
            "expected subprotocol tea",
        ),
        ("connect ada\n  token ada".to_owned(), "has no [jwt]"),
        (
            "nodes 2\nkill node 2\nconnect ada on node 2".to_owned(),
            "node 2 does not run",
        ),
        ("nodes 2\nstart node 2".to_owned(), "node 2 runs already"),
    ] {
        let said = project.fails(&scenario).await?;
        ensure!(said.contains(expected), "{expected}\n{said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_component_that_does_not_load_is_said() -> Result<()> {
    let project = console()?;
    project.write("it.scenario", "connect ada\nada<...\n")?;
    fs::write(project.path().join("console.wasm"), "no component")?;
    let output = project.test(&["--no-build"]).await?;
    ensure!(output.code == 1, "{output:?}");
    ensure!(
        output.stderr.contains("a node would not load "),
        "{output:?}"
    );
    fs::remove_file(project.path().join("console.wasm"))?;
    let output = project.test(&["--no-build"]).await?;
    ensure!(output.stderr.contains("leave --no-build out"), "{output:?}");
    Ok(())
}

#[tokio::test]
async fn each_limit_has_its_sentence() -> Result<()> {
    let manifest = "[limits]\nsends_per_event = 20000\n";
    let project = Project::new("console", manifest)?;
    let many = |count: usize, line: &str| line.repeat(count);
    let clients: String = (0..=200)
        .map(|n| format!("connect c{n}\nc{n}<...\n"))
        .collect();
    let often = format!(
        "{ADA}ada> {{\"do\":\"set-timer\",\"name\":\"tick\",\"after_ms\":10,\"every_ms\":10}}\n\
                         ada<...\n"
    );
    let request = r#"{"do":"send-to-all","text":"tea"}"#;
    let flood = format!(
        "connect ada\nada<...\nconnect bob\nbob<...\n\
         ada> {{\"do\":\"repeat\",\"times\":10001,\"request\":{request}}}\n"
    );
    for (scenario, expected) in [
        (
            "nodes 6\nconnect ada\n".to_owned(),
            "it.scenario:1: `nodes 6`: a scenario has 1 to 5 nodes",
        ),
        (
            many(10_001, "drop ada\n"),
            "it.scenario:10001: `drop ada`: a scenario has at most 10000 lines",
        ),
        (many(1 << 20, "#\n"), "it.scenario"),
        (
            "advance 3700d\n".to_owned(),
            "the clock moves by ten years at most",
        ),
        (clients, "a scenario has at most 200 clients at a time"),
        (
            format!("{often}advance 10m\n"),
            "timers fire more than 10000 times",
        ),
        (flood, "more than 10000 messages came to one client"),
    ] {
        let said = project.fails(&scenario).await?;
        ensure!(said.contains(expected), "{expected}\n{said:.4000}");
    }
    project.write(
        "it.scenario",
        "connect ada\nada<...\nada> {\"do\":\"sleep\",\"ms\":10000}\n",
    )?;
    let output = project.test(&["--no-build", "--timeout", "200ms"]).await?;
    let expected =
        "after 200ms, node 1 is still busy with an event or a timer (--timeout allows more)";
    ensure!(output.stdout.contains(expected), "{output:?}");
    Ok(())
}
