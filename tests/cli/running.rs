//! Commands that go on until somebody ends them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use jackfield_tests::{Node, node_command, within};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// A command that goes on, and the lines that it prints.
pub(crate) struct Running {
    pub(crate) child: tokio::process::Child,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
}

impl Running {
    /// Starts a command for the API of this node.
    pub(crate) fn start(node: &Node, arguments: &[&str]) -> Result<Running> {
        let api = format!("http://{}", node.api_address());
        let mut command = node_command()?;
        command.args(arguments).args(["--api", &api]);
        command.stdout(std::process::Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("stdout")?).lines();
        Ok(Running { child, lines })
    }

    /// Reads up to the first line with these words, and does something as long as none has come.
    pub(crate) async fn line(
        &mut self,
        words: &str,
        mut meanwhile: impl AsyncFnMut() -> Result<()>,
    ) -> Result<String> {
        let reading = async {
            loop {
                let next = self.lines.next_line();
                match tokio::time::timeout(Duration::from_millis(300), next).await {
                    Ok(line) => {
                        let line = line?.context("the command has ended")?;
                        if line.contains(words) {
                            return anyhow::Ok(line);
                        }
                    }
                    Err(_) => meanwhile().await?,
                }
            }
        };
        within(words, reading).await
    }
}
