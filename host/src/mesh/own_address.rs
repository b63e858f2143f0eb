//! The address that this node advertises, dialled by itself: it should find itself there.
//!
//! Nodes do not dial the address that they advertise, so two with the same one would never hear
//! of each other, and neither would say so. Whoever finds another node there tells it. Where the
//! address leads to neither, registers and etcd may still list both.

use std::sync::Arc;
use std::time::Duration;

use super::dial::{CONNECT_TIMEOUT, Ended};
use super::source::Source;
use super::state::Mesh;
use crate::log_throttle::LastLogged;

/// The address is dialled so many times soon after the start: what leads there may start later.
const TRIES: u32 = 5;

/// This is the pause between these attempts.
const SOON: Duration = Duration::from_secs(1);

/// This is the pause later on: another node may come to the same address.
const LATER: Duration = Duration::from_secs(10);

impl Mesh {
    /// Notes which of the nodes that `source` lists, by name and address, are at the address of
    /// this one.
    pub(super) fn note_listed<'a>(
        &self,
        source: &Source,
        nodes: impl Iterator<Item = (String, &'a String)>,
    ) {
        let own = self.own().to_string();
        let here = nodes.filter(|(node, address)| **address == self.address && *node != own);
        self.listed_here
            .note(source, here.map(|(node, _)| node).collect());
    }

    /// Dials the address for as long as the node runs, and says what is wrong with it.
    pub(super) async fn watch_own_address(self: Arc<Self>) {
        let mut news = LastLogged::default();
        let (mut tries, mut was_found) = (0, false);
        while !self.leaving.is_cancelled() {
            tries += 1;
            let found = tokio::time::timeout(CONNECT_TIMEOUT, self.dial_own_address());
            let found = found.await.unwrap_or(Err(Ended::Slow));
            was_found |= found.is_ok();
            let found = match self.listed_here.lasting() {
                Some(node) => Err(Ended::Another(node)),
                None => found,
            };
            let address = &self.address;
            match &found {
                Ok(()) => {
                    news.is("");
                }
                Err(another @ Ended::Another(_)) if news.is(&another.to_string()) => {
                    tracing::warn!(
                        address,
                        "{another} is at the address that this node advertises, too, and the two may \
                         never meet: give each node an --advertise of its own"
                    );
                }
                // Once it was right, it is the way there that is broken.
                Err(ended) if tries >= TRIES && !was_found && news.is("none") => {
                    tracing::warn!(
                        address,
                        "this node does not find itself at the address that it advertises \
                         ({ended}): unless the other nodes reach it there, correct --advertise"
                    );
                }
                Err(_) => {}
            }
            let pause = match found.is_err() && tries < TRIES {
                true => SOON,
                false => LATER,
            };
            let _ = tokio::time::timeout(pause, self.leaving.cancelled()).await;
        }
    }

    async fn dial_own_address(&self) -> Result<(), Ended> {
        let greeted = self.greet(&self.address).await?;
        if greeted.node == self.own() {
            return Ok(());
        }
        Err(self.report_shared_address(greeted).await)
    }
}
