//! The soak: clients on several nodes, and everything at once for as long as one wants.
//!
//! Clients connect, are bound to uids, join groups, send, leave and are cut off at random, while
//! plugins are reloaded, nodes are drained and killed, and links between nodes break. A
//! model knows who has to get each message, who may get it, and who must not. After each
//! fault there is a barrier, at which everything has to have arrived, and all nodes have to know
//! the same.
//!
//! `cargo xtask soak` runs it; `docs/mesh.md` says what came out.
//!
//! | file | what it is | what bounds it |
//! |---|---|---|
//! | `run` | the phases of a run: rounds of load, a fault, a barrier | the time, and 30 s for each thing that is waited for |
//! | `fault` | which fault is next | |
//! | `fleet` | the nodes' processes, their proxies, and what their ends have to be like | |
//! | `operations` | what the clients and a backend do, at random | the operations per second, 64 handshakes at a time |
//! | `load` | the clients, and what they wait for | 4 requests for each client |
//! | `answers` | what answers and epochs mean for the model | one epoch at a time |
//! | `socket`, `frame` | a WebSocket client | 64 KiB a read |
//! | `model` | the checker; it does no I/O | what is sent between two barriers |
//! | `sabotage` | a fault of the test itself, which has to be found | one message |
//! | `latency`, `memory`, `report` | what is measured, and the table | |

mod answers;
mod fault;
mod fleet;
mod frame;
mod latency;
mod load;
mod memory;
mod model;
mod operations;
mod report;
mod run;
mod sabotage;
mod socket;

pub use fault::Fault;
pub use report::Report;
pub use run::{Options, run};
pub use sabotage::Sabotage;
