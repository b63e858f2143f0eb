//! Auction: a backend offers lots, clients bid, and a timer of the cluster sells.

use std::time::Duration;

use jackfield_sdk::keyvalue::{self, UpdateError};
use jackfield_sdk::{
    Accept, CallError, CallErrorCode, CallHandler, Caller, ClientId, Handshake, Level, Message,
    Plugin, Refuse, TimerHandler, TimerScope, from_json, get_uid_by_client_id, log, now_ms, reply,
    send_to_group, set_timer, to_json,
};
use serde::{Deserialize, Serialize};

/// A bid with less time left gives everybody so long to answer it.
const LAST_CALL_MS: u64 = 10_000;

#[derive(Deserialize, Serialize)]
struct Lot {
    price: u64,
    by: Option<String>,
    ends_at_ms: u64,
    sold: bool,
}

#[derive(Deserialize)]
struct Offer {
    item: String,
    price: u64,
    seconds: u64,
}

#[derive(Deserialize)]
struct Bid {
    item: String,
    amount: u64,
}

struct Auction;

impl CallHandler for Auction {
    fn on_call(_: Caller, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError> {
        if method != "offer" {
            return Err(CallError::unknown_method(method));
        }
        let Offer {
            item,
            price,
            seconds,
        } = from_json(payload)?;
        let ends_at_ms = now_ms().saturating_add(seconds.saturating_mul(1_000));
        let lot = update(&item, |lot| match lot {
            Some(_) => Err("there is such a lot already".to_owned()),
            None => Ok(Lot {
                price,
                by: None,
                ends_at_ms,
                sold: false,
            }),
        });
        let failed = |error: String| CallError::new(CallErrorCode::Failed, error);
        let lot = lot.map_err(|error| failed(error.to_string()))?;
        if let Err(why) = set_end(&item, &lot) {
            let _ = keyvalue::open("lots").and_then(|lots| lots.delete(&item));
            return Err(failed(why));
        }
        tell("offer", &item, &lot);
        Ok(to_json(&lot).into())
    }
}

impl Plugin for Auction {
    fn on_connect(_: ClientId, handshake: Handshake) -> Result<Accept, Refuse> {
        let name = handshake.query("name").filter(|name| !name.is_empty());
        let name = name.ok_or(Refuse::new(400, "say ?name="))?;
        Ok(Accept::new().uid(name).group("room"))
    }

    fn on_message(client: ClientId, message: Message) {
        let Ok(Bid { item, amount }) = message.json() else {
            return;
        };
        let Ok(Some(name)) = get_uid_by_client_id(&client) else {
            return;
        };
        let bid = update(&item, |lot| match lot {
            None => Err("there is no such lot".to_owned()),
            Some(lot) if lot.sold || now_ms() >= lot.ends_at_ms => Err("it is over".to_owned()),
            Some(lot) if amount <= lot.price => Err(format!("bid more than {}", lot.price)),
            Some(lot) => Ok(Lot {
                price: amount,
                by: Some(name.clone()),
                ends_at_ms: lot.ends_at_ms.max(now_ms() + LAST_CALL_MS),
                sold: false,
            }),
        });
        match bid {
            Ok(lot) => tell("bid", &item, &lot),
            Err(why) => drop(reply(to_json(&(item, "refused", why.to_string())))),
        }
    }
}

impl TimerHandler for Auction {
    fn on_timer(item: &str) {
        let sold = update(item, |lot| match lot {
            Some(lot) if now_ms() < lot.ends_at_ms => Err(set_end(item, &lot).err()),
            Some(lot) if !lot.sold => Ok(Lot { sold: true, ..lot }),
            _ => Err(None),
        });
        match sold {
            Ok(lot) => tell("sold", item, &lot),
            Err(UpdateError::Refused(None)) => {} // a late bid has moved the end
            Err(UpdateError::Refused(Some(why))) => log(Level::Error, &why),
            Err(UpdateError::Failed(error)) => log(Level::Error, &error.message),
        }
    }
}

/// Lets the timer of the cluster fire when the lot ends; it replaces the one before.
fn set_end(item: &str, lot: &Lot) -> Result<(), String> {
    let left = lot.ends_at_ms.saturating_sub(now_ms()).max(10);
    let set = set_timer(item, Duration::from_millis(left), None, TimerScope::Cluster);
    set.map_err(|error| error.to_string())
}

fn update<E>(
    item: &str,
    change: impl FnMut(Option<Lot>) -> Result<Lot, E>,
) -> Result<Lot, UpdateError<E>> {
    keyvalue::open("lots")?.update_json(item, change)
}

fn tell(event: &str, item: &str, lot: &Lot) {
    let _ = send_to_group(&["room"], to_json(&(item, event, lot)), &[]);
}

jackfield_sdk::export!(Auction, call_handler, timer_handler);

#[cfg(test)]
mod tests {
    use super::*;
    use jackfield_sdk::testing::Host;

    #[test]
    fn a_late_bid_moves_the_end() {
        let host = Host::of::<Auction>();
        let host = host.manifest("auction.toml").expect("a manifest");
        let ada = host.connect("/auction?name=ada").expect("a name");
        let bob = host.connect("/auction?name=bob").expect("a name");
        let shop = Caller::Api("shop".to_owned());
        let offer = r#"{"item":"vase","price":100,"seconds":30}"#;
        host.call(shop, "offer", offer).expect("it is new");

        host.advance(Duration::from_secs(25));
        ada.say(r#"{"item":"vase","amount":120}"#);
        bob.say(r#"{"item":"vase","amount":120}"#);
        let refused = r#"["vase","refused","bid more than 120"]"#;
        assert_eq!(bob.received().last(), Some(&refused.into()));

        host.advance(Duration::from_secs(9)); // 34 s: it would have been over
        bob.say(r#"{"item":"vase","amount":130}"#);
        host.advance(Duration::from_secs(10));
        let events = ada.received();
        let last = events.last().and_then(Message::as_text).unwrap_or_default();
        assert!(
            last.starts_with(r#"["vase","sold",{"price":130,"by":"bob""#),
            "{last}"
        );
        ada.say(r#"{"item":"vase","amount":200}"#);
        assert_eq!(
            ada.received(),
            [r#"["vase","refused","it is over"]"#.into()]
        );
    }
}
