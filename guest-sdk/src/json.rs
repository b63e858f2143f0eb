//! JSON in and out, by serde: one function for each way, whatever carries the JSON.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{CallError, CallErrorCode};

/// A `JsonError` says why a text is not the JSON that it should be.
///
/// In [`on_call`](crate::CallHandler::on_call), `?` makes it a [`CallError`] with the code
/// `InvalidArgument`.
///
/// ```
/// use jackfield_sdk::{CallError, CallErrorCode, from_json};
///
/// fn double(payload: Vec<u8>) -> Result<i64, CallError> {
///     Ok(2 * from_json::<i64>(payload)?)
/// }
///
/// assert_eq!(double(b"21".to_vec()), Ok(42));
/// assert_eq!(double(b"x".to_vec()).unwrap_err().code, CallErrorCode::InvalidArgument);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// The message names what is wrong and where, for whoever wrote the text.
    pub message: String,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for JsonError {}

impl From<JsonError> for CallError {
    fn from(error: JsonError) -> CallError {
        CallError::new(CallErrorCode::InvalidArgument, error.message)
    }
}

/// Writes a value as JSON, on one line.
///
/// Every function that sends takes the text as a message. It is as well the payload or the answer
/// of a [`call`](crate::call), the value of a [bucket](crate::keyvalue)'s key, and the body of a
/// [request](crate::http).
///
/// ```
/// use jackfield_sdk::testing::Host;
/// use jackfield_sdk::{send_to_all, to_json};
/// use serde::Serialize;
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
///
/// #[derive(Serialize)]
/// struct Score { name: &'static str, points: u32 }
///
/// let host = Host::of::<Quiet>();
/// let ada = host.connect("/")?;
/// host.run(|| send_to_all(to_json(&Score { name: "Ada", points: 7 }), &[])).expect("sent");
/// assert_eq!(ada.received(), [r#"{"name":"Ada","points":7}"#.into()]);
/// # Ok::<(), jackfield_sdk::Refuse>(())
/// ```
///
/// # Panics
///
/// The value has no JSON. That is a map whose keys are no texts, numbers, booleans or characters,
/// or a value whose own `Serialize` fails. Structs, enums, lists, texts and numbers always have
/// one.
pub fn to_json(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).expect("the value has JSON")
}

/// Reads a value from JSON: from a payload, an answer, a bucket's value, or a body.
///
/// For a message there is [`Message::json`](crate::Message::json), and for an HTTP answer
/// [`Response::json`](crate::http::Response::json).
///
/// ```
/// use jackfield_sdk::testing::Host;
/// use jackfield_sdk::{CallError, CallHandler, Caller, from_json, to_json};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Order { item: String, count: u32 }
///
/// struct Orders;
///
/// impl CallHandler for Orders {
///     fn on_call(_: Caller, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError> {
///         match method {
///             "double" => {
///                 let order: Order = from_json(payload)?;
///                 Ok(to_json(&Order { count: 2 * order.count, ..order }).into())
///             }
///             _ => Err(CallError::unknown_method(method)),
///         }
///     }
/// }
///
/// let host = Host::of::<Orders>();
/// let backend = || Caller::Api("shop".to_owned());
/// let answer = host.call(backend(), "double", r#"{"item":"tea","count":2}"#)?;
/// assert_eq!(from_json::<Order>(answer).expect("an order").count, 4);
///
/// let error = host.call(backend(), "double", r#"{"item":"tea"}"#).unwrap_err();
/// assert_eq!(error.message, "missing field `count` at line 1 column 14");
/// # Ok::<(), CallError>(())
/// ```
///
/// # Errors
///
/// The text is no JSON, or it is another JSON than `T` has. The error has nothing of the plugin's
/// own but the names of fields and variants, so whoever wrote the text may see it.
pub fn from_json<T: DeserializeOwned>(text: impl AsRef<[u8]>) -> Result<T, JsonError> {
    serde_json::from_slice(text.as_ref()).map_err(|error| JsonError {
        message: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;
    use crate::Message;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
    enum Command {
        Say { text: String },
        Leave {},
    }

    #[test]
    fn what_is_written_is_read_again() {
        let say = Command::Say {
            text: "\"hé\"\n".to_owned(),
        };
        let text = to_json(&say);
        assert!(!text.contains('\n'), "{text}");
        assert_eq!(Message::from(text.as_str()).json(), Ok(say));
        assert_eq!(
            from_json(text.replace("say", "leave")).ok(),
            None::<Command>
        );
        assert_eq!(from_json(r#"{"do":"leave"}"#), Ok(Command::Leave {}));
    }

    #[test]
    fn what_is_no_such_json_is_named() {
        let error = |message: Message| message.json::<Command>().unwrap_err().to_string();
        for (text, named) in [
            ("", "EOF"),
            ("hello", "line 1 column 1"),
            ("{}", "missing field `do`"),
            (r#"{"do":"dance"}"#, "dance"),
            (r#"{"do":"say"}"#, "missing field `text`"),
            (r#"{"do":"say","text":7}"#, "invalid type: integer `7`"),
            (r#"{"do":"leave","why":1}"#, "unknown field `why`"),
        ] {
            let error = error(text.into());
            assert!(error.contains(named), "{text}: {error}");
        }
        let binary = error(br#"{"do":"leave"}"#.to_vec().into());
        assert_eq!(binary, "the message is binary, and no JSON text");
        assert!(from_json::<String>(b"\"\xff\"").is_err(), "no UTF-8");
        let body = crate::http::Response::new(200, "{}");
        let error = body.json::<Command>().unwrap_err().message;
        assert!(error.contains("missing field `do`"), "{error}");
    }

    #[test]
    #[should_panic(expected = "the value has JSON")]
    fn a_value_without_json_is_a_mistake_of_the_plugin() {
        to_json(&BTreeMap::from([((1, 2), 3)]));
    }
}
