//! Requests with answers over messages, by JSON-RPC 2.0 (<https://www.jsonrpc.org/specification>), as the
//! client library for browsers and Node.js sends them (`client.request`).

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::{JsonError, Message, from_json, reply, to_json};

/// A `Request` is what a client asks for.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    params: Option<Box<RawValue>>,
}

/// An `Error` is the answer to a request that failed.
///
/// [`JsonError`] becomes one with the code [`Error::INVALID_PARAMS`], so `?` works on
/// [`Request::params`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The code says what kind of error it is. Those from -32768 to -32000 are of the specification.
    pub code: i64,
    /// The message is a short sentence for a person.
    pub message: String,
    /// More about the error, for the client's program.
    pub data: Option<serde_json::Value>,
}

impl Error {
    /// The request is no valid one.
    pub const INVALID_REQUEST: i64 = -32600;
    /// There is no such method.
    pub const METHOD_NOT_FOUND: i64 = -32601;
    /// The parameters are not those of the method.
    pub const INVALID_PARAMS: i64 = -32602;

    /// Creates an error with a code of your own, such as one above 0.
    ///
    /// ```
    /// let error = jackfield_sdk::rpc::Error::new(1, "the auction is over");
    /// assert_eq!(error.code, 1);
    /// ```
    pub fn new(code: i64, message: impl Into<String>) -> Error {
        Error {
            code,
            message: message.into(),
            data: None,
        }
    }

    /// Adds data for the client's program.
    ///
    /// # Panics
    ///
    /// The data has no JSON, as for [`to_json`].
    ///
    /// ```
    /// use jackfield_sdk::{rpc::Error, to_json};
    ///
    /// let error = Error::new(1, "the room is full").with_data(&[8]);
    /// assert_eq!(to_json(&error), r#"{"code":1,"message":"the room is full","data":[8]}"#);
    /// ```
    pub fn with_data(self, data: &(impl Serialize + ?Sized)) -> Error {
        let data = serde_json::to_value(data).expect("the data has JSON");
        Error {
            data: Some(data),
            ..self
        }
    }

    /// Creates the error for a method that the plugin does not have.
    ///
    /// ```
    /// use jackfield_sdk::rpc::Error;
    ///
    /// assert_eq!(Error::method_not_found("fly").message, "there is no method \"fly\"");
    /// ```
    pub fn method_not_found(method: &str) -> Error {
        let message = format!("there is no method {method:?}");
        Error::new(Error::METHOD_NOT_FOUND, message)
    }
}

// By hand, so that a plugin that derives nothing compiles no derive macro.
impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = 2 + usize::from(self.data.is_some());
        let mut error = serializer.serialize_struct("Error", fields)?;
        error.serialize_field("code", &self.code)?;
        error.serialize_field("message", &self.message)?;
        if let Some(data) = &self.data {
            error.serialize_field("data", data)?;
        }
        error.end()
    }
}

impl From<JsonError> for Error {
    fn from(error: JsonError) -> Error {
        Error::new(Error::INVALID_PARAMS, error.message)
    }
}

impl Request {
    /// Returns the name of the method.
    ///
    /// See [`serve`] for an example.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Reads the parameters: a tuple or a `Vec` from an array, a struct or a map from an object.
    ///
    /// # Errors
    ///
    /// The parameters are missing, or are not such a `T`.
    ///
    /// See [`serve`] for an example.
    pub fn params<T: DeserializeOwned>(&self) -> Result<T, JsonError> {
        from_json(self.params.as_deref().map_or("null", RawValue::get))
    }
}

/// Answers a message that is a request of JSON-RPC 2.0, or several in an array, and returns whether it
/// was. `handle` returns the result as JSON. A request without an `id` is handled and has no answer.
///
/// ```
/// use jackfield_sdk::testing::Host;
/// use jackfield_sdk::{ClientId, Message, Plugin, rpc, to_json};
///
/// struct Calculator;
///
/// impl Plugin for Calculator {
///     fn on_message(_: ClientId, message: Message) {
///         let is_request = rpc::serve(&message, |request| match request.method() {
///             "add" => {
///                 let (a, b): (i64, i64) = request.params()?;
///                 Ok(to_json(&(a + b)))
///             }
///             other => Err(rpc::Error::method_not_found(other)),
///         });
///         if !is_request {
///             // Another message of this plugin.
///         }
///     }
/// }
///
/// let host = Host::of::<Calculator>();
/// let ada = host.connect("/")?;
/// ada.say(r#"{"jsonrpc":"2.0","id":7,"method":"add","params":[40,2]}"#);
/// assert_eq!(ada.received(), [r#"{"jsonrpc":"2.0","id":7,"result":42}"#.into()]);
/// # Ok::<(), jackfield_sdk::Refuse>(())
/// ```
pub fn serve(message: &Message, mut handle: impl FnMut(&Request) -> Result<String, Error>) -> bool {
    let Some(text) = message.as_text() else {
        return false;
    };
    let answer = match text.trim_start().as_bytes().first() {
        Some(b'{') => match answer_to(text, &mut handle) {
            Some(answer) => answer,
            None => return false,
        },
        Some(b'[') => {
            let Ok(requests) = serde_json::from_str::<Vec<Box<RawValue>>>(text) else {
                return false;
            };
            let answers: Option<Vec<_>> = requests
                .iter()
                .map(|request| answer_to(request.get(), &mut handle))
                .collect();
            let Some(answers) = answers.filter(|answers| !answers.is_empty()) else {
                return false;
            };
            let answers: Vec<_> = answers.into_iter().flatten().collect();
            (!answers.is_empty()).then(|| format!("[{}]", answers.join(",")))
        }
        _ => return false,
    };
    if let Some(answer) = answer {
        // Whoever has asked may have left.
        let _ = reply(answer);
    }
    true
}

