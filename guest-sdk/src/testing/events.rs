//! The events of a plugin: what a test lets happen, and what follows from it.

use std::cell::RefCell;
use std::time::Duration;

use super::client::Client;
use super::node::{Node, OnCall, Turn};
use super::{CURRENT, Host};
use crate::{
    CallError, CallHandler, Caller, Handshake, Level, Lifecycle, Plugin, Refuse, TimerHandler,
};

impl<P: Plugin> Host<P> {
    /// Connects a client that asks for this path and query, as a browser would.
    ///
    /// What stands in the query is percent-encoded, as in a browser's address.
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{Accept, ClientId, Handshake, Plugin, Refuse};
    ///
    /// struct Lobby;
    ///
    /// impl Plugin for Lobby {
    ///     fn on_connect(_: ClientId, handshake: Handshake) -> Result<Accept, Refuse> {
    ///         let name = handshake.query("name").ok_or(Refuse::new(400, "say ?name="))?;
    ///         Ok(Accept::new().uid(name))
    ///     }
    /// }
    ///
    /// let host = Host::of::<Lobby>();
    /// assert!(host.connect("/lobby?name=Ada%20Lovelace").is_ok());
    /// assert_eq!(host.connect("/lobby").unwrap_err().status, 400);
    /// ```
    ///
    /// # Errors
    ///
    /// The client was refused, as [`connect_with`](Host::connect_with) says.
    pub fn connect(&self, target: &str) -> Result<Client<P>, Refuse> {
        self.connect_with(Handshake::get(target))
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
    ///         match handshake.header("authorization") {
    ///             Some("Bearer sesame") => Ok(Accept::new()),
    ///             _ => Err(Refuse::new(401, "who are you?")),
    ///         }
    ///     }
    /// }
    ///
    /// let host = Host::of::<Private>();
    /// let headers = vec![("authorization".to_owned(), "Bearer sesame".to_owned())];
    /// assert!(host.connect_with(Handshake { headers, ..Handshake::get("/") }).is_ok());
    /// ```
    ///
    /// # Errors
    ///
    /// The error is the answer that the client's HTTP request would get. It is the plugin's own
    /// [`Refuse`], with 403 in place of a status that is not 400 to 599, or it is the node's: 409
    /// for a uid that is taken, 400 for a uid or group that is empty or too long or for a uid that
    /// the [manifest](Host::manifest) requires and the handshake does not have, and 500 for a
    /// subprotocol that was not offered and for anything else that cannot be had.
    pub fn connect_with(&self, mut handshake: Handshake) -> Result<Client<P>, Refuse> {
        if let Some(rule) = &self.node.borrow().require_uid {
            rule.apply(&mut handshake)?;
        }
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
}

impl<P: CallHandler> Host<P> {
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
    /// let error = Host::of::<Mute>().call(backend, "greet", "").unwrap_err();
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
    ///   [`Limits::call_bytes`](super::Limits::call_bytes).
    pub fn call(
        &self,
        caller: Caller,
        method: &str,
        payload: impl AsRef<[u8]>,
    ) -> Result<Vec<u8>, CallError> {
        self.on_call(P::on_call, 1, caller, method, payload.as_ref())
    }
}

impl<P: TimerHandler> Host<P> {
    /// Lets time pass, which stands still otherwise.
    ///
    /// The timers that come due fire one after another, each at its time, and
    /// [`now_ms`](crate::now_ms) moves along. Events take no time. A plugin that only asks for the
    /// time has an empty `impl TimerHandler`.
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
    /// let (host, second) = (Host::of::<Clock>(), Duration::from_secs(1));
    /// host.run(|| set_timer("tick", second, Some(second), TimerScope::Node))?;
    /// host.advance(second / 2);
    /// assert!(host.logs().is_empty());
    /// host.advance(second * 2);
    /// assert_eq!(host.logs().len(), 2);
    /// # Ok::<(), jackfield_sdk::Error>(())
    /// ```
    pub fn advance(&self, time: Duration) {
        let until = self.node.borrow().timers.now() + time;
        loop {
            let due = self.node.borrow_mut().timers.take_due(until);
            let Some(name) = due else { return };
            self.event(|| P::on_timer(&name));
            self.run_close_events();
        }
    }
}

impl<P: Lifecycle> Host<P> {
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
    /// assert_eq!(Host::of::<Picky>().start(), Err("the database is down".to_owned()));
    /// ```
    ///
    /// # Errors
    ///
    /// The error is the text with which the plugin refuses to start.
    pub fn start(&self) -> Result<(), String> {
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
    /// let host = Host::of::<Polite>();
    /// host.stop();
    /// assert_eq!(host.logs(), [(Level::Info, "good night".to_owned())]);
    /// ```
    pub fn stop(&self) {
        self.event(P::on_stop);
        self.run_close_events();
    }
}

impl<P> Host<P> {
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
    /// let host = Host::of::<Quiet>();
    /// host.connect("/")?;
    /// assert_eq!(host.run(get_all_client_count).expect("a number").value, 1);
    /// # Ok::<(), Refuse>(())
    /// ```
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        let value = self.turn(Turn::default(), work);
        self.run_close_events();
        value
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
    pub(super) fn on_call(
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
    pub(super) fn turn<T>(&self, turn: Turn, work: impl FnOnce() -> T) -> T {
        struct Current<'a>(&'a RefCell<Node>, Option<Turn>);

        impl Drop for Current<'_> {
            fn drop(&mut self) {
                self.0.borrow_mut().turn = self.1.take();
                CURRENT.with_borrow_mut(Vec::pop);
            }
        }

        let outer = self.node.borrow_mut().begin(turn);
        CURRENT.with_borrow_mut(|nodes| nodes.push(self.node.clone()));
        let _current = Current(&self.node, outer);
        work()
    }

    /// Clients that have left get their `on_close`, those that it closes too. Not while an
    /// event runs: a client's events never overlap.
    pub(super) fn run_close_events(&self) {
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
