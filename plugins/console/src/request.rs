//! A request: what to do, with which arguments, and the id that its answer carries.

use jackfield_sdk::{ClientId, Error, ErrorCode, Message};
use serde_json::{Map, Value};

use crate::answer::{Failure, Outcome};
use crate::operations::{self, Call};

/// A JSON object, taken apart; its arguments are decoded by the operation that takes them.
pub(crate) struct Request {
    /// Any JSON value; null where the request has none.
    pub(crate) id: Value,
    operation: Value,
    arguments: Map<String, Value>,
}

impl Request {
    pub(crate) fn from_message(message: &Message) -> Result<Request, Error> {
        match message {
            Message::Text(text) => Request::parse(text),
            Message::Binary(_) => Err(invalid(format!("{EXPECTED}; this was a binary message"))),
        }
    }

    /// A whole request, or for short the name of one that needs no arguments: `panic`.
    pub(crate) fn named_or_whole(text: &str) -> Result<Request, Error> {
        if text.starts_with('{') {
            return Request::parse(text);
        }
        let operation = Value::from(text);
        Ok(Request {
            id: Value::Null,
            operation,
            arguments: Map::new(),
        })
    }

    pub(crate) fn from_object(mut object: Map<String, Value>) -> Request {
        Request {
            id: object.remove("id").unwrap_or_default(),
            operation: object.remove("do").unwrap_or_default(),
            arguments: object,
        }
    }

    fn parse(text: &str) -> Result<Request, Error> {
        serde_json::from_str(text)
            .map(Request::from_object)
            .map_err(|error| invalid(format!("{EXPECTED}: {error}")))
    }

    /// `caller` is who is meant where no client is named.
    pub(crate) fn run(self, caller: &ClientId) -> Result<Outcome, Failure> {
        let name = self.operation.as_str().ok_or_else(|| invalid(EXPECTED))?;
        let operation = operations::find(name)?;
        let arguments = Value::Object(self.arguments);
        (operation.run)(Call {
            caller,
            operation,
            arguments,
        })
    }
}

pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error {
        code: ErrorCode::InvalidArgument,
        message: message.into(),
    }
}

const EXPECTED: &str =
    r#"a request is a text message with a JSON object, {"id":7,"do":"join-group","group":"g"}"#;
