//! The client of a node's API over HTTP.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, EXPECT, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::flags::ApiFlags;
use super::output::{items, text};
use crate::authorities;

/// The time for an answer. A rollback may compile a component, which may take minutes.
pub(super) const TIMEOUT: Duration = Duration::from_secs(600);

/// The time for what may be larger than the memory, or go through many nodes.
pub(super) const LONG_TIMEOUT: Duration = Duration::from_secs(6 * 3600);

/// The time for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a large request waits for the node's word to begin.
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

/// The largest answer, in bytes.
const ANSWER_BYTES: usize = 256 << 20;

/// The most operations that go into one batch.
const BATCH: usize = 500;

/// The most items of a page.
const PAGE: usize = 1_000;

/// A client of the API of one node.
pub(super) struct ApiClient {
    url: String,
    authorization: Option<HeaderValue>,
    http: Client<HttpsConnector<HttpConnector>, RequestBody>,
}

/// The body of a request.
type RequestBody = UnsyncBoxBody<Bytes, io::Error>;

impl ApiClient {
    /// Creates a client of the API that the flags name.
    ///
    /// # Errors
    ///
    /// The flags are wrong, or a file that they name.
    pub(super) fn new(flags: &ApiFlags) -> anyhow::Result<ApiClient> {
        let target = flags.target()?;
        let url = target.url.trim_end_matches('/');
        // `HOST:PORT` is enough.
        let url = match url.contains("://") {
            true => url.to_owned(),
            false => format!("http://{url}"),
        };
        let parsed: Uri = url.parse().unwrap_or_default();
        ensure!(
            parsed.scheme().is_some() && parsed.host().is_some(),
            "{url:?} is no URL of an API: http://127.0.0.1:8081 is (--api)"
        );
        let tls = authorities::client_config("--authority", &target.authority)?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let authorization = target.token.map(|token| {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
            value.set_sensitive(true);
            anyhow::Ok(value)
        });
        Ok(ApiClient {
            url,
            authorization: authorization.transpose().context("the token")?,
            http: Client::builder(TokioExecutor::new()).build(connector),
        })
    }

