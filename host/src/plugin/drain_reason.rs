//! The reasons why all clients of a plugin are closed, and what the clients are told.

use std::time::Duration;

use super::spread::spread;
use crate::close_code::CloseCode;
use crate::registry::{Client, Close, Closer};

/// The reason why all clients of a plugin are closed.
#[derive(Clone, Copy, Debug)]
pub(super) enum DrainReason {
    /// The plugin's file is gone.
    Removed,
    /// The node ends, and another node, or the next run of this one, takes the clients.
    Restart,
}

impl DrainReason {
    /// Returns how one client is closed when `clients` clients are closed in all.
    pub(super) fn close(self, client: &Client, clients: usize) -> Close {
        self.close_for_a_while(client, clients, RETURN_MAX)
    }

    /// Returns how a client is closed that is waited for, and is to come back within `most`.
    pub(super) fn close_for_a_while(
        self,
        client: &Client,
        clients: usize,
        most: Duration,
    ) -> Close {
        let (code, reason) = match self {
            DrainReason::Removed => (CloseCode::GoingAway, "the service has ended".to_owned()),
            DrainReason::Restart => {
                let after = return_after(client.id().counter(), clients, most);
                (
                    CloseCode::ServiceRestart,
                    format!("the node restarts, retry-after-ms={}", after.as_millis()),
                )
            }
        };
        let by = Closer::Node;
        Close { code, reason, by }
    }
}

/// Returns after what time a client should come back. The times are spread over up to `RETURN_MAX`,
/// so that the nodes that take over the clients see a thousand of them a second, and not all at
/// once.
fn return_after(counter: u64, clients: usize, most: Duration) -> Duration {
    let window = RETURN_MIN + Duration::from_millis(clients as u64);
    spread(counter, window.min(most))
}

const RETURN_MIN: Duration = Duration::from_secs(1);
const RETURN_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_come_back_evenly_and_no_later_than_they_should() {
        for (clients, window) in [(10, 1_010), (5_000, 6_000), (1_000_000, 30_000)] {
            let counters = 1..=clients.min(5_000) as u64;
            let mut tenths = [0_usize; 10];
            for counter in counters.clone() {
                let after = return_after(counter, clients, RETURN_MAX).as_millis();
                assert!(after < window, "{after} of {window}");
                tenths[usize::try_from(after * 10 / window).expect("a tenth")] += 1;
            }
            let expected = counters.count() / 10;
            for tenth in tenths {
                assert!(tenth.abs_diff(expected) <= 1 + expected / 20, "{tenths:?}");
            }
        }
    }
}
