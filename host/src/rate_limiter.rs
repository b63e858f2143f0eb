//! Rates: how often something may happen in a second, with a burst of one second's worth.
//!
//! One limiter is one number (`RateLimiter`). A client, uid, address or plugin has several (`Rates`).
//! Those of a uid or an address are shared by its clients (`SharedRates`). Where nobody is to be
//! closed for the sum of many, they wait for each other (`RateQueue`).

mod limiter;
mod rate_queue;
mod rates;
mod shared_rates;

pub(crate) use self::limiter::RateLimiter;
pub(crate) use self::rate_queue::RateQueue;
pub(crate) use self::rates::{RateKind, RateLimits, Rates, TooFast};
pub(crate) use self::shared_rates::SharedRates;
