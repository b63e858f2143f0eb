//! The values that pass between a node and its plugins: one noun of the contract each.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};

/// A `ClientId` names one client, which is one connection, in the whole cluster.
///
/// No id is ever used twice, not even after a restart of the node. It has 26 characters of 0-9 and
/// a-z, to be kept and passed on as they are.
///
/// ```
/// use jackfield_sdk::ClientId;
///
/// let id = ClientId::from("0123456789abcdefghjkmnpqrs");
/// assert_eq!(id.as_str(), "0123456789abcdefghjkmnpqrs");
/// ```
#[derive(Clone)]
pub struct ClientId(IdText);

/// The text of an id. Each id of a node has `ID_BYTES`, so that a clone takes no memory.
#[derive(Clone)]
enum IdText {
    Whole([u8; ID_BYTES]),
    Other(String),
}

/// The length of an id, in bytes.
const ID_BYTES: usize = 26;

impl ClientId {
    /// Returns the id as it is written in messages, logs and calls from outside.
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    /// # struct Quiet;
    /// # impl jackfield_sdk::Plugin for Quiet {}
    ///
    /// let ada = Host::of::<Quiet>().connect("/")?;
    /// assert_eq!(ada.id().as_str().len(), 26);
    /// # Ok::<(), jackfield_sdk::Refuse>(())
    /// ```
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // SAFETY: they were a text.
            IdText::Whole(bytes) => unsafe { std::str::from_utf8_unchecked(bytes) },
            IdText::Other(text) => text,
        }
    }
}

impl PartialEq for ClientId {
    fn eq(&self, other: &ClientId) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for ClientId {}

impl Hash for ClientId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl PartialOrd for ClientId {
    fn partial_cmp(&self, other: &ClientId) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ClientId {
    fn cmp(&self, other: &ClientId) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl<T: Into<String>> From<T> for ClientId {
    /// Takes any text as an id.
    ///
    /// Whether it is one is for the node to say: calls with a malformed id return
    /// [`ErrorCode::InvalidArgument`].
    ///
    /// ```
    /// use jackfield_sdk::{ClientId, ErrorCode, is_online};
    ///
    /// # jackfield_sdk::testing::Host::new().run(|| {
    /// let nobody = ClientId::from("7zzzzzzzzzzzzzzzzzzzzzzzzz"); // it could be an id
    /// assert_eq!(is_online(&nobody), Ok(false));
    ///
    /// let error = is_online(&ClientId::from("ada")).unwrap_err();
    /// assert_eq!(error.code, ErrorCode::InvalidArgument);
    /// # });
    /// ```
    fn from(text: T) -> ClientId {
        let text = text.into();
        ClientId(match text.as_bytes().try_into() {
            Ok(whole) => IdText::Whole(whole),
            Err(_) => IdText::Other(text),
        })
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// An `Info` is a small map from string to string that lives exactly as long as its client.
///
/// The keys and values of one client have at most 4,096 bytes together by default.
pub type Info = BTreeMap<String, String>;

/// An `Error` says why a call had no effect.
///
/// Nothing is done by halves: where an error comes back, nobody was sent to, bound, joined or
/// closed. Only after [`TimedOut`](ErrorCode::TimedOut) may the call have had its effect.
///
/// ```
/// use jackfield_sdk::{ClientId, ErrorCode, send_to_client};
///
/// # jackfield_sdk::testing::Host::new().run(|| {
/// let error = send_to_client(&ClientId::from("nobody"), "hi").unwrap_err();
/// assert_eq!(error.code, ErrorCode::InvalidArgument);
/// # });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The code is for the program.
    pub code: ErrorCode,
    /// The message is for a person who reads a log.
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for Error {}

/// An `ErrorCode` says what kind of [`Error`] it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// An argument cannot be what it claims to be, and the message names it.
    ///
    /// It is a malformed client id, an empty or too long name, a close code that may not be sent,
    /// a wrong cursor, or a time that a timer cannot have.
    InvalidArgument,
    /// There is no such client: it has left, or it never was.
    NotFound,
    /// The client is the one whose `on_close` this is.
    Closed,
    /// The uid is another client's, and the plugin's policy is `reject-new`.
    Taken,
    /// The client's outbox is full.
    Overloaded,
    /// The call would pass a limit of this plugin or node, and the message names it.
    LimitExceeded,
    /// The client's node cannot be reached: it is silent, or the link to it is full.
    Unreachable,
    /// The answer did not come before the deadline, and the call may have had its effect.
    TimedOut,
    /// The plugin's manifest does not grant this.
    Denied,
    /// The node failed to do its part, and its log says more.
    Internal,
}

impl ErrorCode {
    /// Returns the code as the contract writes it, such as `not-found`.
    ///
    /// ```
    /// use jackfield_sdk::ErrorCode;
    ///
    /// assert_eq!(ErrorCode::NotFound.as_str(), "not-found");
    /// ```
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

/// A `TimerScope` says which node fires a [timer](crate::set_timer).
///
/// Both scopes may have a timer of the same name. [`on_timer`](crate::TimerHandler::on_timer) is
/// not told which of the two has fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TimerScope {
    /// The node where the timer was set fires it.
    Node,
    /// One node of the cluster, of those that run the plugin, fires the timer.
    Cluster,
}

/// A `Caller` is whoever calls a plugin's [`on_call`](crate::CallHandler::on_call).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// A backend calls, with the token of this name; the name is empty if the node asks for none.
    Api(String),
    /// The plugin of this name calls: another one of this node, or the plugin itself.
    Plugin(String),
}

/// A `CallError` says why a call to a plugin has no answer.
///
/// ```
/// use jackfield_sdk::{CallError, CallErrorCode};
///
/// let error = CallError::new(CallErrorCode::NotFound, "there is no order 7");
/// assert_eq!(error.to_string(), "there is no order 7 (not-found)");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallError {
    /// The code is for the program.
    pub code: CallErrorCode,
    /// The message is for a person who reads a log.
    pub message: String,
}

impl CallError {
    /// Makes an error of a code and a sentence for a log.
    ///
    /// ```
    /// use jackfield_sdk::{CallError, CallErrorCode};
    ///
    /// let error = CallError::new(CallErrorCode::Denied, "only billing may do that");
    /// assert_eq!(error.code, CallErrorCode::Denied);
    /// assert_eq!(error.message, "only billing may do that");
    /// ```
    pub fn new(code: CallErrorCode, message: impl Into<String>) -> CallError {
        CallError {
            code,
            message: message.into(),
        }
    }

