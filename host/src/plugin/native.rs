//! An echo that is compiled into the node, in the place of a guest. The benchmarks measure with it
//! what a node costs without guests. Only the feature `bench-native` has it, and no shipped build
//! has that feature.

use std::sync::Arc;

use super::answer::Failure;
use super::session::{Session, Turn};
use crate::message::{Frame, Message};
use crate::message_queue::MessageQueue;
use crate::registry::Client;

/// The name of the plugin whose messages are echoed here.
const NATIVE: &str = "native";

/// A client's turn, which echoes the messages to the plugin `native` and passes on all others.
pub struct NativeTurn<'a> {
    session: &'a Session,
    turn: Turn<'a>,
}

impl<'a> NativeTurn<'a> {
    /// Begins a client's turn, which handles its waiting messages.
    pub fn new(session: &'a Session) -> NativeTurn<'a> {
        NativeTurn {
            session,
            turn: Turn::new(session),
        }
    }

    /// Returns how many waiting messages the plugin takes in one call.
    pub fn messages_at_once(&self, client: &Client) -> usize {
        match self.session.plugin().name() {
            NATIVE => 1,
            _ => self.turn.messages_at_once(client),
        }
    }

    /// Handles waiting messages, one at least.
    ///
    /// # Errors
    ///
    /// The errors are those of `Turn::on_messages`.
    pub async fn on_messages(
        &mut self,
        client: &Arc<Client>,
        queue: &mut MessageQueue,
    ) -> Result<(), Failure> {
        self.turn.on_messages(client, queue).await
    }

    /// Handles one message.
    ///
    /// # Errors
    ///
    /// The errors are those of `Turn::on_message`.
    pub async fn on_message(
        &mut self,
        client: &Arc<Client>,
        message: Message<'_>,
    ) -> Result<(), Failure> {
        let plugin = self.session.plugin();
        if plugin.name() != NATIVE {
            return self.turn.on_message(client, message).await;
        }
        // Where the outbox is full, the policy has decided.
        let _ = plugin.namespace().send_to(client, Frame::message(message));
        Ok(())
    }
}
