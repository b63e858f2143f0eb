//! The events that a guest handles: each is one call of an instance, with its limits.
//!
//! Callers of this module do not see the types of the generated bindings.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::bindings::call_handler::jackfield::plugin::types as called;
use super::bindings::wit::types;
use super::bounded::bounded;
use super::call::{CallErrorCode, Caller};
use super::event_client::EventClient;
use super::function::GuestFunction;
use super::pool::{CheckedOut, PooledInstance};
use super::trap::{GivenUp, Trapped};
use crate::access::Handshake;
use crate::message::Message;
use crate::message_queue::MessageQueue;
use crate::registry::{Client, Departure};

/// The answer of `on-connect` that accepts a client.
#[derive(Debug, Default)]
pub(crate) struct Acceptance {
    /// The chosen subprotocol, one of those that the client offered.
    pub(crate) subprotocol: Option<String>,
    /// The uid that the client gets.
    pub(crate) uid: Option<String>,
    /// The groups that the client joins.
    pub(crate) groups: Vec<String>,
    /// The initial info of the client.
    pub(crate) info: BTreeMap<String, String>,
}

/// The answer of `on-connect` that refuses a client.
#[derive(Debug)]
pub(crate) struct ConnectRefusal {
    /// The HTTP status of the response, as the guest gave it; any number is possible.
    pub(crate) status: u16,
    /// The body of the HTTP response.
    pub(crate) reason: String,
}

/// The reason why a component does not start.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The guest's `on-start` answered with this error.
    Refused(String),
    /// The guest's `on-start` trapped.
    Trapped(Trapped),
}

/// Runs one call of the instance to its end, with its limits. This is a macro, since each call is a
/// different future that borrows the instance.
macro_rules! event {
    ($pooled:expr, $function:expr, $client:expr, |$instance:ident| $call:expr) => {{
        let checked_out = $pooled.checked_out();
        checked_out.in_event = true;
        let pool = &checked_out.pool;
        let $instance = &mut checked_out.instance;
        $instance.begin($function, $client);
        // An `on-stop` has its own time: its generation is retired already.
        let is_cut = $function != GuestFunction::Stop;
        let retired = is_cut.then_some(&pool.retired);
        let ended = bounded($call, &pool.context, retired, &$instance.progress).await;
        checked_out.ended(ended)
    }};
}

impl PooledInstance {
    /// Asks the guest whether a client may connect. `uid` is the client's uid by the manifest's
    /// rules.
    ///
    /// # Errors
    ///
    /// The guest trapped.
    pub(crate) async fn on_connect(
        &mut self,
        client: EventClient<&Arc<Client>>,
        handshake: &Handshake,
        uid: Option<&str>,
    ) -> Result<Result<Acceptance, ConnectRefusal>, Trapped> {
        let (query, headers) = (pairs(&handshake.query), pairs(&handshake.headers));
        let subprotocols: Vec<_> = handshake.subprotocols.iter().map(String::as_str).collect();
        let handshake = types::Handshake {
            path: &handshake.path,
            query: &query,
            headers: &headers,
            remote_address: &handshake.remote_address,
            subprotocols: &subprotocols,
            uid,
        };
        let answered = event!(self, GuestFunction::Connect, Some(client), |instance| {
            let handler = instance.plugin.jackfield_plugin_handler();
            handler.call_on_connect(&mut instance.store, client.id_text(), handshake)
        })?;
        Ok(match answered {
            Ok(acceptance) => Ok(Acceptance {
                subprotocol: acceptance.subprotocol,
                uid: acceptance.uid,
                groups: acceptance.groups,
                info: acceptance.info.into_iter().collect(),
            }),
            Err(types::Refusal { status, reason }) => Err(ConnectRefusal { status, reason }),
        })
    }

    /// Passes a client's message to the guest.
    ///
    /// # Errors
    ///
    /// The guest trapped.
    pub(crate) async fn on_message(
        &mut self,
        client: EventClient<&Arc<Client>>,
        message: Message<'_>,
    ) -> Result<(), Trapped> {
        event!(self, GuestFunction::Message, Some(client), |instance| {
            let handler = instance.plugin.jackfield_plugin_handler();
            handler.call_on_message(&mut instance.store, client.id_text(), message.into())
        })
    }

    /// Whether the guest takes several messages at once.
    pub(crate) fn takes_turns(&self) -> bool {
        self.instance().turn_handler.is_some()
    }

    /// Passes waiting messages of a client to the guest in one call. The messages whose events have
    /// ended leave the queue, and so does one whose event trapped. Some may be left: their events
    /// are for another instance, or for later. Returns how many have left the queue.
    ///
    /// # Errors
    ///
    /// The guest trapped in the event of the last message that has left the queue.
    pub(crate) async fn on_turn(
        &mut self,
        client: EventClient<&Arc<Client>>,
        queue: &mut MessageQueue,
    ) -> (u32, Result<(), Trapped>) {
        let Some(handler) = self.checked_out().instance.turn_handler.clone() else {
            return (0, Ok(()));
        };
        let spans = queue.take_spans();
        let ended = event!(self, GuestFunction::Message, Some(client), |instance| {
            instance.begin_turn(spans);
            let handler = handler.jackfield_plugin_turn_handler();
            handler.call_on_turn(&mut instance.store, client.id_text(), queue.bytes())
        });
        let (mut begun, left) = self.checked_out().instance.end_turn();
        queue.put_back(left);
        if begun == 0 {
            // It did not come to the first message, and with the next instance it would not, either.
            queue.pop();
            begun = 1;
        }
        (begun, ended)
    }

