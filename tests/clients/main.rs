//! Bad clients: those that break the protocol, hang, flood, do not read or vanish cost the
//! node a bounded part of itself, and the others nothing.
//!
//! What the node makes of a client is seen by the client itself, by a watcher of the plugin
//! `console` that hears each `on-close`, and in the node's counters.

mod closing;
mod compression;
mod files;
mod frames;
mod handshake;
mod limits;
mod memory;
mod pages;
mod rates;
mod slow;
mod vanishing;
