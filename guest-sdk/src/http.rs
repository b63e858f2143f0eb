//! Requests to the hosts that the plugin's manifest allows.
//!
//! ```toml
//! # weather.toml
//! [http]
//! allow = ["https://api.example.com"]
//! ```
//!
//! ```
//! use jackfield_sdk::http::{Request, Response};
//! use jackfield_sdk::testing::Host;
//!
//! let host = Host::new().answer_http(|request| {
//!     assert_eq!(request.url(), "https://api.example.com/weather?in=London");
//!     Ok(Response::new(200, "rain"))
//! });
//! host.run(|| {
//!     let answer = Request::get("https://api.example.com/weather?in=London")
//!         .header("accept", "text/plain")
//!         .send()?;
//!     assert_eq!((answer.status, answer.text()), (200, Some("rain")));
//!     Ok::<(), jackfield_sdk::http::Error>(())
//! })?;
//! # Ok::<(), jackfield_sdk::http::Error>(())
//! ```
//!
//! A request waits within its event, and keeps the instance: with a node's defaults it ends
//! after 4 seconds, and request and answer have 1 MiB each. Any status is an answer, redirects
//! among them: none is followed.

use std::fmt;

use crate::host::http as host;

/// A request that can be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

/// An answer, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// 100 to 599.
    pub status: u16,
    /// Names in lower case, each as often as it came.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there is no answer. Whether the request has arrived is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// For a log.
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl Request {
    /// With any method.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Request {
        Request {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Asks for what is at `url`: `https://api.example.com/path?query`.
    pub fn get(url: impl Into<String>) -> Request {
        Request::new("GET", url)
    }

    /// Sends something there: see [`body`](Request::body).
    pub fn post(url: impl Into<String>) -> Request {
        Request::new("POST", url)
    }

    /// Adds a header. `host`, `connection` and others that are the connection's own are the
    /// node's, and an error when the request is sent.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Request {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With this body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = body.into();
        self
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its method.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Its body.
    pub fn body_bytes(&self) -> &[u8] {
        &self.body
    }

    /// Sends it, and waits for the answer. An error where nobody answered, the answer broke
    /// off or was too large, or the manifest does not allow it: then it names `http.allow`.
    pub fn send(self) -> Result<Response, Error> {
        host::send(self)
    }
}

impl Response {
    /// One with a body, for a test's answers.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Response {
        Response {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// Whether the status is 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The first header of this name, in whichever case, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let is_it = |(found, _): &&(String, Vec<u8>)| found.eq_ignore_ascii_case(name);
        let (_, value) = self.headers.iter().find(is_it)?;
        str::from_utf8(value).ok()
    }

    /// The body, if it is text.
    pub fn text(&self) -> Option<&str> {
        str::from_utf8(&self.body).ok()
    }
}