    /// Makes the error for a method that the plugin does not have.
    ///
    /// It is for the last arm of the `match` in an [`on_call`](crate::CallHandler::on_call).
    ///
    /// ```
    /// use jackfield_sdk::{CallError, CallErrorCode};
    ///
    /// let error = CallError::unknown_method("opne");
    /// assert_eq!(error.code, CallErrorCode::UnknownMethod);
    /// assert_eq!(error.message, "there is no method \"opne\"");
    /// ```
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

/// A `CallErrorCode` says what kind of [`CallError`] it is.
///
/// A callee may return any of these. Where the node itself returns one, its description says what
/// the node means by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallErrorCode {
    /// There is no such method. The node means that the plugin exports no `call-handler`.
    UnknownMethod,
    /// The payload is not what the method takes.
    InvalidArgument,
    /// What the call is about is not there.
    NotFound,
    /// The caller may not do that. The node means that the callee's manifest does not name the
    /// caller under `[calls] allow`.
    Denied,
    /// The call would pass a limit, and the message names it.
    LimitExceeded,
    /// The call may work later. The node means that none of the callee's instances came free in
    /// time.
    Overloaded,
    /// What is needed for the call is not there. The node means that no such plugin runs here, or
    /// that it ends.
    Unavailable,
    /// The call went wrong, perhaps after it had its effect. The node means that `on_call`
    /// trapped.
    Failed,
}

impl CallErrorCode {
    /// Returns the code as the contract writes it, such as `not-found`.
    ///
    /// ```
    /// use jackfield_sdk::CallErrorCode;
    ///
    /// assert_eq!(CallErrorCode::UnknownMethod.as_str(), "unknown-method");
    /// ```
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

/// A `Reach` says how many clients a send reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The number counts clients of this node whose outbox took the message, and clients that other
    /// nodes have told of.
    ///
    /// Of other nodes' clients, excluded ones and those in several of the groups are not taken
    /// off. It is no error if the number is 0.
    pub clients: u64,
    /// The number counts clients of this node that lost the message because their outbox was full.
    pub dropped: u64,
    /// These nodes could not be told, are silent, or have not said yet what they hold. The list is
    /// empty when the answer is complete.
    pub missing: Vec<String>,
}

/// A `Count` is a number that was gathered in the whole cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// The value is the number itself.
    pub value: u64,
    /// These nodes did not answer, are silent, or have not said yet what they hold. The list is
    /// empty when the answer is complete.
    pub missing: Vec<String>,
}

/// A `Page` is a part of a list.
///
/// To go on, pass [`Page::next`] as the next call's cursor. [`all_pages`](crate::all_pages) walks
/// the whole of a list that way. What is there throughout the walk is listed exactly once; what
/// comes or goes meanwhile may be listed or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items are at most as many as were asked for, and their order means nothing.
    pub items: Vec<T>,
    /// The next call takes this as its cursor; `None` means that this was the last page.
    pub next: Option<String>,
    /// These nodes did not answer, are silent, or have not said yet what they hold. The list is
    /// empty when the page is complete.
    pub missing: Vec<String>,
}

/// A `Closer` says who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Closer {
    /// The client sent a close frame.
    Client,
    /// The plugin closed it, or one of its policies did.
    Plugin,
    /// The node closed it: the client broke the protocol or a limit, did not answer a ping, had an
    /// expired token, or the node drains.
    Node,
    /// Nobody closed it: the connection broke.
    Network,
}

/// A `Departure` describes a client that has left, as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure {
    /// The code is the close frame's: 1005 for one without a code, and 1006 where there was no
    /// close frame.
    pub code: u16,
    /// The reason is the close frame's, and may be empty.
    pub reason: String,
    /// The closer says who ended the connection.
    pub by: Closer,
    /// The client had this uid.
    pub uid: Option<String>,
    /// The client was in these groups.
    pub groups: Vec<String>,
    /// The client had this info.
    pub info: Info,
}

/// An `Identity` says which plugin runs, which build of it, and on which node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The plugin's name is the component's file name without `.wasm`.
    pub plugin: String,
    /// The generation counts the loads of the plugin on this node, from 1.
    pub generation: u64,
    /// The node is named by its incarnation, which is a new one at each start of the process.
    pub node: String,
}

/// A `Level` says how much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// The line is for whoever follows each step.
    Trace,
    /// The line is for whoever looks for a fault.
    Debug,
    /// The line is for the operator's everyday log.
    Info,
    /// The line says that something is off.
    Warn,
    /// The line says that something failed.
    Error,
}
