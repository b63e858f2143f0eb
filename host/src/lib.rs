//! Jackfield: a WebSocket node host whose business logic is a hot-swappable WebAssembly
//! component.
//!
//! Rooms, in the direction a message travels; a file uses only rooms to its right
//! (`tests/layers.rs` keeps that true):
//!
//! author → remote → node → admin → client → plugin → guest → router → mesh → registry → outbox → keyvalue → manifest → access → config · limits · policy · rollout · delivery · message_queue · message · deflate · close_code · id · counters · histogram · log · log_throttle · tracer · live_trace · rate_limiter · pending_connections · commented_config · certificates · listener · socket · watched_files · host_pattern · invalid_value · file · authorities · address_share · stdout · fuzzing

pub mod author;
pub mod node;
pub mod remote;

pub mod admin;
pub mod client;
pub mod guest;
pub mod mesh;
pub mod plugin;
pub mod registry;
pub mod router;

pub mod outbox;

pub mod access;
pub mod keyvalue;
pub mod manifest;

mod address_share;
pub mod authorities;
pub mod certificates;
pub mod close_code;
pub mod commented_config;
pub mod config;
pub mod counters;
pub mod deflate;
pub mod delivery;
pub mod file;
#[cfg(test)]
mod fuzzing;
pub mod histogram;
mod host_pattern;
pub mod id;
pub mod invalid_value;
pub mod limits;
pub mod listener;
pub mod live_trace;
pub mod log;
pub mod log_throttle;
pub mod message;
pub mod message_queue;
pub mod pending_connections;
pub mod policy;
mod rate_limiter;
pub mod rollout;
pub mod socket;
pub mod stdout;
pub mod tracer;
mod watched_files;
