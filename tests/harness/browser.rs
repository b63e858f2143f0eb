//! Real browsers for a test: chromium, driven over WebDriver by chromedriver.
//!
//! A `Browser` owns one chromedriver on a free port and everything that it starts: all of it
//! is ended when the value is dropped, also by a test that fails. Each window is a browser of
//! its own, with a fresh profile, so that windows share nothing but the server.
//!
//! What a page shows is waited for, until the harness's one deadline.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use fantoccini::elements::Element;
use fantoccini::error::CmdError;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use jackfield_tests::{DEADLINE, within};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::sleep;

/// Between two looks at a page.
const GLANCE: Duration = Duration::from_millis(20);

/// A chromedriver and the browsers that it has started.
pub(crate) struct Browser {
    chromium: PathBuf,
    driver: Child,
    url: String,
    profiles: TempDir,
    windows: usize,
    /// Held open: chromedriver would end on a closed pipe.
    _output: Lines<BufReader<ChildStdout>>,
}

/// What a window is shown on.
#[derive(Clone, Copy)]
pub(crate) enum Screen {
    /// 1280 by 800.
    Desktop,
    /// 390 by 844, a touch screen.
    Phone,
}

/// One window; the person in front of it can look, type and click.
pub(crate) struct Window {
    client: Client,
}

impl Browser {
    pub(crate) async fn start() -> Result<Browser> {
        let chromium = find_program("chromium")?;
        let mut driver = Command::new(find_program("chromedriver")?)
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // The browsers that it starts are in its group, and end with it.
            .process_group(0)
            .spawn()
            .context("cannot start chromedriver")?;
        let stdout = driver.stdout.take().context("chromedriver has no stdout")?;
        let mut output = BufReader::new(stdout).lines();
        let port = within("chromedriver's port", read_port(&mut output)).await?;
        Ok(Browser {
            chromium,
            driver,
            url: format!("http://127.0.0.1:{port}"),
            profiles: TempDir::new()?,
            windows: 0,
            _output: output,
        })
    }

    pub(crate) async fn window(&mut self, screen: Screen) -> Result<Window> {
        self.windows += 1;
        let profile = self.profiles.path().join(self.windows.to_string());
        let mut options = json!({
            "binary": self.chromium,
            "args": [
                "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-quic", "--force-prefers-reduced-motion", "--window-size=1280,800",
                format!("--user-data-dir={}", profile.display()),
            ],
        });
        if let Screen::Phone = screen {
            let phone = json!({"width": 390, "height": 844, "pixelRatio": 2.0, "touch": true});
            options["mobileEmulation"] = json!({"deviceMetrics": phone});
        }
        let mut capabilities = fantoccini::wd::Capabilities::new();
        capabilities.insert("goog:chromeOptions".to_owned(), options);
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&self.url)
            .await
            .context("chromedriver cannot start chromium")?;
        Ok(Window { client })
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let pid = self
            .driver
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It fails when they have all gone by themselves.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Window {
    pub(crate) async fn open(&self, url: &str) -> Result<()> {
        self.client
            .goto(url)
            .await
            .with_context(|| format!("cannot open {url}"))
    }

    /// Closes the window, as a person does: the page gets no say in it.
    pub(crate) async fn close(self) -> Result<()> {
        self.client.close().await.context("cannot close a window")
    }

    pub(crate) async fn click(&self, css: &str) -> Result<()> {
        self.on(css, "click", async |element| element.click().await)
            .await
    }

    /// Types into a field, after what is in it.
    pub(crate) async fn type_into(&self, css: &str, text: &str) -> Result<()> {
        self.on(css, "type into", async |element| {
            element.send_keys(text).await
        })
        .await
    }

    /// Types into a field in place of what is in it.
    pub(crate) async fn fill(&self, css: &str, text: &str) -> Result<()> {
        self.on(css, "clear", async |element| element.clear().await)
            .await?;
        self.type_into(css, text).await
    }

    /// What a person reads there; nothing of what is hidden.
    pub(crate) async fn text(&self, css: &str) -> Result<String> {
        self.on(css, "read", async |element| element.text().await)
            .await
    }

    /// Waits until the text there is as `wanted` says, which `what` says in words.
    pub(crate) async fn read_until(
        &self,
        css: &str,
        what: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let text = self.text(css).await?;
            if wanted(&text) {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "waited in vain for {css} {what}; it shows:\n{text}"
            );
            sleep(GLANCE).await;
        }
    }

    /// Waits until the text there contains this.
    pub(crate) async fn shows(&self, css: &str, text: &str) -> Result<()> {
        self.read_until(css, &format!("to show {text:?}"), |shown| {
            shown.contains(text)
        })
        .await
    }

    /// Waits until the text there does not contain this.
    pub(crate) async fn stops_showing(&self, css: &str, text: &str) -> Result<()> {
        self.read_until(css, &format!("to stop showing {text:?}"), |shown| {
            !shown.contains(text)
        })
        .await
    }

    /// What a script in the page answers.
    pub(crate) async fn run(&self, script: &str) -> Result<Value> {
        self.client
            .execute(script, Vec::new())
            .await
            .with_context(|| format!("cannot run {script}"))
    }

    /// Does something with an element as soon as it is there; again with the one in its place
    /// if the page has replaced it meanwhile.
    async fn on<T>(
        &self,
        css: &str,
        doing: &str,
        act: impl AsyncFn(Element) -> Result<T, CmdError>,
    ) -> Result<T> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let wait = self.client.wait().at_most(DEADLINE).every(GLANCE);
            let element = wait.for_element(Locator::Css(css)).await;
            let element = element.with_context(|| format!("there is no {css} in the page"))?;
            match act(element).await {
                Err(error) if error.is_stale_element_reference() && Instant::now() < deadline => {}
                done => return done.with_context(|| format!("cannot {doing} {css}")),
            }
        }
    }
}

/// Reads on until `… was started successfully on port 41235.`
async fn read_port(output: &mut Lines<BufReader<ChildStdout>>) -> Result<u16> {
    while let Some(line) = output.next_line().await? {
        if let Some((_, port)) = line.split_once("successfully on port ") {
            return port
                .trim_end_matches('.')
                .parse()
                .with_context(|| format!("no port in: {line}"));
        }
    }
    bail!("chromedriver ended before it said its port")
}

fn find_program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .with_context(|| {
            format!("{name} is not on PATH; install it: apt-get install chromium chromium-driver")
        })
}
