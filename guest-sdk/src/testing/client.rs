//! The other end of the socket: what a client says, hears and sees.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;

use super::Host;
use super::node::Mailbox;
use crate::plugin::Plugin;
use crate::types::{ClientId, Closer, Message};

/// A client that was let in, as seen from its side of the socket. Dropping it does not end the
/// connection: [`leave`](Client::leave) does.
pub struct Client<P> {
    host: Host,
    id: ClientId,
    subprotocol: Option<String>,
    mailbox: Rc<RefCell<Mailbox>>,
    plugin: PhantomData<fn() -> P>,
}

impl<P: Plugin> Client<P> {
    pub(super) fn new(
        host: Host,
        id: ClientId,
        subprotocol: Option<String>,
        mailbox: Rc<RefCell<Mailbox>>,
    ) -> Client<P> {
        Client {
            host,
            id,
            subprotocol,
            mailbox,
            plugin: PhantomData,
        }
    }

    /// The id that the plugin knows it by.
    pub fn id(&self) -> &ClientId {
        &self.id
    }

    /// The subprotocol that the plugin chose.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Sends a message to the plugin. Nothing happens when the connection has ended.
    pub fn say(&self, message: impl Into<Message>) {
        let here = self.host.node.borrow().has(&self.id);
        if here {
            let message = message.into();
            self.host.event(|| P::on_message(self.id.clone(), message));
            self.host.run_close_events();
        }
    }

    /// What was sent to it since the last call, a close's last message included.
    pub fn received(&self) -> Vec<Message> {
        std::mem::take(&mut self.mailbox.borrow_mut().messages)
    }

    /// Leaves as a browser's `close()` does: a close frame without a code, 1005.
    pub fn leave(&self) {
        self.depart(1005, "", Closer::Client);
    }

    /// Leaves with a close frame's code and reason.
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{ClientId, Departure, Level, Plugin, Refuse, log};
    ///
    /// struct Door;
    ///
    /// impl Plugin for Door {
    ///     fn on_close(_: ClientId, departure: Departure) {
    ///         log(Level::Info, &format!("{} {}", departure.code, departure.reason));
    ///     }
    /// }
    ///
    /// let host = Host::new();
    /// host.connect::<Door>()?.leave_with(4000, "dinner");
    /// assert_eq!(host.logs(), [(Level::Info, "4000 dinner".to_owned())]);
    /// # Ok::<(), Refuse>(())
    /// ```
    pub fn leave_with(&self, code: u16, reason: &str) {
        self.depart(code, reason, Closer::Client);
    }

    /// The connection breaks: no close frame at all, 1006.
    pub fn vanish(&self) {
        self.depart(1006, "", Closer::Network);
    }

    /// Code and reason with which the plugin or its policy closed it; none while it is
    /// connected, and when it left by itself.
    pub fn closed(&self) -> Option<(u16, String)> {
        self.mailbox.borrow().closed.clone()
    }

    fn depart(&self, code: u16, reason: &str, by: Closer) {
        self.host
            .node
            .borrow_mut()
            .depart(&self.id, code, reason, by);
        self.host.run_close_events();
    }
}

impl<P> fmt::Debug for Client<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.id).finish()
    }
}
