//! This module is an in-memory stand-in for the node, so that plain `cargo test` runs a plugin
//! without wasm.
//!
//! ```
//! use jackfield_sdk::testing::Host;
//! use jackfield_sdk::{Accept, ClientId, Handshake, Message, Plugin, Refuse, send_to_group};
//!
//! struct Lobby;
//!
//! impl Plugin for Lobby {
//!     fn on_connect(_: ClientId, _: Handshake) -> Result<Accept, Refuse> {
//!         Ok(Accept::new().group("lobby"))
//!     }
//!
//!     fn on_message(client: ClientId, message: Message) {
//!         let _ = send_to_group(&["lobby"], message, &[client]);
//!     }
//! }
//!
//! let host = Host::new();
//! let ada = host.connect::<Lobby>()?;
//! let bob = host.connect::<Lobby>()?;
//!
//! ada.say("hello");
//!
//! assert_eq!(bob.received(), ["hello".into()]);
//! assert!(ada.received().is_empty());
//! # Ok::<(), Refuse>(())
//! ```
//!
//! What the contract says of ids, uids, groups, info, closing and errors holds here, too, with
//! a node's default [`Limits`]. Other nodes are left out (nothing is ever missing or unreachable),
//! and so are full outboxes and limits of time and memory. A panic of the plugin goes through to
//! the test.

mod calls;
mod checks;
mod client;
pub(crate) mod config;
pub(crate) mod http;
pub(crate) mod keyvalue;
mod node;
mod pages;
#[cfg(test)]
mod tests;
mod timers;

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::http::{Error as HttpError, Request, Response};
use crate::plugin::{CallHandler, Lifecycle, Plugin, TimerHandler};
use crate::types::{CallError, Caller, Handshake, Level, Refuse};

pub(crate) use calls::*;
pub use client::Client;
use node::{Callee, Node, OnCall, Turn};

/// A `Host` is one node with one plugin's clients.
///
/// A clone is the same host.
#[derive(Clone)]
pub struct Host {
    node: Rc<RefCell<Node>>,
}

impl Default for Host {
    fn default() -> Host {
        Host::new()
    }
}

impl Host {
    /// Makes a host without clients, with a node's defaults.
    ///
    /// ```
    /// use jackfield_sdk::get_all_client_count;
    /// use jackfield_sdk::testing::Host;
    ///
    /// let host = Host::new();
    /// assert_eq!(host.run(get_all_client_count)?.value, 0);
    /// # Ok::<(), jackfield_sdk::Error>(())
    /// ```
    pub fn new() -> Host {
        Host {
            node: Rc::new(RefCell::new(Node::new())),
        }
    }

    /// Sets what happens when a uid is bound that another client has.
    ///
    /// The default is [`UidPolicy::Many`].
    ///
    /// ```
    /// use jackfield_sdk::testing::{Host, UidPolicy};
    /// use jackfield_sdk::{Plugin, Refuse, bind_uid};
    ///
    /// struct Quiet;
    /// impl Plugin for Quiet {}
    ///
    /// let host = Host::new().uid_policy(UidPolicy::KickOld);
    /// let old = host.connect::<Quiet>()?;
    /// let new = host.connect::<Quiet>()?;
    ///
    /// host.run(|| bind_uid(old.id(), "ada")).expect("nobody has it");
    /// host.run(|| bind_uid(new.id(), "ada")).expect("the old one goes");
    ///
    /// assert_eq!(old.closed(), Some((4001, "uid taken over".to_owned())));
    /// # Ok::<(), Refuse>(())
    /// ```
    pub fn uid_policy(self, policy: UidPolicy) -> Host {
        self.node.borrow_mut().uid_policy = policy;
        self
    }

