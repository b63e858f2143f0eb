//! The values that pass between a node and its plugins: one noun of the contract each.

use std::collections::BTreeMap;
use std::fmt;

/// Names one client in the whole cluster; never used twice.
///
/// ```
/// use jackfield_sdk::ClientId;
///
/// let id = ClientId::from("0123456789abcdefghjkmnpqrs");
/// assert_eq!(id.as_str(), "0123456789abcdefghjkmnpqrs");
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(String);

impl ClientId {
    /// The id as it is written in messages, logs and calls from outside.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for ClientId {
    /// Any text: whether it is an id is for the node to say, with
    /// [`ErrorCode::InvalidArgument`] where it is none.
    fn from(text: T) -> ClientId {
        ClientId(text.into())
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// One WebSocket message; it stays text or binary from end to end.
///
/// ```
/// use jackfield_sdk::Message;
///
/// assert_eq!(Message::from("hello"), Message::Text("hello".to_owned()));
/// assert_eq!(Message::from(vec![1, 2]), Message::Binary(vec![1, 2]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Text: always UTF-8.
    Text(String),
    /// Bytes of any kind.
    Binary(Vec<u8>),
}

impl Message {
    /// The text of a text message.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Message::Text(text) => Some(text),
            Message::Binary(_) => None,
        }
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Message {
        Message::Text(text.to_owned())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Message {
        Message::Text(text)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Message {
        Message::Binary(bytes)
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Message {
        Message::Binary(bytes.to_vec())
    }
}

/// A small map that lives exactly as long as its client.
pub type Info = BTreeMap<String, String>;

/// Why a call had no effect.
///
/// ```
/// use jackfield_sdk::{ErrorCode, send_to_client, ClientId};
///
/// # jackfield_sdk::testing::Host::new().run(|| {
/// let error = send_to_client(&ClientId::from("nobody"), "hi").unwrap_err();
/// assert_eq!(error.code, ErrorCode::InvalidArgument);
/// # });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// For the program.
    pub code: ErrorCode,
    /// For a person who reads a log.
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for Error {}

/// What kind of [`Error`] it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// An argument can't be what it claims: a malformed client id, an empty uid or group.
    InvalidArgument,
    /// No such client: it has left, or it never was.
    NotFound,
    /// The client is the one whose `on_close` this is.
    Closed,
    /// The uid is another client's, and the plugin's policy is `reject-new`.
    Taken,
    /// The client's outbox is full.
    Overloaded,
    /// The call would pass a limit of this plugin or node.
    LimitExceeded,
    /// The client's node can't be reached.
    Unreachable,
    /// The answer did not come before the deadline; the call may have had its effect.
    TimedOut,
    /// The plugin's manifest does not grant this.
    Denied,
    /// The node failed to do its part; its log says more.
    Internal,
}

impl ErrorCode {
    /// The code as the contract writes it: `not-found`.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::InvalidArgument => "invalid-argument",
            ErrorCode::NotFound => "not-found",
            ErrorCode::Closed => "closed",
            ErrorCode::Taken => "taken",
            ErrorCode::Overloaded => "overloaded",
            ErrorCode::LimitExceeded => "limit-exceeded",
            ErrorCode::Unreachable => "unreachable",
            ErrorCode::TimedOut => "timed-out",
            ErrorCode::Denied => "denied",
            ErrorCode::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which node fires a [timer](crate::set_timer).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TimerScope {
    /// The node where it was set.
    Node,
    /// One node of the cluster.
    Cluster,
}

/// Who calls a plugin's [`on_call`](crate::CallHandler::on_call).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// A backend: the name of the token it calls with, empty for a node that asks for none.
    Api(String),
    /// Another plugin of this node, or the plugin itself: its name.
    Plugin(String),
}

/// Why a call to a plugin has no answer.
///
/// ```
/// use jackfield_sdk::{CallError, CallErrorCode};
///
/// let error = CallError::new(CallErrorCode::NotFound, "there is no order 7");
/// assert_eq!(error.to_string(), "there is no order 7 (not-found)");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallError {
    /// For the program.
    pub code: CallErrorCode,
    /// For a person who reads a log.
    pub message: String,
}

impl CallError {
    /// A code and a sentence.
    pub fn new(code: CallErrorCode, message: impl Into<String>) -> CallError {
        CallError {
            code,
            message: message.into(),
        }
    }

    /// For the arm of a `match` that is left.
    pub fn unknown_method(method: &str) -> CallError {
        let message = format!("there is no method {method:?}");
        CallError::new(CallErrorCode::UnknownMethod, message)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for CallError {}

/// What kind of [`CallError`] it is: a callee may answer any of these, and beside it what the
/// node means by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallErrorCode {
    /// There is no such method. The node: the plugin exports no `call-handler`.
    UnknownMethod,
    /// The payload is not what the method takes.
    InvalidArgument,
    /// What the call is about is not there.
    NotFound,
    /// The caller may not do that. The node: the callee's manifest does not name it under
    /// `[calls] allow`.
    Denied,
    /// The call would pass a limit.
    LimitExceeded,
    /// Later it may work. The node: none of the callee's instances came free in time.
    Overloaded,
    /// What is needed for it is not there. The node: no such plugin runs here, or it ends.
    Unavailable,
    /// It went wrong, perhaps after it had its effect. The node: `on_call` trapped.
    Failed,
}

impl CallErrorCode {
    /// The code as the contract writes it: `not-found`.
    pub fn as_str(self) -> &'static str {
        match self {
            CallErrorCode::UnknownMethod => "unknown-method",
            CallErrorCode::InvalidArgument => "invalid-argument",
            CallErrorCode::NotFound => "not-found",
            CallErrorCode::Denied => "denied",
            CallErrorCode::LimitExceeded => "limit-exceeded",
            CallErrorCode::Overloaded => "overloaded",
            CallErrorCode::Unavailable => "unavailable",
            CallErrorCode::Failed => "failed",
        }
    }
}

impl fmt::Display for CallErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whom a send reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Clients of this node whose outbox took the message, and those that other nodes have told
    /// of (excluded ones, and those in several of the groups, are not taken off there); 0 is no
    /// error.
    pub clients: u64,
    /// Clients of this node that lost it because their outbox was full.
    pub dropped: u64,
    /// Nodes that could not be told, are silent, or have not said yet what they hold; empty when
    /// the answer is complete.
    pub missing: Vec<String>,
}

