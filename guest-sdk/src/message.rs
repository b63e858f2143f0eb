//! What a client and its plugin say to each other.

/// A `Message` is one WebSocket message, which stays text or binary from end to end.
///
/// ```
/// use jackfield_sdk::Message;
///
/// assert_eq!(Message::from("hello"), Message::Text("hello".to_owned()));
/// assert_eq!(Message::from(vec![1, 2]), Message::Binary(vec![1, 2]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The message is text, which is always UTF-8.
    Text(String),
    /// The message is bytes of any kind.
    Binary(Vec<u8>),
}

impl Message {
    /// Returns the text of a text message, and `None` for a binary one.
    ///
    /// ```
    /// use jackfield_sdk::Message;
    ///
    /// assert_eq!(Message::from("hello").as_text(), Some("hello"));
    /// assert_eq!(Message::from(b"hello".to_vec()).as_text(), None); // it is binary
    /// ```
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Message::Text(text) => Some(text),
            Message::Binary(_) => None,
        }
    }

    /// Reads the message as JSON, as [`from_json`](crate::from_json) does.
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{ClientId, Message, Plugin, reply, to_json};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Deserialize)]
    /// struct Question { a: i64, b: i64 }
    ///
    /// #[derive(Serialize)]
    /// struct Answer { sum: i64 }
    ///
    /// struct Adder;
    ///
    /// impl Plugin for Adder {
    ///     fn on_message(_: ClientId, message: Message) {
    ///         let _ = match message.json() {
    ///             Ok(Question { a, b }) => reply(to_json(&Answer { sum: a + b })),
    ///             Err(error) => reply(error.message),
    ///         };
    ///     }
    /// }
    ///
    /// let ada = Host::of::<Adder>().connect("/")?;
    /// ada.say(r#"{"a":2,"b":3}"#);
    /// ada.say(r#"{"a":2}"#);
    /// let answers = [r#"{"sum":5}"#, "missing field `b` at line 1 column 7"];
    /// assert_eq!(ada.received(), answers.map(Message::from));
    /// # Ok::<(), jackfield_sdk::Refuse>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The message is binary, its text is no JSON, or it is another JSON than `T` has. The error
    /// has nothing of the plugin's own but the names of fields and variants, so it can be sent to
    /// the client.
    #[cfg(feature = "json")]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, crate::JsonError> {
        match self {
            Message::Text(text) => crate::from_json(text),
            Message::Binary(_) => Err(crate::JsonError {
                message: "the message is binary, and no JSON text".to_owned(),
            }),
        }
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Message {
        Message::Text(text.to_owned())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Message {
        Message::Text(text)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Message {
        Message::Binary(bytes)
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Message {
        Message::Binary(bytes.to_vec())
    }
}