    /// Sets other limits than a node's defaults.
    ///
    /// ```
    /// use jackfield_sdk::testing::{Host, Limits};
    /// use jackfield_sdk::{ErrorCode, Plugin, Refuse, join_group};
    ///
    /// struct Quiet;
    /// impl Plugin for Quiet {}
    ///
    /// let host = Host::new().limits(Limits { groups_per_client: 1, ..Limits::default() });
    /// let ada = host.connect::<Quiet>()?;
    ///
    /// host.run(|| join_group(ada.id(), "red")).expect("the first group");
    /// let error = host.run(|| join_group(ada.id(), "blue")).unwrap_err();
    /// assert_eq!(error.code, ErrorCode::LimitExceeded);
    /// # Ok::<(), Refuse>(())
    /// ```
    pub fn limits(self, limits: Limits) -> Host {
        self.node.borrow_mut().limits = limits;
        self
    }

    /// Sets the plugin's name, as [`identify`](crate::identify) returns it.
    ///
    /// The name is `plugin` unless it is set.
    ///
    /// ```
    /// use jackfield_sdk::identify;
    /// use jackfield_sdk::testing::Host;
    ///
    /// assert_eq!(Host::new().run(identify).plugin, "plugin");
    /// assert_eq!(Host::new().plugin_name("chat").run(identify).plugin, "chat");
    /// ```
    pub fn plugin_name(self, name: impl Into<String>) -> Host {
        self.node.borrow_mut().plugin = name.into();
        self
    }

    /// Sets the plugins that may call this one, as `allow` under `[calls]` in its manifest does.
    ///
    /// Without it no plugin may. Backends always may.
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{CallError, CallErrorCode, CallHandler, Caller};
    ///
    /// struct Ping;
    ///
    /// impl CallHandler for Ping {
    ///     fn on_call(_: Caller, _: &str, _: Vec<u8>) -> Result<Vec<u8>, CallError> {
    ///         Ok(b"pong".to_vec())
    ///     }
    /// }
    ///
    /// let host = Host::new().allow_calls(&["chat"]);
    /// let ping = |caller: &str| host.call::<Ping>(Caller::Plugin(caller.to_owned()), "ping", "");
    /// assert_eq!(ping("chat")?, b"pong");
    /// assert_eq!(ping("game").unwrap_err().code, CallErrorCode::Denied);
    /// # Ok::<(), CallError>(())
    /// ```
    pub fn allow_calls(self, callers: &[&str]) -> Host {
        self.node.borrow_mut().callers = callers.iter().map(ToString::to_string).collect();
        self
    }

    /// Sets the plugin's [settings](crate::config), as `[config]` in its manifest does.
    ///
    /// They take the place of those that were set before.
    ///
    /// ```
    /// use jackfield_sdk::config;
    /// use jackfield_sdk::testing::Host;
    ///
    /// let host = Host::new().config(&[("greeting", "hello")]);
    /// assert_eq!(host.run(|| config::get("greeting")).as_deref(), Some("hello"));
    /// ```
    pub fn config(self, settings: &[(&str, &str)]) -> Host {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.node.borrow_mut().settings = settings.iter().map(owned).collect();
        self
    }

    /// Grants these [buckets](crate::keyvalue), as `[keyvalue]` in the plugin's manifest does.
    ///
    /// They are empty, and are added to those that were granted before.
    ///
    /// ```
    /// use jackfield_sdk::keyvalue;
    /// use jackfield_sdk::testing::Host;
    ///
    /// let host = Host::new().buckets(&["default"]);
    /// host.run(|| keyvalue::open("default")?.set("motto", "festina lente"))?;
    ///
    /// // What is in them stays from one event to the next.
    /// let motto = host.run(|| keyvalue::open("default")?.get("motto"))?;
    /// assert_eq!(motto.as_deref(), Some(&b"festina lente"[..]));
    /// # Ok::<(), keyvalue::Error>(())
    /// ```
    pub fn buckets(self, names: &[&str]) -> Host {
        let mut node = self.node.borrow_mut();
        for name in names {
            node.buckets.entry((*name).to_owned()).or_default();
        }
        drop(node);
        self
    }

