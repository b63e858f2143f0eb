//! silky's example of a WebSocket service: sessions of a business id, and a method that
//! pushes to them.
//!
//! The node binds the business id as the session's uid, because `wstest.toml` requires one;
//! so there is no table of sessions to keep here.

use jackfield_sdk::{
    CallError, CallErrorCode, CallHandler, Caller, ClientId, Error, ErrorCode, Message, Plugin,
    all_pages, from_json, get_client_ids_by_uid, is_uid_online, send_to_client,
};
use serde::Deserialize;

/// The plugin.
pub struct WsTest;

impl Plugin for WsTest {
    fn on_message(client: ClientId, message: Message) {
        if let Some(text) = message.as_text() {
            push(&client, text);
        }
    }
}

impl CallHandler for WsTest {
    fn on_call(_: Caller, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError> {
        match method {
            "Echo" => echo(&from_json(payload)?).map(|()| Vec::new()),
            _ => Err(CallError::unknown_method(method)),
        }
    }
}

jackfield_sdk::export!(WsTest, call_handler);

/// What `Echo` takes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Echo {
    business_id: String,
    msg: String,
}

fn echo(Echo { business_id, msg }: &Echo) -> Result<(), CallError> {
    if !is_uid_online(business_id).map_err(refused)? {
        return Err(CallError::new(
            CallErrorCode::NotFound,
            format!("there is no session with the businessId {business_id}"),
        ));
    }
    let sessions = all_pages(|cursor| get_client_ids_by_uid(business_id, cursor, 1000));
    for session in sessions.map_err(refused)? {
        push(&session, msg);
    }
    Ok(())
}

/// Not getting through to one session keeps no other from its message: who has left needs
/// none, and a full outbox is the node's to handle, by the plugin's policy.
fn push(session: &ClientId, msg: &str) {
    let _ = send_to_client(session, format!("message:{msg},sessionId:{session}"));
}

fn refused(error: Error) -> CallError {
    let code = match error.code {
        ErrorCode::InvalidArgument => CallErrorCode::InvalidArgument,
        _ => CallErrorCode::Failed,
    };
    CallError::new(code, error.message)
}
