//! A stream of server-sent events of a node's API.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::api_client::{ApiClient, TIMEOUT};
use super::output::{print, without_c1};

/// The time without a word of the node after which it counts as ended. It says something every 15
/// seconds.
const SILENCE: Duration = Duration::from_secs(45);

/// The most bytes of what has come and is not printed yet.
const LINE_BYTES: usize = 16 << 20;

/// The reason why nothing more is printed.
const ENDED: &str = "nothing more is heard of the node: it has ended, or the connection broke";

/// A stream that is open.
pub(super) struct EventStream {
    body: Incoming,
    /// What has come and is not a whole line yet, or not looked at.
    lines: Vec<u8>,
}

impl EventStream {
    /// Opens the stream at a path of the API.
    pub(super) async fn open(api: &ApiClient, path: &str) -> anyhow::Result<EventStream> {
        Ok(EventStream {
            body: api.open(path, TIMEOUT).await?,
            lines: Vec::new(),
        })
    }

    /// Opens the stream of a live trace of clients of a plugin.
    pub(super) async fn of_trace(
        api: &ApiClient,
        plugin: &str,
        parameters: &[(&str, &str)],
    ) -> anyhow::Result<EventStream> {
        let plugin = utf8_percent_encode(plugin, NON_ALPHANUMERIC);
        let path = format!("/v1/plugins/{plugin}/trace?{}", query(parameters));
        EventStream::open(api, &path).await
    }

    /// Prints what comes until the node ends, which is an error: whoever watches must hear of it. Each
    /// event is one line of JSON, or what `shown` makes of it.
    pub(super) async fn print_all(
        mut self,
        is_json: bool,
        shown: impl Fn(&Value) -> String,
    ) -> anyhow::Result<()> {
        loop {
            let event = self.next().await?;
            print(&match is_json {
                true => format!("{}\n", without_c1(&event.to_string())),
                false => shown(&event),
            })?;
        }
    }

    /// Waits for the data of the next event.
    pub(super) async fn next(&mut self) -> anyhow::Result<Value> {
        loop {
            // An event is a few lines, and only that with its data counts.
            while let Some(end) = self.lines.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.lines.drain(..=end).collect();
                if let Some(data) = line.strip_prefix(b"data:") {
                    return Ok(serde_json::from_slice(data)?);
                }
            }
            let frame = tokio::time::timeout(SILENCE, self.body.frame()).await;
            let Ok(Some(Ok(frame))) = frame else {
                anyhow::bail!("{ENDED}");
            };
            if let Ok(bytes) = frame.into_data() {
                self.lines.extend_from_slice(&bytes);
            }
            anyhow::ensure!(
                self.lines.len() <= LINE_BYTES,
                "this is no stream of events: a line has more than {LINE_BYTES} bytes (--api)"
            );
        }
    }
}

/// The parameters that name plugins.
pub(super) fn plugin_parameters(plugins: &[String]) -> Vec<(&str, &str)> {
    plugins.iter().map(|name| ("plugin", &**name)).collect()
}

/// A query with these parameters.
pub(super) fn query(parameters: &[(&str, &str)]) -> String {
    let parameters = parameters.iter().map(|(name, value)| {
        let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
        format!("{name}={value}")
    });
    parameters.collect::<Vec<_>>().join("&")
}
