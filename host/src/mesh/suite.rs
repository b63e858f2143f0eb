//! The suite of the mesh. Each scenario runs twice: over channels inside one process, under paused
//! time, and over gRPC between ports of this machine.
//!
//! The nodes of a scenario have a mesh and a registry, and no plugins and sockets of clients. The
//! connections between them break, stall and come back as the scenario says (`Network`).

mod breaks;
mod events;
mod fuzzed_frames;
mod interest;
mod network;
mod random;
mod silence;
mod test_node;
mod timers;
mod trust;

use std::time::Duration;

/// Makes two tests of each scenario, one over each transport.
macro_rules! scenarios {
    ($($scenario:ident),* $(,)?) => {
        mod over_channels {
            $(
                #[tokio::test(start_paused = true)]
                async fn $scenario() {
                    super::$scenario(&super::Network::over_channels()).await;
                }
            )*
        }

        mod over_grpc {
            $(
                #[tokio::test]
                async fn $scenario() {
                    super::$scenario(&super::Network::over_grpc()).await;
                }
            )*
        }
    };
}
use scenarios;

/// How long a condition may take to come true, in seconds of the scenario's clock.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is checked.
const CHECK: Duration = Duration::from_millis(5);

/// Waits until the condition is true.
async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let checks = async {
        let mut ticks = tokio::time::interval(CHECK);
        while !is_so() {
            ticks.tick().await;
        }
    };
    let done = tokio::time::timeout(PATIENCE, checks).await;
    assert!(done.is_ok(), "{what} within {PATIENCE:?}");
}

/// Waits for the next millisecond of the system's clock. Nodes compare the times at which clients
/// were bound in milliseconds.
fn next_millisecond() {
    let now = || std::time::UNIX_EPOCH.elapsed().expect("after 1970");
    let before = now().as_millis();
    while now().as_millis() <= before {}
}
