//! The address that this node advertises, dialled by itself: it should find itself there.
//!
//! Nodes do not dial the address that they advertise, so two with the same one would never hear
//! of each other, and neither would say so. Whoever finds another node there tells it.

use std::sync::Arc;
use std::time::Duration;

use super::Mesh;
use super::dial::{CONNECT_TIMEOUT, Ended};
use super::seldom::News;

/// How many times it is dialled soon after the start: what leads there may start later.
const TRIES: u32 = 5;

/// The pause between these.
const SOON: Duration = Duration::from_secs(1);

/// The pause between two attempts later on: another node may come to the same address.
const LATER: Duration = Duration::from_secs(10);

impl Mesh {
    /// Dials the address for as long as the node runs, and says what is wrong with it.
    pub(super) async fn keep_finding_itself(self: Arc<Self>) {
        let mut news = News::default();
        let (mut tries, mut was_found) = (0, false);
        while !self.leaving.is_cancelled() {
            tries += 1;
            let found = tokio::time::timeout(CONNECT_TIMEOUT, self.find_itself());
            let found = found.await.unwrap_or(Err(Ended::Slow));
            was_found |= found.is_ok();
            let address = &self.address;
            match &found {
                Ok(()) => {
                    news.is("");
                }
                Err(another @ Ended::Another(_)) if news.is(&another.to_string()) => {
                    tracing::warn!(
                        address,
                        "{another}, and not this node, is at the address that this node \
                         advertises, so they never meet: give each node an --advertise of its own"
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

    async fn find_itself(&self) -> Result<(), Ended> {
        let greeted = self.greet(&self.address).await?;
        if greeted.node == self.own() {
            return Ok(());
        }
        Err(self.tell_whose_address_it_is(greeted).await)
    }
}