/// Writes a notification: a message of JSON-RPC 2.0 that has no answer, for any function that sends.
///
/// ```
/// use jackfield_sdk::rpc;
///
/// assert_eq!(
///     rpc::notification("bid", &[7, 40]),
///     r#"{"jsonrpc":"2.0","method":"bid","params":[7,40]}"#
/// );
/// ```
///
/// # Panics
///
/// The parameters have no JSON, as for [`to_json`].
pub fn notification(method: &str, params: &(impl Serialize + ?Sized)) -> String {
    let (method, params) = (to_json(method), to_json(params));
    format!(r#"{{"jsonrpc":"2.0","method":{method},"params":{params}}}"#)
}

/// Returns the answer to a request, or nothing for a text that is no request of JSON-RPC. The inner
/// `None` stands for a request that has no answer.
fn answer_to(
    text: &str,
    handle: &mut impl FnMut(&Request) -> Result<String, Error>,
) -> Option<Option<String>> {
    let mut written: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).ok()?;
    let version = written.remove("jsonrpc")?;
    if version.get() != r#""2.0""# {
        return None;
    }
    // An answer of the client has no method, and is none to be answered.
    let method = written.remove("method")?;
    let id = written.remove("id").map(|id| id.get().to_owned());
    let outcome = match from_json::<String>(method.get()) {
        Ok(method) => handle(&Request {
            method,
            params: written.remove("params"),
        }),
        Err(_) => Err(Error::new(Error::INVALID_REQUEST, "the method is no text")),
    };
    let part = match outcome {
        Ok(result) => format!(r#""result":{result}"#),
        Err(error) => format!(r#""error":{}"#, to_json(&error)),
    };
    Some(id.map(|id| format!(r#"{{"jsonrpc":"2.0","id":{id},{part}}}"#)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Host;
    use crate::{ClientId, Plugin};

    struct Calculator;

    impl Plugin for Calculator {
        fn on_message(_: ClientId, message: Message) {
            let is_request = serve(&message, |request| match request.method() {
                "add" => {
                    let (a, b): (i64, i64) = request.params()?;
                    Ok(to_json(&(a + b)))
                }
                "fail" => Err(Error::new(7, "no \"luck\"")),
                other => Err(Error::method_not_found(other)),
            });
            if !is_request {
                let _ = reply("something else");
            }
        }
    }

    fn answer(text: &str) -> Vec<String> {
        let host = Host::of::<Calculator>();
        let ada = host.connect("/").expect("she comes in");
        ada.say(text);
        let received = ada.received().into_iter();
        received
            .map(|message| message.as_text().unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn each_request_has_its_answer() {
        for (asked, answered) in [
            (
                r#"{"jsonrpc":"2.0","id":"a","method":"add","params":[1,2]}"#,
                r#"{"jsonrpc":"2.0","id":"a","result":3}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","id":null,"method":"fail"}"#,
                r#"{"jsonrpc":"2.0","id":null,"error":{"code":7,"message":"no \"luck\""}}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"fly"}"#,
                r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"there is no method \"fly\""}}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
                r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32600,"message":"the method is no text"}}"#,
            ),
            (
                r#"[{"jsonrpc":"2.0","id":1,"method":"add","params":[1,1]},{"jsonrpc":"2.0","method":"add","params":[1,1]}]"#,
                r#"[{"jsonrpc":"2.0","id":1,"result":2}]"#,
            ),
        ] {
            assert_eq!(answer(asked), [answered], "{asked}");
        }
        let wrong = answer(r#"{"jsonrpc":"2.0","id":1,"method":"add","params":{"a":1}}"#);
        assert!(wrong[0].contains(r#""code":-32602"#), "{wrong:?}");
    }

    #[test]
    fn what_has_no_answer_is_no_other_message_either() {
        for silent in [
            r#"{"jsonrpc":"2.0","method":"add","params":[1,2]}"#,
            r#"[{"jsonrpc":"2.0","method":"fly"}]"#,
        ] {
            assert!(answer(silent).is_empty(), "{silent}");
        }
        for other in [
            "hello",
            "{}",
            "[]",
            r#"{"jsonrpc":"1.0","id":1,"method":"add"}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":3}"#,
            r#"[1]"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"add""#,
        ] {
            assert_eq!(answer(other), ["something else"], "{other}");
        }
    }
}