    /// Tells the guest that a client has left.
    ///
    /// # Errors
    ///
    /// The guest trapped.
    pub(crate) async fn on_close(
        &mut self,
        client: EventClient<&Arc<Client>>,
        departure: &Departure,
    ) -> Result<(), Trapped> {
        let groups: Vec<_> = departure.groups.iter().map(|group| &**group).collect();
        let info = departure.info.iter();
        let info: Vec<_> = info
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let departure = types::Departure {
            code: departure.close.code.into(),
            reason: &departure.close.reason,
            by: departure.close.by.into(),
            uid: departure.uid.as_deref(),
            groups: &groups,
            info: &info,
        };
        event!(self, GuestFunction::Close, Some(client), |instance| {
            let handler = instance.plugin.jackfield_plugin_handler();
            handler.call_on_close(&mut instance.store, client.id_text(), departure)
        })
    }

    /// Runs `on-start`, if the component exports it.
    ///
    /// # Errors
    ///
    /// The guest refused to start, or trapped.
    pub(crate) async fn on_start(&mut self) -> Result<(), StartError> {
        let Some(lifecycle) = self.checked_out().instance.lifecycle.clone() else {
            return Ok(());
        };
        let started = event!(self, GuestFunction::Start, None, |instance| {
            let lifecycle = lifecycle.jackfield_plugin_lifecycle();
            lifecycle.call_on_start(&mut instance.store)
        });
        match started {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(StartError::Refused(reason)),
            Err(trapped) => Err(StartError::Trapped(trapped)),
        }
    }

    /// Runs `on-stop`, if the component exports it.
    ///
    /// # Errors
    ///
    /// The guest trapped.
    pub(super) async fn on_stop(&mut self) -> Result<(), Trapped> {
        let Some(lifecycle) = self.checked_out().instance.lifecycle.clone() else {
            return Ok(());
        };
        event!(self, GuestFunction::Stop, None, |instance| {
            let lifecycle = lifecycle.jackfield_plugin_lifecycle();
            lifecycle.call_on_stop(&mut instance.store)
        })
    }

    /// Calls `on-call`; `None` means that the component does not export it. If the guest answers
    /// with an error, this error has a code and a message.
    ///
    /// # Errors
    ///
    /// The guest trapped.
    pub(crate) async fn on_call(
        &mut self,
        caller: Caller<'_>,
        method: &str,
        payload: &[u8],
    ) -> Option<Result<Result<Vec<u8>, (CallErrorCode, String)>, Trapped>> {
        let handler = self.checked_out().instance.call_handler.clone()?;
        let (depth, caller) = (caller.depth() + 1, caller.into());
        let answered = event!(self, GuestFunction::Call, None, |instance| {
            instance.store.data_mut().event_mut().depth = depth;
            let handler = handler.jackfield_plugin_call_handler();
            handler.call_on_call(&mut instance.store, &caller, method, payload)
        });
        // Here and not where each event begins: all the others are no calls.
        let guest = self.checked_out().instance.store.data_mut();
        guest.event_mut().depth = 0;
        let to_error = |error: called::CallError| (error.code.into(), error.message);
        Some(answered.map(|answered| answered.map_err(to_error)))
    }

    /// Fires a timer; `None` means that the component does not export `timer-handler`.
    ///
    /// # Errors
    ///
    /// The guest trapped.
    pub(crate) async fn on_timer(&mut self, name: &str) -> Option<Result<(), Trapped>> {
        let handler = self.checked_out().instance.timer_handler.clone()?;
        Some(event!(self, GuestFunction::Timer, None, |instance| {
            let handler = handler.jackfield_plugin_timer_handler();
            handler.call_on_timer(&mut instance.store, name)
        }))
    }
}

impl CheckedOut {
    /// Takes the result of an event. After a trap or a timeout the instance stays unusable, since
    /// it cannot be entered again.
    fn ended<T>(&mut self, ended: Result<wasmtime::Result<T>, GivenUp>) -> Result<T, Trapped> {
        let guest = self.instance.store.data_mut();
        let trapped = match ended {
            Ok(Ok(value)) => {
                self.in_event = false;
                guest.timer.end();
                return Ok(value);
            }
            Ok(Err(error)) => Trapped::new(&error, guest.evidence()),
            Err(given_up) => Trapped::given_up(given_up, guest.evidence()),
        };
        guest.timer.trapped(trapped.kind);
        Err(trapped)
    }
}

fn pairs(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}
