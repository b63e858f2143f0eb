//! The address that this node advertises. The node dials it itself, and should find itself there.
//!
//! Nodes do not dial the address that they advertise. So two nodes with the same address would
//! never be linked, and neither would report it. A node that finds another node at its own address
//! tells that node. If the address leads to neither of them, registers and etcd may still list
//! both.

use std::sync::Arc;
use std::time::Duration;

use super::link_end::LinkEnd;
use super::source::Source;
use super::state::Mesh;
use super::transport::CONNECT_TIMEOUT;
use crate::log_throttle::LastLogged;

/// How often the node dials its own address soon after the start, since whatever leads there may
/// start later.
const TRIES: u32 = 5;

/// The pause between the first attempts to dial the own address.
const SOON: Duration = Duration::from_secs(1);

/// The pause between later attempts to dial the own address, since another node may still get the
/// same address.
const LATER: Duration = Duration::from_secs(10);

impl Mesh {
    /// Notes which of the nodes that `source` lists, by name and address, have the address of this
    /// one.
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

    /// Dials the address for as long as the node runs, and logs what is wrong with it.
    pub(super) async fn watch_own_address(self: Arc<Self>) {
        let mut news = LastLogged::default();
        let (mut tries, mut was_found) = (0, false);
        while !self.leaving.is_cancelled() {
            tries += 1;
            let found = tokio::time::timeout(CONNECT_TIMEOUT, self.dial_own_address());
            let found = found.await.unwrap_or(Err(LinkEnd::Slow));
            was_found |= found.is_ok();
            let found = match self.listed_here.lasting() {
                Some(node) => Err(LinkEnd::Another(node)),
                None => found,
            };
            let address = &self.address;
            match &found {
                Ok(()) => {
                    news.is("");
                }
                Err(another @ LinkEnd::Another(_)) if news.is(&another.to_string()) => {
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

    async fn dial_own_address(&self) -> Result<(), LinkEnd> {
        let greeted = self.greet(&self.address).await?;
        if greeted.node == self.own() {
            return Ok(());
        }
        Err(self.report_shared_address(greeted).await)
    }
}
