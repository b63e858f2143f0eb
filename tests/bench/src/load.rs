//! Loads: what clients do to a server, and check while they do it.

mod echo;
mod fan_out;

use std::time::Instant;

use anyhow::Result;

use crate::crowd::Crowd;

pub(crate) use echo::Echo;
pub(crate) use fan_out::{FanOut, Group};

/// Something that clients do, over and over.
pub(crate) trait Load {
    /// Goes on until `until`; answers how many messages arrived. Any that is wrong is an
    /// error.
    fn run(&mut self, until: Instant) -> Result<u64>;

    /// Starts nothing new, and waits for what is under way.
    fn finish(&mut self) -> Result<()>;

    /// The clients.
    fn crowd(&mut self) -> &mut Crowd;
}