    /// Has `answer` answer the plugin's [requests](crate::http), in place of the internet.
    ///
    /// Nothing is denied, and no limit holds. Without it, each request is an error.
    ///
    /// ```
    /// use jackfield_sdk::http::{Error, Request, Response};
    /// use jackfield_sdk::testing::Host;
    ///
    /// let host = Host::new().answer_http(|request| match request.url() {
    ///     "https://api.example.com/rain" => Ok(Response::new(200, "yes")),
    ///     _ => Err(Error { message: "connection refused".to_owned() }),
    /// });
    /// let answer = host.run(|| Request::get("https://api.example.com/rain").send())?;
    /// assert_eq!(answer.text(), Some("yes"));
    /// assert!(host.run(|| Request::get("https://example.org").send()).is_err());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn answer_http(
        self,
        answer: impl FnMut(&Request) -> Result<Response, HttpError> + 'static,
    ) -> Host {
        self.node.borrow_mut().answer_http = Some(Box::new(answer));
        self
    }

    /// Puts another plugin on the same node, with clients of its own.
    ///
    /// When this plugin [`call`](crate::call)s the other host's plugin by its name, `P` answers.
    /// The other host must be kept: once it is dropped, calls to it return `Unavailable`.
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{CallError, CallHandler, Caller, call};
    ///
    /// struct Greeter;
    ///
    /// impl CallHandler for Greeter {
    ///     fn on_call(caller: Caller, _: &str, _: Vec<u8>) -> Result<Vec<u8>, CallError> {
    ///         Ok(format!("hello {caller:?}").into())
    ///     }
    /// }
    ///
    /// let greeter = Host::new().plugin_name("greeter").allow_calls(&["chat"]);
    /// let chat = Host::new().plugin_name("chat");
    /// chat.beside::<Greeter>(&greeter);
    ///
    /// let answer = chat.run(|| call("greeter", "greet", ""))?;
    /// assert_eq!(answer, br#"hello Plugin("chat")"#);
    /// # Ok::<(), CallError>(())
    /// ```
    pub fn beside<P: CallHandler>(&self, other: &Host) {
        let callee = Callee {
            node: Rc::downgrade(&other.node),
            on_call: P::on_call,
        };
        self.node.borrow_mut().callees.push(callee);
    }

    /// Calls the plugin, as a backend or another plugin does.
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{CallErrorCode, CallHandler, Caller};
    ///
    /// struct Mute;
    /// impl CallHandler for Mute {}
    ///
    /// let backend = Caller::Api("billing".to_owned());
    /// let error = Host::new().call::<Mute>(backend, "greet", "").unwrap_err();
    /// assert_eq!(error.code, CallErrorCode::UnknownMethod);
    /// ```
    ///
    /// # Errors
    ///
    /// The plugin's own errors come back as they are. The host's own
    /// [codes](crate::CallErrorCode) are these:
    ///
    /// - `Denied`: the caller is a plugin that [`allow_calls`](Host::allow_calls) does not name.
    /// - `LimitExceeded`: the method and the payload, or the answer, have more bytes than
    ///   [`Limits::call_bytes`].
    pub fn call<P: CallHandler>(
        &self,
        caller: Caller,
        method: &str,
        payload: impl AsRef<[u8]>,
    ) -> Result<Vec<u8>, CallError> {
        self.on_call(P::on_call, 1, caller, method, payload.as_ref())
    }

    /// Calls the contract's functions from a test, as one event of the plugin would.
    ///
    /// Clients that `work` closes have their [`on_close`](Plugin::on_close) when it has ended. A
    /// function of the contract panics if neither `run` nor an event calls it.
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{Plugin, Refuse, get_all_client_count};
    ///
    /// struct Quiet;
    /// impl Plugin for Quiet {}
    ///
    /// let host = Host::new();
    /// host.connect::<Quiet>()?;
    /// assert_eq!(host.run(get_all_client_count).expect("a number").value, 1);
    /// # Ok::<(), Refuse>(())
    /// ```
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        let value = self.turn(Turn::default(), work);
        self.run_close_events();
        value
    }

    /// Connects a client, with the handshake of a browser that asks for `/`.
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{Accept, ClientId, Handshake, Plugin, Refuse};
    ///
    /// struct Root;
    ///
    /// impl Plugin for Root {
    ///     fn on_connect(_: ClientId, handshake: Handshake) -> Result<Accept, Refuse> {
    ///         match &*handshake.path {
    ///             "/" => Ok(Accept::new()),
    ///             path => Err(Refuse::new(404, format!("there is no {path}"))),
    ///         }
    ///     }
    /// }
    ///
    /// let ada = Host::new().connect::<Root>()?;
    /// assert!(ada.received().is_empty());
    /// assert_eq!(ada.closed(), None);
    /// # Ok::<(), Refuse>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The client was refused, as [`connect_with`](Host::connect_with) says.
    pub fn connect<P: Plugin>(&self) -> Result<Client<P>, Refuse> {
        self.connect_with(Handshake {
            path: "/".to_owned(),
            remote_address: "127.0.0.1:51234".to_owned(),
            ..Handshake::default()
        })
    }

    /// Connects a client with this handshake.
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{Accept, ClientId, Handshake, Plugin, Refuse};
    ///
    /// struct Private;
    ///
    /// impl Plugin for Private {
    ///     fn on_connect(_: ClientId, handshake: Handshake) -> Result<Accept, Refuse> {
    ///         match handshake.query("key") {
    ///             Some("sesame") => Ok(Accept::new()),
    ///             _ => Err(Refuse::new(401, "say ?key=")),
    ///         }
    ///     }
    /// }
    ///
    /// let host = Host::new();
    /// assert_eq!(host.connect::<Private>().unwrap_err().status, 401);
    ///
    /// let query = vec![("key".to_owned(), "sesame".to_owned())];
    /// let handshake = Handshake { query, ..Handshake::default() };
    /// assert!(host.connect_with::<Private>(handshake).is_ok());
    /// ```
    ///
    /// # Errors
    ///
    /// The error is the answer that the client's HTTP request would get. It is the plugin's own
    /// [`Refuse`], with 403 in place of a status that is not 400 to 599, or it is the node's: 409
    /// for a uid that is taken, 400 for a uid or group that is empty or too long, and 500 for a
    /// subprotocol that was not offered and for anything else that cannot be had.
    pub fn connect_with<P: Plugin>(&self, handshake: Handshake) -> Result<Client<P>, Refuse> {
        let (id, mailbox) = self.node.borrow_mut().register(P::on_close);
        let (offered, found) = (handshake.subprotocols.clone(), handshake.uid.clone());
        let answer = self.turn(Turn::event_of(&id), || P::on_connect(id.clone(), handshake));
        let mut node = self.node.borrow_mut();
        let answer = answer.map(|accept| node.with_uid(&id, accept, found));
        let admitted = node.admit(&id, answer, &offered);
        drop(node);
        self.run_close_events();
        Ok(Client::new(self.clone(), id, admitted?, mailbox))
    }

    /// Has a generation of the plugin take over, by its [`on_start`](Lifecycle::on_start).
    ///
    /// ```
    /// use jackfield_sdk::Lifecycle;
    /// use jackfield_sdk::testing::Host;
    ///
    /// struct Picky;
    ///
    /// impl Lifecycle for Picky {
    ///     fn on_start() -> Result<(), String> {
    ///         Err("the database is down".to_owned())
    ///     }
    /// }
    ///
    /// assert_eq!(Host::new().start::<Picky>(), Err("the database is down".to_owned()));
    /// ```
    ///
    /// # Errors
    ///
    /// The error is the text with which the plugin refuses to start.
    pub fn start<P: Lifecycle>(&self) -> Result<(), String> {
        let started = self.event(P::on_start);
        self.run_close_events();
        started
    }

    /// Ends the generation, by its [`on_stop`](Lifecycle::on_stop).
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{Level, Lifecycle, log};
    ///
    /// struct Polite;
    ///
    /// impl Lifecycle for Polite {
    ///     fn on_stop() {
    ///         log(Level::Info, "good night");
    ///     }
    /// }
    ///
    /// let host = Host::new();
    /// host.stop::<Polite>();
    /// assert_eq!(host.logs(), [(Level::Info, "good night".to_owned())]);
    /// ```
    pub fn stop<P: Lifecycle>(&self) {
        self.event(P::on_stop);
        self.run_close_events();
    }

    /// Lets time pass, which stands still otherwise.
    ///
    /// The timers that come due fire one after another, each at its time. Events take no time.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{Level, TimerHandler, TimerScope, log, set_timer};
    ///
    /// struct Clock;
    ///
    /// impl TimerHandler for Clock {
    ///     fn on_timer(name: &str) {
    ///         log(Level::Info, name);
    ///     }
    /// }
    ///
    /// let (host, second) = (Host::new(), Duration::from_secs(1));
    /// host.run(|| set_timer("tick", second, Some(second), TimerScope::Node))?;
    /// host.advance::<Clock>(second / 2);
    /// assert!(host.logs().is_empty());
    /// host.advance::<Clock>(second * 2);
    /// assert_eq!(host.logs().len(), 2);
    /// # Ok::<(), jackfield_sdk::Error>(())
    /// ```
    pub fn advance<P: TimerHandler>(&self, time: Duration) {
        let until = self.node.borrow().timers.now() + time;
        loop {
            let due = self.node.borrow_mut().timers.take_due(until);
            let Some(name) = due else { return };
            self.event(|| P::on_timer(&name));
            self.run_close_events();
        }
    }

    /// Returns what was logged since the last call.
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{Level, log};
    ///
    /// let host = Host::new();
    /// host.run(|| log(Level::Warn, "the database is slow"));
    /// assert_eq!(host.logs(), [(Level::Warn, "the database is slow".to_owned())]);
    /// assert!(host.logs().is_empty());
    /// ```
    pub fn logs(&self) -> Vec<(Level, String)> {
        std::mem::take(&mut self.node.borrow_mut().logs)
    }

    /// One call to this plugin, so many calls deep.
    fn on_call(
        &self,
        on_call: OnCall,
        depth: usize,
        caller: Caller,
        method: &str,
        payload: &[u8],
    ) -> Result<Vec<u8>, CallError> {
        let bytes = method.len() + payload.len();
        self.node.borrow().check_call(&caller, depth, bytes)?;
        let answer = self.turn(Turn::call(depth), || {
            on_call(caller, method, payload.to_vec())
        });
        self.run_close_events();
        let bytes = match &answer {
            Ok(answer) => answer.len(),
            Err(error) => error.message.len(),
        };
        self.node.borrow().check_call_bytes(bytes)?;
        answer
    }

    fn event<T>(&self, work: impl FnOnce() -> T) -> T {
        self.turn(Turn::event(), work)
    }

    /// Runs with this host current, and puts things back even when the plugin panics.
    fn turn<T>(&self, turn: Turn, work: impl FnOnce() -> T) -> T {
        struct Current<'a>(&'a Host, Option<Turn>);

        impl Drop for Current<'_> {
            fn drop(&mut self) {
                self.0.node.borrow_mut().turn = self.1.take();
                CURRENT.with_borrow_mut(Vec::pop);
            }
        }

        let outer = self.node.borrow_mut().begin(turn);
        CURRENT.with_borrow_mut(|hosts| hosts.push(self.clone()));
        let _current = Current(self, outer);
        work()
    }

    /// Clients that have left get their `on_close`, those that it closes too. Not while an
    /// event runs: a client's events never overlap.
    fn run_close_events(&self) {
        loop {
            let next = self.node.borrow_mut().next_departed();
            let Some(departed) = next else { return };
            let turn = Turn::close_of(&departed.client);
            self.turn(turn, || {
                (departed.on_close)(departed.client, departed.departure);
            });
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

/// A `UidPolicy` says what happens when a uid is bound that another client has.
///
/// On a node it is `uid` under `[policies]` in a plugin's manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UidPolicy {
    /// Both clients have the uid.
    #[default]
    Many,
    /// The client that had the uid is closed with 4001.
    KickOld,
    /// The new client does not get the uid.
    RejectNew,
}

/// `Limits` bound what a plugin keeps and does.
///
/// The default is a node's defaults.
///
/// ```
/// use jackfield_sdk::testing::Limits;
///
/// let limits = Limits { timers: 2, ..Limits::default() };
/// assert_eq!((limits.timers, limits.name_bytes), (2, 256));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A uid, or a group's or a timer's name, has at most this many bytes: 256 by default.
    ///
    /// Beyond it, calls return `invalid-argument`.
    pub name_bytes: usize,
    /// One uid has at most this many clients: 1,000 by default, and any number if this is 0.
    ///
    /// Beyond it, `bind_uid` returns `limit-exceeded`. Under the other policies than
    /// [`UidPolicy::Many`] a uid has one client anyway.
    pub clients_per_uid: usize,
    /// One client is in at most this many groups: 1,000 by default.
    ///
    /// Beyond it, `join_group` returns `limit-exceeded`.
    pub groups_per_client: usize,
    /// The keys and values of one client's info have at most this many bytes: 4,096 by default.
    ///
    /// Beyond it, `set_info` and `update_info` return `limit-exceeded`.
    pub info_bytes: usize,
    /// One message, with its frame's header, has at most this many bytes: 1 MiB by default.
    ///
    /// Beyond it, calls return `limit-exceeded`.
    pub outbox_bytes: usize,
    /// One event has at most this many calls that send: 10,000 by default.
    ///
    /// Beyond it, they return `limit-exceeded`.
    pub sends_per_event: usize,
    /// One call to the plugin, method and payload together, and its answer have at most this
    /// many bytes each: 1 MiB by default.
    ///
    /// Beyond it, the call returns `limit-exceeded`.
    pub call_bytes: usize,
    /// The plugin has at most this many timers: 1,000 by default.
    ///
    /// Beyond it, `set_timer` returns `limit-exceeded`.
    pub timers: usize,
    /// A key in the plugin's buckets has at most this many bytes: 256 by default.
    ///
    /// Beyond it, the bucket's functions return an error.
    pub keyvalue_key_bytes: usize,
    /// A value in the plugin's buckets has at most this many bytes: 64 KiB by default.
    ///
    /// Beyond it, the bucket's functions return an error.
    pub keyvalue_value_bytes: usize,
    /// All of the plugin's keys and values, with 64 bytes more for each key, have at most this
    /// many bytes: 64 MiB by default.
    ///
    /// Beyond it, the bucket's functions return an error.
    pub keyvalue_bytes: usize,
    /// One event logs at most this many lines: 100 by default.
    ///
    /// Further lines are dropped.
    pub log_lines_per_event: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            name_bytes: 256,
            clients_per_uid: 1_000,
            groups_per_client: 1_000,
            info_bytes: 4_096,
            outbox_bytes: 1 << 20,
            sends_per_event: 10_000,
            call_bytes: 1 << 20,
            timers: 1_000,
            keyvalue_key_bytes: 256,
            keyvalue_value_bytes: 64 << 10,
            keyvalue_bytes: 64 << 20,
            log_lines_per_event: 100,
        }
    }
}