/// A number, gathered in the whole cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// The number.
    pub value: u64,
    /// Nodes that did not answer, are silent, or have not said yet what they hold; empty when the
    /// answer is complete.
    pub missing: Vec<String>,
}

/// A part of a list; pass [`Page::next`] as the next call's cursor to go on.
///
/// [`all_pages`](crate::all_pages) walks the whole of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// At most as many as asked for; the order means nothing.
    pub items: Vec<T>,
    /// None: this was the last page.
    pub next: Option<String>,
    /// As in [`Count`].
    pub missing: Vec<String>,
}

/// A client that asks to come in, as its HTTP request said it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handshake {
    /// The request's path, percent-encoded as it came.
    pub path: String,
    /// The query's names and values, in order, percent-decoded.
    pub query: Vec<(String, String)>,
    /// Header names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// The peer's address and port as the node sees them.
    pub remote_address: String,
    /// The offered subprotocols, in the client's order of preference.
    pub subprotocols: Vec<String>,
    /// The uid that the node itself has found for the client, where the manifest says how. It is
    /// bound when the client is accepted, unless it has another one by then.
    pub uid: Option<String>,
}

impl Handshake {
    /// The first value of a query parameter.
    ///
    /// ```
    /// use jackfield_sdk::Handshake;
    ///
    /// let query = vec![("room".to_owned(), "tea".to_owned())];
    /// let handshake = Handshake { query, ..Handshake::default() };
    /// assert_eq!(handshake.query("room"), Some("tea"));
    /// ```
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The first value of a header; the name's case does not matter. A header that came in several
    /// lines, as `Cookie` may, has one entry for each in [`headers`](Handshake::headers).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// Lets a client in; all of it optional.
///
/// ```
/// use jackfield_sdk::Accept;
///
/// let accept = Accept::new().uid("ada").group("lobby").info("name", "Ada");
/// assert_eq!(accept.uid.as_deref(), Some("ada"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accept {
    /// One of the offered subprotocols.
    pub subprotocol: Option<String>,
    /// Bound as by [`bind_uid`](crate::bind_uid), in place of the handshake's.
    pub uid: Option<String>,
    /// Joined as by [`join_group`](crate::join_group).
    pub groups: Vec<String>,
    /// Set as by [`set_info`](crate::set_info).
    pub info: Info,
}

impl Accept {
    /// Lets the client in as it is.
    pub fn new() -> Accept {
        Accept::default()
    }

    /// Answers this subprotocol, one of those offered.
    pub fn subprotocol(mut self, name: impl Into<String>) -> Accept {
        self.subprotocol = Some(name.into());
        self
    }

    /// Binds this uid.
    pub fn uid(mut self, uid: impl Into<String>) -> Accept {
        self.uid = Some(uid.into());
        self
    }

    /// Joins this group, and those named before.
    pub fn group(mut self, group: impl Into<String>) -> Accept {
        self.groups.push(group.into());
        self
    }

    /// Sets one entry of the info.
    pub fn info(mut self, key: impl Into<String>, value: impl Into<String>) -> Accept {
        self.info.insert(key.into(), value.into());
        self
    }
}

/// Turns a client away before the upgrade, with an HTTP answer.
///
/// A browser keeps that from its page. Where the plugin's manifest has `refuse = "close"`, the
/// client gets a close frame instead: its code is 4000 and the status, its reason the first 123
/// bytes of the text.
///
/// ```
/// use jackfield_sdk::Refuse;
///
/// assert_eq!(Refuse::new(401, "log in first").status, 401);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refuse {
    /// 400 to 599.
    pub status: u16,
    /// The answer's body, plain text.
    pub reason: String,
}

impl Refuse {
    /// An HTTP status, 400 to 599, and a sentence for whoever reads the answer.
    pub fn new(status: u16, reason: impl Into<String>) -> Refuse {
        Refuse {
            status,
            reason: reason.into(),
        }
    }
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Closer {
    /// The client sent a close frame.
    Client,
    /// The plugin closed it, or one of its policies did.
    Plugin,
    /// The node: a broken protocol or limit, no answer to a ping, a drain.
    Node,
    /// Nobody: the connection broke.
    Network,
}

/// A client that has left, as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure {
    /// The close frame's code; 1005 for one without, 1006 where there was no close frame.
    pub code: u16,
    /// The close frame's reason, perhaps empty.
    pub reason: String,
    /// Who ended the connection.
    pub by: Closer,
    /// The uid it had.
    pub uid: Option<String>,
    /// The groups it was in.
    pub groups: Vec<String>,
    /// The info it had.
    pub info: Info,
}

/// What runs, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The plugin's name: the component's file name without `.wasm`.
    pub plugin: String,
    /// Which load of the plugin on this node this is, from 1.
    pub generation: u64,
    /// The node's incarnation: a new one at each start of the process.
    pub node: String,
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// For whoever follows each step.
    Trace,
    /// For whoever looks for a fault.
    Debug,
    /// For the operator's everyday log.
    Info,
    /// Something is off.
    Warn,
    /// Something failed.
    Error,
}
