//! This module has the component's interfaces, as `wit-bindgen` makes them of `wit/`.
//!
//! The files are generated ahead, since their generator takes an author's first build ten times
//! as long as everything else in it. `tests/generated` writes them again when `wit/` changes.

// They are formatted by their generator, and read by nobody.
#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic
)]

#[rustfmt::skip]
pub mod call_handler;
#[rustfmt::skip]
pub(crate) mod config;
#[rustfmt::skip]
pub(crate) mod http;
#[rustfmt::skip]
pub(crate) mod keyvalue;
#[rustfmt::skip]
pub mod lifecycle;
#[rustfmt::skip]
pub mod plugin;
#[rustfmt::skip]
pub mod timer_handler;
#[rustfmt::skip]
pub mod turn_handler;