    /// Asks for what is at a path.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let request = self.request(Method::GET, path, None)?;
        self.answer(self.send(request, TIMEOUT).await?).await
    }

    /// Asks for a change, or calls a function.
    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let body = (JSON, whole(Bytes::from(body.to_string())));
        let request = self.request(Method::POST, path, Some(body))?;
        self.answer(self.send(request, TIMEOUT).await?).await
    }

    /// Puts something at a path that may be larger than the memory, and waits for the answer,
    /// `LONG_TIMEOUT` at most.
    pub(super) async fn put(
        &self,
        path: &str,
        format: &str,
        bytes: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> anyhow::Result<Value> {
        let may_begin = Arc::new(Notify::new());
        let begin = may_begin.clone();
        let bytes = stream::once(async move {
            // What is between here and the node may know nothing of the word.
            let _ = tokio::time::timeout(CONTINUE_TIMEOUT, begin.notified()).await;
            bytes
        });
        let bytes = bytes.flatten().map(|bytes| bytes.map(Frame::data));
        let body = (format, StreamBody::new(bytes).boxed_unsync());
        let mut request = self.request(Method::PUT, path, Some(body))?;
        // A node that refuses it hangs up without reading the body, and whoever still writes one
        // does not hear why.
        let expected = HeaderValue::from_static("100-continue");
        request.headers_mut().insert(EXPECT, expected);
        hyper::ext::on_informational(&mut request, move |answer| {
            if answer.status() == StatusCode::CONTINUE {
                may_begin.notify_one();
            }
        });
        self.answer(self.send(request, LONG_TIMEOUT).await?).await
    }

    /// Deletes what is at a path.
    pub(super) async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        let request = self.request(Method::DELETE, path, None)?;
        self.answer(self.send(request, TIMEOUT).await?).await
    }

    /// Calls a function of a plugin, by its name in kebab-case.
    pub(super) async fn call(
        &self,
        plugin: &str,
        function: &str,
        request: &Value,
    ) -> anyhow::Result<Value> {
        let plugin = utf8_percent_encode(plugin, NON_ALPHANUMERIC);
        self.post(&format!("/v1/plugins/{plugin}/{function}"), request)
            .await
    }

    /// Calls a method of a plugin, and returns what it answers.
    pub(super) async fn call_method(
        &self,
        plugin: &str,
        method: &str,
        payload: Bytes,
    ) -> anyhow::Result<Bytes> {
        let [plugin, method] =
            [plugin, method].map(|name| utf8_percent_encode(name, NON_ALPHANUMERIC));
        let path = format!("/v1/plugins/{plugin}/call/{method}");
        let body = ("application/octet-stream", whole(payload));
        let request = self.request(Method::POST, &path, Some(body))?;
        let (status, answer) = self
            .whole_answer(self.send(request, TIMEOUT).await?)
            .await?;
        match status.is_success() {
            true => Ok(answer),
            false => Err(self.refusal(status, &answer)),
        }
    }

    /// Returns the items of a list, page by page, up to `most`; and whether there are more.
    pub(super) async fn list(
        &self,
        plugin: &str,
        function: &str,
        request: Value,
        most: usize,
    ) -> anyhow::Result<(Vec<String>, bool)> {
        let (all, has_more) = self.pages(plugin, function, "items", request, most).await?;
        let names = all.into_iter().filter_map(|item| match item {
            Value::String(name) => Some(name),
            _ => None,
        });
        Ok((names.collect(), has_more))
    }

    /// Gets the pages of a list, whose items are under this key of each answer.
    pub(super) async fn pages(
        &self,
        plugin: &str,
        function: &str,
        key: &str,
        mut request: Value,
        most: usize,
    ) -> anyhow::Result<(Vec<Value>, bool)> {
        let mut all = Vec::new();
        loop {
            request["limit"] = json!((most - all.len()).clamp(1, PAGE));
            let page = self.call(plugin, function, &request).await?;
            warn_of_missing(&page);
            all.extend(items(&page[key]).cloned());
            let next = page["next"].as_str();
            match next {
                Some(next) if all.len() < most => request["cursor"] = json!(next),
                next => return Ok((all, next.is_some())),
            }
        }
    }

    /// Calls a function once for each of several requests, and returns what each has answered, or its
    /// error.
    pub(super) async fn batch(
        &self,
        function: &str,
        requests: &[Value],
    ) -> anyhow::Result<Vec<Value>> {
        let mut outcomes = Vec::new();
        for some in requests.chunks(BATCH) {
            let operations: Vec<_> = some.iter().map(|one| json!({ function: one })).collect();
            let answer = self
                .post("/v1/batch", &json!({ "operations": operations }))
                .await?;
            let answered = answer["outcomes"].as_array().cloned();
            outcomes.extend(answered.context("the API has answered without outcomes")?);
        }
        Ok(outcomes)
    }

    /// Returns the plugin of a command: the one that is named, or the only one that the node has.
    pub(super) async fn plugin(&self, named: Option<&str>) -> anyhow::Result<String> {
        if let Some(named) = named {
            return Ok(named.to_owned());
        }
        match &*self.plugins(None).await? {
            [only] => Ok(only.clone()),
            [] => bail!("the node has no plugins"),
            several => bail!(
                "name one of the plugins with --plugin: {}",
                several.join(", ")
            ),
        }
    }

    /// Returns the plugins of a command: the one that is named, or all that the node knows.
    pub(super) async fn plugins(&self, named: Option<&str>) -> anyhow::Result<Vec<String>> {
        if let Some(named) = named {
            return Ok(vec![named.to_owned()]);
        }
        let nodes = self.get("/v1/nodes").await?;
        let plugins = items(&nodes["node"]["plugins"]);
        let names = plugins.filter_map(|plugin| plugin["name"].as_str().map(str::to_owned));
        Ok(names.collect())
    }

    /// Opens an answer that goes on. `timeout` is the time until it begins.
    pub(super) async fn open(&self, path: &str, timeout: Duration) -> anyhow::Result<Incoming> {
        let request = self.request(Method::GET, path, None)?;
        let response = self.send(request, timeout).await?;
        match response.status().is_success() {
            true => Ok(response.into_body()),
            false => {
                self.answer(response).await?;
                bail!("{} has refused it and not said why", self.url)
            }
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, RequestBody)>,
    ) -> anyhow::Result<Request<RequestBody>> {
        let (format, body) = body.unzip();
        let mut request = Request::new(body.unwrap_or_else(|| whole(Bytes::new())));
        *request.method_mut() = method;
        *request.uri_mut() = format!("{}{path}", self.url).parse()?;
        let headers = request.headers_mut();
        let accepted = HeaderValue::from_static("application/json, text/event-stream, */*");
        headers.insert(ACCEPT, accepted);
        if let Some(format) = format {
            headers.insert(CONTENT_TYPE, format.parse()?);
        }
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        Ok(request)
    }

    async fn send(
        &self,
        request: Request<RequestBody>,
        timeout: Duration,
    ) -> anyhow::Result<Response<Incoming>> {
        let asked = tokio::time::timeout(timeout, self.http.request(request)).await;
        let asked = asked.with_context(|| format!("{} has not answered", self.url))?;
        asked.with_context(|| {
            format!(
                "the API at {} cannot be reached: start a node there, or name another one with \
                 --api",
                self.url
            )
        })
    }

    async fn answer(&self, response: Response<Incoming>) -> anyhow::Result<Value> {
        let (status, body) = self.whole_answer(response).await?;
        match serde_json::from_slice(&body) {
            Ok(answer) if status.is_success() => Ok(answer),
            _ => Err(self.refusal(status, &body)),
        }
    }

    async fn whole_answer(
        &self,
        response: Response<Incoming>,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect();
        let body = tokio::time::timeout(TIMEOUT, body).await;
        let body = body.with_context(|| format!("{} has not answered", self.url))?;
        let body = body
            .map_err(|error| anyhow::anyhow!(error))
            .context("the answer did not come whole")?;
        Ok((status, body.to_bytes()))
    }

    /// Why the API has refused something, as its answer says.
    fn refusal(&self, status: StatusCode, body: &[u8]) -> anyhow::Error {
        let problem: Value = serde_json::from_slice(body).unwrap_or_default();
        match status.is_success() {
            false if problem["detail"].is_string() => {
                anyhow!(
                    "{} ({})",
                    text(&problem["detail"]),
                    text(&problem["reason"])
                )
            }
            _ => anyhow!(
                "{} is no API of a node: it has answered {status} (--api)",
                self.url
            ),
        }
    }
}

/// The content type of most requests.
const JSON: &str = "application/json";

fn whole(bytes: Bytes) -> RequestBody {
    Full::from(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Says on stderr which nodes have not answered.
pub(super) fn warn_of_missing(answer: &Value) {
    let missing = items(&answer["missing"]);
    let missing: Vec<&str> = missing.filter_map(Value::as_str).collect();
    if !missing.is_empty() {
        eprintln!(
            "jackfield: these nodes have not answered: {}",
            missing.join(", ")
        );
    }
}
