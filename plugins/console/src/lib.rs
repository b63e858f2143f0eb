//! The whole contract over JSON: one request a text message, one answer each.
//!
//! `{"id":7,"do":"join-group","group":"g"}` is answered by `{"id":7,"ok":null}` or by
//! `{"id":7,"error":{"code":"invalid-argument","message":"…"}}`. The README beside this crate
//! lists all requests; `operations.rs` has them as a table.

mod answer;
mod arguments;
mod methods;
mod misbehave;
mod operations;
mod request;
#[cfg(test)]
mod tests;

use jackfield_sdk::{
    Accept, CallError, CallHandler, Caller, ClientId, Departure, ErrorCode, Handshake, Identity,
    Level, Message, Plugin, Refuse, TimerHandler, identify, leave_group, log, send_to_client,
    send_to_group,
};

use answer::{Answer, Event, Failure};
use request::Request;

/// Who wants to hear of clients that have left joins this group.
pub const WATCH_CLOSE: &str = "watch-close";

/// Who wants to hear of timers that fire joins this group.
pub const TIMERS: &str = "timers";

/// A timer whose name begins so carries out the request that follows (or the name of one).
pub const ON_TIMER: &str = "do:";

/// Info key: a request (or the name of one) that the client's `on-close` carries out.
pub const ON_CLOSE: &str = "on-close";

/// Info key: a group that the client's `on-close` tries to leave.
pub const ON_CLOSE_LEAVE: &str = "on-close-leave";

/// The plugin; a test drives it natively as well, against the SDK's stand-in.
pub struct Console;

impl Plugin for Console {
    fn on_connect(client: ClientId, handshake: Handshake) -> Result<Accept, Refuse> {
        for text in values(&handshake, "say") {
            tell(&client, text.to_owned());
        }
        for text in values(&handshake, "do") {
            let request =
                Request::named_or_whole(text).map_err(|error| bad_request(error.into()))?;
            let id = request.id.clone();
            let outcome = request.run(&client).map_err(bad_request)?;
            if !id.is_null() {
                tell(&client, Answer::new(id, Ok(outcome)).to_json());
            }
        }
        if let Some(status) = handshake.query("refuse") {
            let reason = handshake.query("reason").unwrap_or_default();
            let times = handshake.query("times").and_then(|n| n.parse().ok());
            return Err(refusal(status, &reason.repeat(times.unwrap_or(1))));
        }
        let shown = (handshake.query("handshake") == Some("1")).then_some(&handshake);
        let generation = identify().generation;
        tell(
            &client,
            Event::connected(&client, generation, shown).to_json(),
        );
        Ok(acceptance(&handshake))
    }

    fn on_message(client: ClientId, message: Message) {
        let answer = Answer::to(Request::from_message(&message), &client);
        tell(&client, answer.to_json());
    }

    fn on_close(client: ClientId, departure: Departure) {
        group_hears(WATCH_CLOSE, &Event::closed(&client, &departure));
        if let Some(group) = departure.info.get(ON_CLOSE_LEAVE) {
            group_hears(
                WATCH_CLOSE,
                &Event::on_close_leave(leave_group(&client, group)),
            );
        }
        if let Some(text) = departure.info.get(ON_CLOSE) {
            let answer = Answer::to(Request::named_or_whole(text), &client);
            group_hears(WATCH_CLOSE, &Event::OnClose(answer));
        }
    }
}

impl CallHandler for Console {
    fn on_call(caller: Caller, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError> {
        methods::answer(&caller, method, payload)
    }
}

impl TimerHandler for Console {
    fn on_timer(name: &str) {
        let Identity {
            generation, node, ..
        } = identify();
        let fired = Event::Timer {
            name,
            generation,
            node: &node,
        };
        group_hears(TIMERS, &fired);
        if let Some(text) = name.strip_prefix(ON_TIMER) {
            // A timer is no client's: a request that means one has to name it.
            let answer = Answer::to(Request::named_or_whole(text), &ClientId::from(""));
            group_hears(TIMERS, &Event::OnTimer { name, answer });
        }
    }
}

jackfield_sdk::export!(Console, call_handler, timer_handler);

/// What the query asks for, as it is: whether it can be had is for the node to say.
fn acceptance(handshake: &Handshake) -> Accept {
    let mut accept = Accept::new();
    accept.uid = handshake.query("uid").map(str::to_owned);
    accept.subprotocol = handshake.query("subprotocol").map(str::to_owned);
    accept.groups = values(handshake, "group").map(str::to_owned).collect();
    accept.info = handshake
        .query
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("info.")?.to_owned(), value.clone())))
        .collect();
    accept
}

fn values<'a>(handshake: &'a Handshake, name: &'a str) -> impl Iterator<Item = &'a str> {
    handshake
        .query
        .iter()
        .filter(move |(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}

fn refusal(status: &str, reason: &str) -> Refuse {
    match status.parse() {
        Ok(status) => Refuse::new(status, reason),
        Err(_) => Refuse::new(
            400,
            format!("refuse={status}: give an HTTP status, as refuse=403"),
        ),
    }
}

fn bad_request(error: Failure) -> Refuse {
    Refuse::new(400, error.to_string())
}

/// A client that has left can't be told anything, and that is no news; what else keeps an
/// answer back stands in the log, since the client never sees it.
fn tell(client: &ClientId, text: String) {
    match send_to_client(client, text) {
        Ok(()) => {}
        Err(error) if matches!(error.code, ErrorCode::NotFound | ErrorCode::Closed) => {}
        Err(error) => log(Level::Warn, &format!("no answer went to {client}: {error}")),
    }
}

fn group_hears(group: &str, event: &Event<'_>) {
    if let Err(error) = send_to_group(&[group], event.to_json(), &[]) {
        log(
            Level::Warn,
            &format!("the group {group} was not told: {error}"),
        );
    }
}
