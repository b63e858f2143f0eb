//! What a plugin is given beside its clients: settings, state of its own, HTTP. With and without
//! a grant, at its limits, and while what is behind it is down.
//!
//! Each test has nodes, servers and folders of its own. What did not happen is known by what
//! the servers were asked, and by later requests that are answered.

mod chat;
mod config;
mod http;
mod keyvalue;
mod web;
