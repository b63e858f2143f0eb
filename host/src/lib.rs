//! Jackfield: a WebSocket node host whose business logic is a hot-swappable WebAssembly
//! component.
//!
//! Rooms, in the direction a message travels; a file uses only rooms to its right
//! (`tests/layers.rs` keeps that true):
//!
//! node → admin → client → plugin → router → mesh → registry → outbox → config · limits · policy · delivery · message · id · counters · log

pub mod node;

pub mod admin;
pub mod client;
pub mod mesh;
pub mod plugin;
pub mod registry;
pub mod router;

pub mod outbox;

pub mod config;
pub mod counters;
pub mod delivery;
pub mod id;
pub mod limits;
pub mod log;
pub mod message;
pub mod policy;
