//! An in-memory stand-in for the node: business logic under plain `cargo test`, no wasm.
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
//! What the contract says of ids, uids, groups, info, closing and errors holds here too, with
//! a node's default [`Limits`]. What it leaves out: other nodes (nothing is ever missing or
//! unreachable), full outboxes, and limits of time and memory. A plugin that panics panics
//! through to the test.

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

/// One node with one plugin's clients. A clone is the same host.
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
    /// A host without clients.
    pub fn new() -> Host {
        Host {
            node: Rc::new(RefCell::new(Node::new())),
        }
    }

    /// What happens when a uid is bound that another client has.
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

    /// Other limits than a node's defaults.
    ///
    /// ```
    /// use jackfield_sdk::testing::{Host, Limits};
    ///
    /// let host = Host::new().limits(Limits { groups_per_client: 2, ..Limits::default() });
    /// ```
    pub fn limits(self, limits: Limits) -> Host {
        self.node.borrow_mut().limits = limits;
        self
    }

    /// The plugin's name, as [`identify`](crate::identify) answers it; `plugin` unless set.
    pub fn plugin_name(self, name: impl Into<String>) -> Host {
        self.node.borrow_mut().plugin = name.into();
        self
    }

    /// The plugins that may call this one: `allow` under `[calls]` in its manifest.
    pub fn allow_calls(self, callers: &[&str]) -> Host {
        self.node.borrow_mut().callers = callers.iter().map(ToString::to_string).collect();
        self
    }

    /// The plugin's settings: `[config]` in its manifest. See [`config`](crate::config).
    pub fn config(self, settings: &[(&str, &str)]) -> Host {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.node.borrow_mut().settings = settings.iter().map(owned).collect();
        self
    }

    /// Grants these buckets, empty: `[keyvalue]` in its manifest. See
    /// [`keyvalue`](crate::keyvalue).
    pub fn buckets(self, names: &[&str]) -> Host {
        let mut node = self.node.borrow_mut();
        for name in names {
            node.buckets.entry((*name).to_owned()).or_default();
        }
        drop(node);
        self
    }

    /// Has `answer` answer the plugin's requests, in place of the internet. Nothing is denied.
    /// See [`http`](crate::http).
    pub fn answer_http(
        self,
        answer: impl FnMut(&Request) -> Result<Response, HttpError> + 'static,
    ) -> Host {
        self.node.borrow_mut().answer_http = Some(Box::new(answer));
        self
    }

    /// Puts another plugin on the same node, with clients of its own: what this one
    /// [`call`](crate::call)s by that host's name, `P` answers.
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

    /// Calls the plugin, as a backend does or another plugin.
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
    pub fn call<P: CallHandler>(
        &self,
        caller: Caller,
        method: &str,
        payload: impl AsRef<[u8]>,
    ) -> Result<Vec<u8>, CallError> {
        self.on_call(P::on_call, 1, caller, method, payload.as_ref())
    }

    /// Calls the contract's functions from a test, as one event of the plugin would: what it
    /// closes has its [`on_close`](Plugin::on_close) when `work` has ended.
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

    /// A client comes, with the handshake of a browser that asks for `/`.
    pub fn connect<P: Plugin>(&self) -> Result<Client<P>, Refuse> {
        self.connect_with(Handshake {
            path: "/".to_owned(),
            remote_address: "127.0.0.1:51234".to_owned(),
            ..Handshake::default()
        })
    }

    /// A client comes with this handshake. The error is what its HTTP request would be
    /// answered, by the plugin or by the node: 409 for a uid that is taken, 500 for a
    /// subprotocol that was not offered and anything else that can't be had.
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
    pub fn connect_with<P: Plugin>(&self, handshake: Handshake) -> Result<Client<P>, Refuse> {
        let (id, mailbox) = self.node.borrow_mut().register(P::on_close);
        let (offered, found) = (handshake.subprotocols.clone(), handshake.uid.clone());
        let answer = self.event(|| P::on_connect(id.clone(), handshake));
        let mut node = self.node.borrow_mut();
        let answer = answer.map(|accept| node.with_uid(&id, accept, found));
        let admitted = node.admit(&id, answer, &offered);
        drop(node);
        self.run_close_events();
        Ok(Client::new(self.clone(), id, admitted?, mailbox))
    }

    /// A generation of the plugin is about to take over.
    pub fn start<P: Lifecycle>(&self) -> Result<(), String> {
        let started = self.event(P::on_start);
        self.run_close_events();
        started
    }

    /// The generation's last event has ended.
    pub fn stop<P: Lifecycle>(&self) {
        self.event(P::on_stop);
        self.run_close_events();
    }

    /// Lets time pass, which stands still otherwise: the timers that come due fire one after
    /// another, each at its time. Events take none.
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

    /// What was logged since the last call.
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
            let turn = Turn::close_of(departed.client.clone());
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

/// When a uid is bound that another client has: `uid` under `[policies]` in a plugin's
/// manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UidPolicy {
    /// Both have it.
    #[default]
    Many,
    /// The one that had it is closed with 4001.
    KickOld,
    /// The new one does not get it.
    RejectNew,
}

/// A node's limits on what a plugin keeps and does, with a node's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a uid, or of a group's or a timer's name. Beyond: `invalid-argument`.
    pub name_bytes: usize,
    /// Clients of one uid; 0: off. Beyond: `bind_uid` answers `limit-exceeded`.
    pub clients_per_uid: usize,
    /// Groups of one client. Beyond: `join_group` answers `limit-exceeded`.
    pub groups_per_client: usize,
    /// Bytes of one client's info, keys and values. Beyond: `limit-exceeded`.
    pub info_bytes: usize,
    /// Bytes of one message, with its frame's header. Beyond: `limit-exceeded`.
    pub outbox_bytes: usize,
    /// Calls that send, in one event. Beyond: `limit-exceeded`.
    pub sends_per_event: usize,
    /// Bytes of one call, the method's name and the payload together, and of its answer.
    /// Beyond: `limit-exceeded`.
    pub call_bytes: usize,
    /// Timers. Beyond: `limit-exceeded`.
    pub timers: usize,
    /// Bytes of a key in its key-value buckets. Beyond: an error.
    pub keyvalue_key_bytes: usize,
    /// Bytes of a value there. Beyond: an error.
    pub keyvalue_value_bytes: usize,
    /// Bytes of all its keys and values, and 64 for each. Beyond: an error.
    pub keyvalue_bytes: usize,
    /// Lines of `log` in one event. Beyond: dropped.
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

/// What `export!` checks natively.
#[doc(hidden)]
pub fn is_plugin<P: Plugin>() {}

/// What `export!` checks natively for a plugin with a lifecycle.
#[doc(hidden)]
pub fn has_lifecycle<P: Lifecycle>() {}

/// What `export!` checks natively for a plugin that can be called.
#[doc(hidden)]
pub fn is_call_handler<P: CallHandler>() {}

/// What `export!` checks natively for a plugin with timers.
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
