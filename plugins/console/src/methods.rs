//! What the plugin answers when it is called, by backends and other plugins.

use jackfield_sdk::{CallError, CallErrorCode, Caller, ClientId};

use crate::answer::Answer;
use crate::request::Request;

pub(crate) fn answer(
    caller: &Caller,
    method: &str,
    payload: Vec<u8>,
) -> Result<Vec<u8>, CallError> {
    match method {
        "echo" => Ok(payload),
        "caller" => Ok(match caller {
            Caller::Api(token) => format!("api {token}").into(),
            Caller::Plugin(name) => format!("plugin {name}").into(),
        }),
        "do" => {
            let request = Request::named_or_whole(text(&payload)?);
            // A call is no client's: a request that means one has to name it.
            let nobody = ClientId::from("");
            Ok(Answer::to(request, &nobody).to_json().into())
        }
        "bytes" => match text(&payload)?.parse() {
            Ok(bytes) => Ok(vec![b'.'; bytes]),
            Err(error) => Err(invalid(format!("`bytes` takes a number: {error}"))),
        },
        "fail" => Err(match code(text(&payload)?) {
            Some(code) => CallError::new(code, "asked to fail"),
            None => invalid("`fail` takes the code of an error"),
        }),
        _ => Err(CallError::unknown_method(method)),
    }
}

fn text(payload: &[u8]) -> Result<&str, CallError> {
    std::str::from_utf8(payload)
        .map_err(|error| invalid(format!("the payload is no text: {error}")))
}

fn code(name: &str) -> Option<CallErrorCode> {
    let codes = [
        CallErrorCode::UnknownMethod,
        CallErrorCode::InvalidArgument,
        CallErrorCode::NotFound,
        CallErrorCode::Denied,
        CallErrorCode::LimitExceeded,
        CallErrorCode::Overloaded,
        CallErrorCode::Unavailable,
        CallErrorCode::Failed,
    ];
    codes.into_iter().find(|code| code.as_str() == name)
}

fn invalid(message: impl Into<String>) -> CallError {
    CallError::new(CallErrorCode::InvalidArgument, message)
}