/// Compiles only for a plugin, which is what `export!` checks natively.
#[doc(hidden)]
pub fn is_plugin<P: Plugin>() {}

/// Compiles only for a plugin with a lifecycle, which is what `export!` checks natively.
#[doc(hidden)]
pub fn has_lifecycle<P: Lifecycle>() {}

/// Compiles only for a plugin that can be called, which is what `export!` checks natively.
#[doc(hidden)]
pub fn is_call_handler<P: CallHandler>() {}

/// Compiles only for a plugin with timers, which is what `export!` checks natively.
#[doc(hidden)]
pub fn is_timer_handler<P: TimerHandler>() {}

/// What a test answers requests with.
type AnswerHttp = Box<dyn FnMut(&Request) -> Result<Response, HttpError>>;

thread_local! {
    /// The hosts that run on this thread, the innermost last.
    static CURRENT: RefCell<Vec<Host>> = const { RefCell::new(Vec::new()) };
}

/// The node that a call of the contract reaches.
fn current<T>(call: impl FnOnce(&mut Node) -> T) -> T {
    let host = CURRENT.with_borrow(|hosts| hosts.last().cloned());
    let host = host.expect(
        "no host is running: call this inside `testing::Host::run` or from a plugin's event",
    );
    call(&mut host.node.borrow_mut())
}
