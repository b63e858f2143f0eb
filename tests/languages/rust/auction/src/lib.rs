//! Auctions: a backend opens them, clients bid, and a timer of the cluster ends them.

mod auction;

use jackfield_sdk::http::Request;
use jackfield_sdk::keyvalue::UpdateError;
use jackfield_sdk::{
    Accept, CallError, CallErrorCode, CallHandler, Caller, ClientId, Handshake, Level, Message,
    Plugin, Refuse, TimerHandler, config, from_json, get_uid_by_client_id, log, reply,
    send_to_group, to_json,
};
use serde::{Deserialize, Serialize};

use auction::{Auction, End};

/// What everybody hears, or whoever has bid.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event<'a> {
    Bid {
        item: &'a str,
        amount: u64,
        by: &'a str,
    },
    Sold {
        item: &'a str,
        amount: u64,
        by: Option<&'a str>,
    },
    Refused {
        #[serde(skip_serializing_if = "Option::is_none")]
        item: Option<&'a str>,
        why: &'a str,
    },
}

#[derive(Deserialize)]
struct Sent {
    bid: Bid,
}

#[derive(Deserialize)]
struct Bid {
    item: String,
    amount: u64,
}

#[derive(Deserialize, Serialize)]
struct Item {
    item: String,
}

#[derive(Deserialize)]
struct Open {
    item: String,
    price: u64,
    ms: u64,
}

/// The plugin.
pub struct Auctions;

impl Plugin for Auctions {
    fn on_connect(_: ClientId, handshake: Handshake) -> Result<Accept, Refuse> {
        let name = handshake.query("name").filter(|name| !name.is_empty());
        let name = name.ok_or(Refuse::new(400, "say ?name="))?;
        Ok(Accept::new().uid(name).group("auction"))
    }

    fn on_message(client: ClientId, message: Message) {
        let Ok(Sent {
            bid: Bid { item, amount },
        }) = message.json()
        else {
            let why = "send {\"bid\":{\"item\":…,\"amount\":…}}";
            let _ = reply(to_json(&Event::Refused { item: None, why }));
            return;
        };
        let Ok(Some(by)) = get_uid_by_client_id(&client) else {
            return;
        };
        match auction::bid(&item, amount, &by) {
            Ok(_) => everybody(&Event::Bid {
                item: &item,
                amount,
                by: &by,
            }),
            Err(why) => {
                let why = why.to_string();
                let _ = reply(to_json(&Event::Refused {
                    item: Some(&item),
                    why: &why,
                }));
            }
        }
    }
}

impl CallHandler for Auctions {
    fn on_call(_: Caller, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError> {
        match method {
            "open" => {
                let Open { item, price, ms } = from_json(payload)?;
                auction::open(&item, price, ms).map_err(refused)?;
                Ok(format!(r#"{{"item":{},"ends_in_ms":{ms}}}"#, to_json(&item)).into())
            }
            "state" => {
                let Item { item } = from_json(payload)?;
                let Auction {
                    price, by, open, ..
                } = auction::state(&item)
                    .map_err(|error| CallError::new(CallErrorCode::Failed, error.to_string()))?
                    .ok_or_else(|| {
                        CallError::new(CallErrorCode::NotFound, "there is no such item")
                    })?;
                #[derive(Serialize)]
                struct State {
                    item: String,
                    price: u64,
                    by: Option<String>,
                    open: bool,
                }
                Ok(to_json(&State {
                    item,
                    price,
                    by,
                    open,
                })
                .into())
            }
            _ => Err(CallError::unknown_method(method)),
        }
    }
}

fn refused(why: UpdateError<&'static str>) -> CallError {
    let code = match why {
        UpdateError::Refused(_) => CallErrorCode::InvalidArgument,
        UpdateError::Failed(_) => CallErrorCode::Failed,
    };
    CallError::new(code, why.to_string())
}

impl TimerHandler for Auctions {
    fn on_timer(name: &str) {
        let Some(item) = name.strip_prefix("end:") else {
            return;
        };
        match auction::end(item) {
            Ok(Auction { price, by, .. }) => {
                let sold = Event::Sold {
                    item,
                    amount: price,
                    by: by.as_deref(),
                };
                everybody(&sold);
                if let Some(webhook) = config::get("webhook") {
                    tell(&webhook, &sold);
                }
            }
            Err(UpdateError::Refused(End::Later(ms))) => {
                if let Err(error) = auction::set_end(item, ms) {
                    log(Level::Error, &format!("{item} does not end: {error}"));
                }
            }
            Err(UpdateError::Refused(End::Over)) => {}
            Err(UpdateError::Failed(error)) => {
                log(Level::Error, &format!("{item} does not end: {error}"))
            }
        }
    }
}

fn everybody(event: &Event<'_>) {
    let _ = send_to_group(&["auction"], to_json(event), &[]);
}

fn tell(webhook: &str, event: &Event<'_>) {
    let request = Request::post(webhook).header("content-type", "application/json");
    let why = match request.body(to_json(event)).send() {
        Ok(answer) if answer.is_success() => return,
        Ok(answer) => format!("it answered {}", answer.status),
        Err(error) => error.to_string(),
    };
    log(Level::Warn, &format!("the webhook was not told: {why}"));
}

jackfield_sdk::export!(Auctions, call_handler, timer_handler);
