//! Real browsers for a test: chromium, driven over WebDriver by chromedriver.
//!
//! A `Browser` owns one chromedriver on a free port and everything that it starts: all of it
//! is ended when the value is dropped, also by a test that fails. Each window is a browser of
//! its own, with a fresh profile, so that windows share nothing but the server.
//!
//! What a page shows is waited for, until the harness's one deadline. What went wrong in it, its
//! console and its requests, is asked of chromedriver.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use fantoccini::elements::Element;
use fantoccini::error::CmdError;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use jackfield_tests::{DEADLINE, within};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::sleep;
use tonic::codegen::http::Method;
use url::{ParseError, Url};

/// Between two looks at a page.
const GLANCE: Duration = Duration::from_millis(20);

/// How often a chromedriver is started until one has found a port.
const ATTEMPTS: usize = 3;

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
        let mut started = start_driver().await;
        // It takes a port for IPv4, and ends if somebody else has the same one for IPv6.
        for _ in 1..ATTEMPTS {
            if started.is_err() {
                started = start_driver().await;
            }
        }
        let (driver, output, port) = started?;
        Ok(Browser {
            chromium: find_program("chromium")?,
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
        let logs = json!({ "browser": "ALL", "performance": "ALL" });
        capabilities.insert("goog:loggingPrefs".to_owned(), logs);
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

    /// Nothing has gone wrong in the window's pages since this was asked last: no error or warning
    /// in the console, no request that failed, and none to another host than the pages' own.
    pub(crate) async fn is_untroubled(&self) -> Result<()> {
        let own = self.client.current_url().await?;
        let mut troubles = Vec::new();
        for line in self.read_log("browser").await? {
            if line["level"] == "SEVERE" || line["level"] == "WARNING" {
                troubles.push(line["message"].to_string());
            }
        }
        // A new window begins with a page of the browser's own, which is none of ours.
        let mut requests = BTreeSet::new();
        for line in self.read_log("performance").await? {
            let event: Value = serde_json::from_str(line["message"].as_str().unwrap_or_default())?;
            let event = Event(&event["message"]);
            let id = event.0["params"]["requestId"].to_string();
            let request = event.request();
            let is_own = request
                .as_ref()
                .is_some_and(|to| to.authority() == own.authority());
            if request.is_some() && (is_own || !requests.is_empty()) {
                requests.insert(id.clone());
            }
            if requests.contains(&id) {
                troubles.extend(event.trouble(&own));
            }
        }
        // A browser asks for `/favicon.ico` otherwise, and its log does not say so.
        let icon = self.run("return !!document.querySelector('link[rel=icon]')");
        if icon.await? != json!(true) {
            troubles.push("the page names no icon".to_owned());
        }
        ensure!(
            !requests.is_empty(),
            "no request was seen: is the log still read?"
        );
        ensure!(troubles.is_empty(), "{}", troubles.join("\n"));
        Ok(())
    }

    async fn read_log(&self, kind: &'static str) -> Result<Vec<Value>> {
        let log = self.client.issue_cmd(ReadLog(kind)).await?;
        log.as_array().cloned().context("no log")
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

/// An event of the browser's network.
struct Event<'a>(&'a Value);

impl Event<'_> {
    /// Where a request goes that begins.
    fn request(&self) -> Option<Url> {
        let of = &self.0["params"];
        let to = match self.0["method"].as_str()? {
            "Network.requestWillBeSent" => &of["request"]["url"],
            "Network.webSocketCreated" => &of["url"],
            _ => return None,
        };
        Url::parse(to.as_str()?).ok()
    }

    fn trouble(&self, own: &Url) -> Option<String> {
        let of = &self.0["params"];
        match self.0["method"].as_str()? {
            // The page has given it up by itself: it does not want the rest of a stream.
            "Network.loadingFailed" if of["canceled"] == json!(true) => None,
            "Network.loadingFailed" => Some(format!("a request failed: {of}")),
            "Network.responseReceived" if of["response"]["status"].as_u64()? >= 400 => {
                Some(format!("a request was refused: {}", of["response"]))
            }
            _ => {
                let to = self.request()?;
                let is_own = !to.has_host() || to.authority() == own.authority();
                (!is_own).then(|| format!("a request to another host: {to}"))
            }
        }
    }
}

/// Reads one of the browser's logs, as far as it has not been read.
#[derive(Debug)]
struct ReadLog(&'static str);

impl WebDriverCompatibleCommand for ReadLog {
    fn endpoint(&self, driver: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        driver.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(json!({ "type": self.0 }).to_string()))
    }
}

/// Reads on until `… was started successfully on port 41235.`
/// A chromedriver, what it prints, and its port.
async fn start_driver() -> Result<(Child, Lines<BufReader<ChildStdout>>, u16)> {
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
    Ok((driver, output, port))
}

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
