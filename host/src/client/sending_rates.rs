//! The rates at which a client may send: its own, those of its uid, and those of its address.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::limits::Limits;
use crate::log_throttle::LogThrottle;
use crate::rate_limiter::{RateKind, Rates};
use crate::registry::{Client, NodeState};

/// The rates that bound what one client sends.
#[derive(Debug)]
pub(super) struct SendingRates {
    own: Rates,
    has_uid_limits: bool,
    address: Option<IpAddr>,
    address_rates: Option<Arc<Rates>>,
    /// The throttle of the log line about clients that are closed for what others have sent, too.
    closed: Arc<LogThrottle>,
}

/// Whose messages come too fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    Client,
    Uid,
    Address,
}

impl SendingRates {
    /// Creates the rates of a new client of this address. The result is `None` if nothing has a
    /// limit, so that such a client pays nothing for it.
    pub(super) fn new(
        limits: &Limits,
        address: Option<IpAddr>,
        address_rates: Option<&Arc<Rates>>,
        closed: &Arc<LogThrottle>,
    ) -> Option<Box<SendingRates>> {
        let has_uid_limits = !limits.uid_rates().let_all_messages();
        let address_rates = address_rates.filter(|rates| !rates.let_all_messages());
        let own = limits.client_rates();
        if own.let_all_messages() && !has_uid_limits && address_rates.is_none() {
            return None;
        }
        Some(Box::new(SendingRates {
            own: Rates::new(own, Instant::now()),
            has_uid_limits,
            address,
            address_rates: address_rates.cloned(),
            closed: closed.clone(),
        }))
    }

    /// Counts a message of so many bytes.
    ///
    /// # Errors
    ///
    /// The message comes too fast. The reason for closing the client is returned.
    pub(super) fn take_message(
        &self,
        client: &Client,
        shared: &NodeState,
        bytes: usize,
    ) -> Result<(), &'static str> {
        let now = Instant::now();
        let own = self.own.take_message(bytes, now);
        let taken = own.map_err(|too_fast| (Sender::Client, too_fast.kind));
        let taken = taken.and_then(|()| match self.has_uid_limits {
            true => client
                .take_message_of_uid(bytes, now)
                .map_err(|too_fast| (Sender::Uid, too_fast.kind)),
            false => Ok(()),
        });
        let taken = taken.and_then(|()| match &self.address_rates {
            Some(address) => address
                .take_message(bytes, now)
                .map_err(|too_fast| (Sender::Address, too_fast.kind)),
            None => Ok(()),
        });
        taken.map_err(|(sender, kind)| self.too_fast(client, shared, sender, kind))
    }

    /// Counts and logs a message that came too fast, and returns the reason for closing its client.
    fn too_fast(
        &self,
        client: &Client,
        shared: &NodeState,
        sender: Sender,
        kind: RateKind,
    ) -> &'static str {
        use RateKind::{Bytes, Messages};
        let counters = shared.counters();
        let (counter, limit, reason) = match (sender, kind) {
            (Sender::Client, Messages) => (
                &counters.clients_too_fast,
                "messages_per_second",
                "too many messages a second",
            ),
            (Sender::Client, Bytes) => (
                &counters.clients_too_fast,
                "bytes_per_second",
                "too many bytes a second",
            ),
            (Sender::Uid, Messages) => (
                &counters.uids_too_fast,
                "messages_per_second_per_uid",
                "too many messages a second of this uid",
            ),
            (Sender::Uid, Bytes) => (
                &counters.uids_too_fast,
                "bytes_per_second_per_uid",
                "too many bytes a second of this uid",
            ),
            (Sender::Address, Messages) => (
                &counters.addresses_too_fast,
                "messages_per_second_per_address",
                "too many messages a second from this address",
            ),
            (Sender::Address, Bytes) => (
                &counters.addresses_too_fast,
                "bytes_per_second_per_address",
                "too many bytes a second from this address",
            ),
        };
        counter.add_one();
        // Who sends too fast alone is the only one who is closed. Together, they may not know.
        if sender != Sender::Client
            && let Some(unsaid) = self.closed.happened()
        {
            let (client, address) = (client.id(), self.address);
            tracing::warn!(
                %client, address = address.map(tracing::field::display), limit, unsaid,
                "clients are closed, since those of one uid or address together send too fast"
            );
        }
        reason
    }
}
