//! The other end of the socket: what a client says, hears and sees.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use super::Host;
use super::node::{Mailbox, Turn};
use crate::Plugin;
use crate::{ClientId, Closer, Message};

/// A `Client` is a client that was let in, as seen from its side of the socket.
///
/// Dropping it does not end the connection: [`leave`](Client::leave) does.
pub struct Client<P> {
    host: Host<P>,
    id: ClientId,
    subprotocol: Option<String>,
    mailbox: Rc<RefCell<Mailbox>>,
}

impl<P: Plugin> Client<P> {
    pub(super) fn new(
        host: Host<P>,
        id: ClientId,
        subprotocol: Option<String>,
        mailbox: Rc<RefCell<Mailbox>>,
    ) -> Client<P> {
        Client {
            host,
            id,
            subprotocol,
            mailbox,
        }
    }

    /// Returns the id by which the plugin knows the client.
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{Plugin, Refuse, is_online};
    ///
    /// struct Quiet;
    /// impl Plugin for Quiet {}
    ///
    /// let host = Host::of::<Quiet>();
    /// let ada = host.connect("/")?;
    /// assert_eq!(host.run(|| is_online(ada.id())), Ok(true));
    /// # Ok::<(), Refuse>(())
    /// ```
    pub fn id(&self) -> &ClientId {
        &self.id
    }

    /// Returns the subprotocol that the plugin chose, if it chose one.
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{Accept, ClientId, Handshake, Plugin, Refuse};
    ///
    /// struct First;
    ///
    /// impl Plugin for First {
    ///     fn on_connect(_: ClientId, handshake: Handshake) -> Result<Accept, Refuse> {
    ///         let offered = handshake.subprotocols.into_iter().next();
    ///         Ok(offered.map_or(Accept::new(), |name| Accept::new().subprotocol(name)))
    ///     }
    /// }
    ///
    /// let host = Host::of::<First>();
    /// assert_eq!(host.connect("/")?.subprotocol(), None);
    ///
    /// let subprotocols = vec!["v2".to_owned(), "v1".to_owned()];
    /// let handshake = Handshake { subprotocols, ..Handshake::get("/") };
    /// assert_eq!(host.connect_with(handshake)?.subprotocol(), Some("v2"));
    /// # Ok::<(), Refuse>(())
    /// ```
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Sends a message to the plugin, whose `on_message` handles it at once.
    ///
    /// Nothing happens when the connection has ended.
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{ClientId, Message, Plugin, Refuse, send_to_client};
    ///
    /// struct Echo;
    ///
    /// impl Plugin for Echo {
    ///     fn on_message(client: ClientId, message: Message) {
    ///         let _ = send_to_client(&client, message);
    ///     }
    /// }
    ///
    /// let ada = Host::of::<Echo>().connect("/")?;
    /// ada.say("hello");
    /// ada.say(vec![1, 2]); // a binary message
    /// ada.leave();
    /// ada.say("is anybody there?");
    /// assert_eq!(ada.received(), [Message::from("hello"), Message::from(vec![1, 2])]);
    /// # Ok::<(), Refuse>(())
    /// ```
    pub fn say(&self, message: impl Into<Message>) {
        let here = self.host.node.borrow().has(&self.id);
        if here {
            let message = message.into();
            self.host.turn(Turn::event_of(&self.id), || {
                P::on_message(self.id.clone(), message);
            });
            self.host.run_close_events();
        }
    }

    /// Returns what was sent to the client since the last call, a close's last message included.
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{Plugin, Refuse, send_to_all};
    ///
    /// struct Quiet;
    /// impl Plugin for Quiet {}
    ///
    /// let host = Host::of::<Quiet>();
    /// let ada = host.connect("/")?;
    /// host.run(|| send_to_all("one", &[])).expect("sent");
    /// host.run(|| send_to_all("two", &[])).expect("sent");
    /// assert_eq!(ada.received(), ["one".into(), "two".into()]);
    /// assert!(ada.received().is_empty());
    /// # Ok::<(), Refuse>(())
    /// ```
    pub fn received(&self) -> Vec<Message> {
        std::mem::take(&mut self.mailbox.borrow_mut().messages)
    }

    /// Leaves as a browser's `close()` does, with a close frame without a code, 1005.
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{ClientId, Closer, Departure, Level, Plugin, Refuse, log};
    ///
    /// struct Door;
    ///
    /// impl Plugin for Door {
    ///     fn on_close(_: ClientId, departure: Departure) {
    ///         assert_eq!(departure.by, Closer::Client);
    ///         log(Level::Info, &departure.code.to_string());
    ///     }
    /// }
    ///
    /// let host = Host::of::<Door>();
    /// host.connect("/")?.leave();
    /// assert_eq!(host.logs(), [(Level::Info, "1005".to_owned())]);
    /// # Ok::<(), Refuse>(())
    /// ```
    pub fn leave(&self) {
        self.depart(1005, "", Closer::Client);
    }

    /// Leaves with a close frame that has this code and reason.
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
    /// let host = Host::of::<Door>();
    /// host.connect("/")?.leave_with(4000, "dinner");
    /// assert_eq!(host.logs(), [(Level::Info, "4000 dinner".to_owned())]);
    /// # Ok::<(), Refuse>(())
    /// ```
    pub fn leave_with(&self, code: u16, reason: &str) {
        self.depart(code, reason, Closer::Client);
    }

    /// Breaks the connection, without any close frame, 1006.
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{ClientId, Closer, Departure, Level, Plugin, Refuse, log};
    ///
    /// struct Door;
    ///
    /// impl Plugin for Door {
    ///     fn on_close(_: ClientId, departure: Departure) {
    ///         assert_eq!(departure.by, Closer::Network);
    ///         log(Level::Info, &departure.code.to_string());
    ///     }
    /// }
    ///
    /// let host = Host::of::<Door>();
    /// host.connect("/")?.vanish();
    /// assert_eq!(host.logs(), [(Level::Info, "1006".to_owned())]);
    /// # Ok::<(), Refuse>(())
    /// ```
    pub fn vanish(&self) {
        self.depart(1006, "", Closer::Network);
    }

    /// Returns the code and the reason with which the plugin or its policy closed the client.
    ///
    /// The answer is `None` while the client is connected, and when it left by itself.
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{ClientId, Message, Plugin, Refuse, close_client};
    ///
    /// struct Strict;
    ///
    /// impl Plugin for Strict {
    ///     fn on_message(client: ClientId, _: Message) {
    ///         let _ = close_client(&client, 4000, "be quiet", None);
    ///     }
    /// }
    ///
    /// let ada = Host::of::<Strict>().connect("/")?;
    /// assert_eq!(ada.closed(), None);
    /// ada.say("hello");
    /// assert_eq!(ada.closed(), Some((4000, "be quiet".to_owned())));
    /// # Ok::<(), Refuse>(())
    /// ```
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
