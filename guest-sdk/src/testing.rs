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
//! let host = Host::of::<Lobby>();
//! let ada = host.connect("/lobby")?;
//! let bob = host.connect("/lobby")?;
//!
//! ada.say("hello");
//!
//! assert_eq!(bob.received(), ["hello".into()]);
//! assert!(ada.received().is_empty());
//! # Ok::<(), Refuse>(())
//! ```
//!
//! [`Host::manifest`] reads the plugin's manifest, so that a test runs under what is deployed.
//!
//! What the contract says of ids, uids, groups, info, closing and errors holds here, too, with
//! a node's default [`Limits`]. Other nodes are left out (nothing is ever missing or unreachable),
//! and so are full outboxes and limits of time and memory. A panic of the plugin goes through to
//! the test.

mod calls;
mod checks;
mod client;
pub(crate) mod config;
mod events;
mod handshake;
pub(crate) mod http;
pub(crate) mod keyvalue;
mod limits;
mod manifest;
mod node;
mod pages;
#[cfg(test)]
mod tests;
mod timers;

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;

use crate::http::{Error as HttpError, Request, Response};
use crate::{CallHandler, Lifecycle, Plugin, TimerHandler};

pub(crate) use calls::*;
pub use client::Client;
pub use limits::{Limits, UidPolicy};
pub use manifest::ManifestError;
use node::{Callee, Node};
pub(crate) use timers::now_ms;

/// A `Host` is one node with the clients of one plugin, `P`.
///
/// [`Host::of`] makes one. A clone is the same host.
pub struct Host<P = ()> {
    node: Rc<RefCell<Node>>,
    plugin: PhantomData<fn() -> P>,
}

impl<P> Clone for Host<P> {
    fn clone(&self) -> Host<P> {
        Host::at(self.node.clone())
    }
}

impl Default for Host {
    fn default() -> Host {
        Host::new()
    }
}

impl Host {
    /// Makes a host of this plugin, without clients, with a node's defaults.
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{ClientId, Message, Plugin, reply};
    ///
    /// struct Echo;
    ///
    /// impl Plugin for Echo {
    ///     fn on_message(_: ClientId, message: Message) {
    ///         let _ = reply(message);
    ///     }
    /// }
    ///
    /// let host = Host::of::<Echo>();
    /// let ada = host.connect("/echo")?;
    /// ada.say("hello");
    /// assert_eq!(ada.received(), ["hello".into()]);
    /// # Ok::<(), jackfield_sdk::Refuse>(())
    /// ```
    pub fn of<P>() -> Host<P> {
        Host::at(Rc::new(RefCell::new(Node::new())))
    }

    /// Makes a host of no plugin: what calls the functions is the test alone, by
    /// [`run`](Host::run).
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
        Host::of()
    }
}

impl<P> Host<P> {
    fn at(node: Rc<RefCell<Node>>) -> Host<P> {
        Host {
            node,
            plugin: PhantomData,
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
    /// let host = Host::of::<Quiet>().uid_policy(UidPolicy::KickOld);
    /// let old = host.connect("/")?;
    /// let new = host.connect("/")?;
    ///
    /// host.run(|| bind_uid(old.id(), "ada")).expect("nobody has it");
    /// host.run(|| bind_uid(new.id(), "ada")).expect("the old one goes");
    ///
    /// assert_eq!(old.closed(), Some((4001, "uid taken over".to_owned())));
    /// # Ok::<(), Refuse>(())
    /// ```
    pub fn uid_policy(self, policy: UidPolicy) -> Host<P> {
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
    /// let host = Host::of::<Quiet>().limits(Limits { groups_per_client: 1, ..Limits::default() });
    /// let ada = host.connect("/")?;
    ///
    /// host.run(|| join_group(ada.id(), "red")).expect("the first group");
    /// let error = host.run(|| join_group(ada.id(), "blue")).unwrap_err();
    /// assert_eq!(error.code, ErrorCode::LimitExceeded);
    /// # Ok::<(), Refuse>(())
    /// ```
    pub fn limits(self, limits: Limits) -> Host<P> {
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
    pub fn plugin_name(self, name: impl Into<String>) -> Host<P> {
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
    /// let host = Host::of::<Ping>().allow_calls(&["chat"]);
    /// let ping = |caller: &str| host.call(Caller::Plugin(caller.to_owned()), "ping", "");
    /// assert_eq!(ping("chat")?, b"pong");
    /// assert_eq!(ping("game").unwrap_err().code, CallErrorCode::Denied);
    /// # Ok::<(), CallError>(())
    /// ```
    pub fn allow_calls(self, callers: &[&str]) -> Host<P> {
        self.node.borrow_mut().callers = callers.iter().map(ToString::to_string).collect();
        self
    }

    /// Sets the plugin's [settings](crate::config), as `[config]` in its manifest does.
    ///
    /// A setting that was set before keeps its value, unless it has one of these names.
    ///
    /// ```
    /// use jackfield_sdk::config;
    /// use jackfield_sdk::testing::Host;
    ///
    /// let host = Host::new().config(&[("greeting", "hello")]);
    /// assert_eq!(host.run(|| config::get("greeting")).as_deref(), Some("hello"));
    /// ```
    pub fn config(self, settings: &[(&str, &str)]) -> Host<P> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let settings = settings.iter().map(owned);
        self.node.borrow_mut().settings.extend(settings);
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
    pub fn buckets(self, names: &[&str]) -> Host<P> {
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
    ) -> Host<P> {
        self.node.borrow_mut().answer_http = Some(Box::new(answer));
        self
    }

    /// Puts another plugin on the same node, with clients of its own.
    ///
    /// When this plugin [`call`](crate::call)s the other one by its name, the other one answers.
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
    /// let greeter = Host::of::<Greeter>().plugin_name("greeter").allow_calls(&["chat"]);
    /// let chat = Host::new().plugin_name("chat");
    /// chat.beside(&greeter);
    ///
    /// let answer = chat.run(|| call("greeter", "greet", ""))?;
    /// assert_eq!(answer, br#"hello Plugin("chat")"#);
    /// # Ok::<(), CallError>(())
    /// ```
    pub fn beside<Q: CallHandler>(&self, other: &Host<Q>) {
        let callee = Callee {
            node: Rc::downgrade(&other.node),
            on_call: Q::on_call,
        };
        self.node.borrow_mut().callees.push(callee);
    }
}

impl<P> fmt::Debug for Host<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
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
    /// The nodes that run on this thread, the innermost last.
    static CURRENT: RefCell<Vec<Rc<RefCell<Node>>>> = const { RefCell::new(Vec::new()) };
}

/// The node that a call of the contract reaches.
fn current<T>(call: impl FnOnce(&mut Node) -> T) -> T {
    let node = CURRENT.with_borrow(|nodes| nodes.last().cloned());
    let node = node.expect(
        "no host is running: call this inside `testing::Host::run` or from a plugin's event",
    );
    call(&mut node.borrow_mut())
}
