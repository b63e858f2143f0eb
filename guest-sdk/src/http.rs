//! This module sends requests to the hosts that the plugin's manifest allows.
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
//! A request waits within its event and keeps the instance. With a node's defaults it ends after 4
//! seconds, and the bodies of request and answer have at most 1 MiB each. Any status is an answer.
//! Redirects are answers, too: none is followed.

use std::fmt;

use crate::host::http as host;

/// A `Request` is an HTTP request that a plugin can send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

/// A `Response` is a whole answer, with its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status is 100 to 599.
    pub status: u16,
    /// The headers have names in lower case, each as often as it came.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body is whole, and may be empty.
    pub body: Vec<u8>,
}

/// An `Error` says why there is no answer.
///
/// Whether the request has arrived is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The message is a text for a log.
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl Request {
    /// Makes a request with any method.
    ///
    /// ```
    /// use jackfield_sdk::http::Request;
    ///
    /// let request = Request::new("DELETE", "https://api.example.com/orders/7");
    /// assert_eq!(request.method(), "DELETE");
    /// assert_eq!(request.url(), "https://api.example.com/orders/7");
    /// ```
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Request {
        Request {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Makes a request for what is at `url`, such as `https://api.example.com/path?query`.
    ///
    /// ```
    /// use jackfield_sdk::http::Request;
    ///
    /// let request = Request::get("https://api.example.com/weather?in=London");
    /// assert_eq!(request.method(), "GET");
    /// assert!(request.body_bytes().is_empty());
    /// ```
    pub fn get(url: impl Into<String>) -> Request {
        Request::new("GET", url)
    }

    /// Makes a request that brings something to `url`, which [`body`](Request::body) adds.
    ///
    /// ```
    /// use jackfield_sdk::http::Request;
    ///
    /// let request = Request::post("https://api.example.com/orders").body("tea");
    /// assert_eq!((request.method(), request.body_bytes()), ("POST", &b"tea"[..]));
    /// ```
    pub fn post(url: impl Into<String>) -> Request {
        Request::new("POST", url)
    }

    /// Adds a header to those that the request has.
    ///
    /// The node itself writes `host`, `connection` and other headers of the connection. A request
    /// that adds one of them fails when a node sends it; the stand-in of the tests takes it. A
    /// request has at most 128 headers, and 64 KiB of them.
    ///
    /// ```
    /// use jackfield_sdk::http::{Request, Response};
    /// use jackfield_sdk::testing::Host;
    ///
    /// let host = Host::new().answer_http(|request| {
    ///     let expected = Request::get("https://example.com").header("accept", "text/plain");
    ///     assert_eq!(*request, expected);
    ///     Ok(Response::new(200, "tea"))
    /// });
    /// let request = Request::get("https://example.com").header("accept", "text/plain");
    /// assert!(host.run(|| request.send())?.is_success());
    /// # Ok::<(), jackfield_sdk::http::Error>(())
    /// ```
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Request {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Gives the request this body, in place of the one it had.
    ///
    /// With a node's defaults a body has at most 1 MiB.
    ///
    /// ```
    /// use jackfield_sdk::http::Request;
    ///
    /// let request = Request::post("https://api.example.com/orders").body(r#"{"item":"tea"}"#);
    /// assert_eq!(request.body_bytes(), br#"{"item":"tea"}"#);
    /// ```
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = body.into();
        self
    }

    /// Returns the request's URL as it was given.
    ///
    /// ```
    /// use jackfield_sdk::http::Request;
    ///
    /// assert_eq!(Request::get("https://example.com/a?b").url(), "https://example.com/a?b");
    /// ```
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the request's method, such as `GET`.
    ///
    /// ```
    /// use jackfield_sdk::http::Request;
    ///
    /// assert_eq!(Request::get("https://example.com").method(), "GET");
    /// assert_eq!(Request::new("PATCH", "https://example.com").method(), "PATCH");
    /// ```
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Returns the request's body, which is empty unless one was given.
    ///
    /// ```
    /// use jackfield_sdk::http::Request;
    ///
    /// let request = Request::post("https://example.com");
    /// assert!(request.body_bytes().is_empty());
    /// assert_eq!(request.body(vec![1, 2]).body_bytes(), [1, 2]);
    /// ```
    pub fn body_bytes(&self) -> &[u8] {
        &self.body
    }

    /// Sends the request and waits for the whole answer.
    ///
    /// An answer of any status is `Ok`, so look at [`Response::is_success`].
    ///
    /// ```
    /// use jackfield_sdk::http::{Request, Response};
    /// use jackfield_sdk::testing::Host;
    ///
    /// let host = Host::new().answer_http(|_| Ok(Response::new(404, "no such order")));
    /// let answer = host.run(|| Request::get("https://api.example.com/orders/7").send())?;
    /// assert!(!answer.is_success());
    /// assert_eq!((answer.status, answer.text()), (404, Some("no such order")));
    /// # Ok::<(), jackfield_sdk::http::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The call fails if the manifest does not allow the request, and then the error names
    /// `http.allow`. It also fails if the URL or a header is wrong, if nobody answers in time (4
    /// seconds by default), if the answer breaks off, if a body is too large (1 MiB by default), or
    /// if too many requests are under way (64 by default).
    ///
    /// ```
    /// use jackfield_sdk::http::Request;
    /// use jackfield_sdk::testing::Host;
    ///
    /// let host = Host::new(); // without `answer_http`, nobody answers
    /// let error = host.run(|| Request::get("https://api.example.com").send()).unwrap_err();
    /// assert!(error.message.contains("http.allow"));
    /// ```
    pub fn send(self) -> Result<Response, Error> {
        host::send(self)
    }
}

impl Response {
    /// Makes an answer with a body and no headers, for a test.
    ///
    /// ```
    /// use jackfield_sdk::http::Response;
    ///
    /// let answer = Response::new(200, "rain");
    /// assert_eq!((answer.status, answer.body), (200, b"rain".to_vec()));
    /// ```
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Response {
        Response {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// Returns whether the status is 200 to 299.
    ///
    /// ```
    /// use jackfield_sdk::http::Response;
    ///
    /// assert!(Response::new(204, "").is_success());
    /// assert!(!Response::new(302, "").is_success()); // a redirect is not followed
    /// ```
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Returns the first header of this name, if it is text; the name's case does not matter.
    ///
    /// ```
    /// use jackfield_sdk::http::Response;
    ///
    /// let headers = vec![("location".to_owned(), b"/login".to_vec())];
    /// let answer = Response { headers, ..Response::new(302, "") };
    /// assert_eq!(answer.header("Location"), Some("/login"));
    /// assert_eq!(answer.header("content-type"), None);
    /// ```
    pub fn header(&self, name: &str) -> Option<&str> {
        let is_it = |(found, _): &&(String, Vec<u8>)| found.eq_ignore_ascii_case(name);
        let (_, value) = self.headers.iter().find(is_it)?;
        str::from_utf8(value).ok()
    }

    /// Returns the body, if it is text in UTF-8.
    ///
    /// ```
    /// use jackfield_sdk::http::Response;
    ///
    /// assert_eq!(Response::new(200, "rain").text(), Some("rain"));
    /// assert_eq!(Response::new(200, vec![0xff]).text(), None);
    /// ```
    pub fn text(&self) -> Option<&str> {
        str::from_utf8(&self.body).ok()
    }

    /// Reads the body as JSON.
    ///
    /// ```
    /// use jackfield_sdk::http::Response;
    /// use serde::Deserialize;
    ///
    /// #[derive(Debug, PartialEq, Deserialize)]
    /// struct Weather { degrees: i32 }
    ///
    /// let answer = Response::new(200, r#"{"degrees":21,"wind":"south"}"#);
    /// assert_eq!(answer.json(), Ok(Weather { degrees: 21 }));
    /// assert!(Response::new(502, "bad gateway").json::<Weather>().is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// The body is no JSON, or it is another JSON than `T` has. The error says where.
    #[cfg(feature = "json")]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, crate::JsonError> {
        crate::from_json(&self.body)
    }
}
