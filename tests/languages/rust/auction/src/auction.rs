//! An auction in its bucket: how it is opened, bid for, and ended.

use std::time::Duration;

use jackfield_sdk::keyvalue::{self, Bucket, UpdateError};
use jackfield_sdk::{Error, TimerScope, config, now_ms, set_timer};
use serde::{Deserialize, Serialize};

/// What is kept of an item.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct Auction {
    pub(crate) price: u64,
    pub(crate) by: Option<String>,
    pub(crate) open: bool,
    ends_ms: u64,
}

/// Why an auction does not end now.
pub(crate) enum End {
    Later(u64),
    Over,
}

fn bucket() -> Result<Bucket, keyvalue::Error> {
    keyvalue::open("auctions")
}

pub(crate) fn open(item: &str, price: u64, ms: u64) -> Result<(), UpdateError<&'static str>> {
    bucket()?.update_json(item, |old: Option<Auction>| match old {
        Some(Auction { open: true, .. }) => Err("it is open already"),
        _ => Ok(Auction {
            price,
            by: None,
            open: true,
            ends_ms: now_ms() + ms,
        }),
    })?;
    set_end(item, ms).or_else(|_| {
        // Nothing would ever end it.
        bucket()?.delete(item)?;
        Err(UpdateError::Refused(
            "its end cannot be set: ms is 10 at least, and 366 days at most",
        ))
    })
}

pub(crate) fn state(item: &str) -> Result<Option<Auction>, keyvalue::Error> {
    bucket()?.get_json(item)
}

pub(crate) fn bid(item: &str, amount: u64, by: &str) -> Result<Auction, UpdateError<String>> {
    let extend_ms = config::get("extend_ms")
        .and_then(|ms| ms.parse().ok())
        .unwrap_or(5_000);
    bucket()?.update_json(item, |old: Option<Auction>| {
        let old = old.filter(|old| old.open && old.ends_ms > now_ms());
        let old = old.ok_or("it is not open")?;
        match amount > old.price {
            true => Ok(Auction {
                price: amount,
                by: Some(by.to_owned()),
                ends_ms: old.ends_ms.max(now_ms() + extend_ms),
                ..old
            }),
            false => Err(format!("the price is {}", old.price)),
        }
    })
}

pub(crate) fn end(item: &str) -> Result<Auction, UpdateError<End>> {
    bucket()?.update_json(item, |old: Option<Auction>| {
        let old = old.filter(|old| old.open).ok_or(End::Over)?;
        match old.ends_ms.checked_sub(now_ms()) {
            Some(rest) if rest > 0 => Err(End::Later(rest)),
            _ => Ok(Auction { open: false, ..old }),
        }
    })
}

pub(crate) fn set_end(item: &str, ms: u64) -> Result<(), Error> {
    let after = Duration::from_millis(ms.max(10));
    set_timer(&format!("end:{item}"), after, None, TimerScope::Cluster)
}
