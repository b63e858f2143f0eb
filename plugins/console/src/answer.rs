//! What goes out: answers to requests, and events.
//!
//! Structs and not `serde_json::json!`, whose objects are sorted by key: an answer reads best
//! with its id first.

use std::fmt;

use jackfield_sdk::{
    CallError, ClientId, Closer, Count, Departure, Error, Handshake, Identity, Info, Page, Reach,
};
use serde::Serialize;
use serde_json::Value;

use crate::request::Request;

/// `{"id":7,"ok":…}` or `{"id":7,"error":{…}}`.
#[derive(Serialize)]
pub(crate) struct Answer {
    id: Value,
    #[serde(flatten)]
    result: Verdict,
}

impl Answer {
    pub(crate) fn new(id: Value, result: Result<Outcome, Failure>) -> Answer {
        Answer {
            id,
            result: result.into(),
        }
    }

    /// Carries out the request, if it is one.
    pub(crate) fn to(request: Result<Request, Error>, caller: &ClientId) -> Answer {
        match request {
            Ok(request) => Answer::new(request.id.clone(), request.run(caller)),
            Err(error) => Answer::new(Value::Null, Err(error.into())),
        }
    }

    pub(crate) fn to_json(&self) -> String {
        json(self)
    }
}

/// What a function of the contract may answer, as JSON has it: records are objects, an
/// option that is none and "nothing" are null.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Outcome {
    Nothing(()),
    Flag(bool),
    Uid(Option<String>),
    Text(String),
    Info(Info),
    Reach {
        clients: u64,
        dropped: u64,
        missing: Vec<String>,
    },
    Count {
        value: u64,
        missing: Vec<String>,
    },
    Page {
        items: Vec<String>,
        next: Option<String>,
        missing: Vec<String>,
    },
    Identity {
        plugin: String,
        generation: u64,
        node: String,
    },
}

/// What happens without being asked for.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Event<'a> {
    Connected {
        client: &'a str,
        generation: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        handshake: Option<HandshakeShown<'a>>,
    },
    Closed {
        client: &'a str,
        code: u16,
        reason: &'a str,
        by: &'static str,
        uid: Option<&'a str>,
        groups: &'a [String],
        info: &'a Info,
    },
    OnCloseLeave(Verdict),
    OnClose(Answer),
    Timer {
        name: &'a str,
        generation: u64,
        node: &'a str,
    },
    OnTimer {
        name: &'a str,
        #[serde(flatten)]
        answer: Answer,
    },
}

impl<'a> Event<'a> {
    pub(crate) fn connected(
        client: &'a ClientId,
        generation: u64,
        handshake: Option<&'a Handshake>,
    ) -> Event<'a> {
        let handshake = handshake.map(HandshakeShown::from);
        Event::Connected {
            client: client.as_str(),
            generation,
            handshake,
        }
    }

    pub(crate) fn closed(client: &'a ClientId, departure: &'a Departure) -> Event<'a> {
        Event::Closed {
            client: client.as_str(),
            code: departure.code,
            reason: &departure.reason,
            by: match departure.by {
                Closer::Client => "client",
                Closer::Plugin => "plugin",
                Closer::Node => "node",
                Closer::Network => "network",
            },
            uid: departure.uid.as_deref(),
            groups: &departure.groups,
            info: &departure.info,
        }
    }

    pub(crate) fn on_close_leave(left: Result<(), Error>) -> Event<'a> {
        Event::OnCloseLeave(left.map(Outcome::from).map_err(Failure::from).into())
    }

    pub(crate) fn to_json(&self) -> String {
        json(self)
    }
}

#[derive(Serialize)]
pub(crate) struct HandshakeShown<'a> {
    path: &'a str,
    query: &'a [(String, String)],
    headers: &'a [(String, String)],
    remote_address: &'a str,
    subprotocols: &'a [String],
    uid: Option<&'a str>,
}

impl<'a> From<&'a Handshake> for HandshakeShown<'a> {
    fn from(handshake: &'a Handshake) -> HandshakeShown<'a> {
        HandshakeShown {
            path: &handshake.path,
            query: &handshake.query,
            headers: &handshake.headers,
            remote_address: &handshake.remote_address,
            subprotocols: &handshake.subprotocols,
            uid: handshake.uid.as_deref(),
        }
    }
}

/// A result, as its one key says: `ok` or `error`.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Ok(Outcome),
    Error(Failure),
}

/// An error of the node, or of a plugin that was called.
#[derive(Serialize)]
pub(crate) struct Failure {
    code: &'static str,
    message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl From<Error> for Failure {
    fn from(Error { code, message }: Error) -> Failure {
        let code = code.as_str();
        Failure { code, message }
    }
}

impl From<CallError> for Failure {
    fn from(CallError { code, message }: CallError) -> Failure {
        let code = code.as_str();
        Failure { code, message }
    }
}

impl From<Result<Outcome, Failure>> for Verdict {
    fn from(result: Result<Outcome, Failure>) -> Verdict {
        match result {
            Ok(outcome) => Verdict::Ok(outcome),
            Err(failure) => Verdict::Error(failure),
        }
    }
}

impl From<()> for Outcome {
    fn from((): ()) -> Outcome {
        Outcome::Nothing(())
    }
}

impl From<bool> for Outcome {
    fn from(flag: bool) -> Outcome {
        Outcome::Flag(flag)
    }
}

impl From<Option<String>> for Outcome {
    fn from(uid: Option<String>) -> Outcome {
        Outcome::Uid(uid)
    }
}

impl From<Info> for Outcome {
    fn from(info: Info) -> Outcome {
        Outcome::Info(info)
    }
}

impl From<Reach> for Outcome {
    fn from(
        Reach {
            clients,
            dropped,
            missing,
        }: Reach,
    ) -> Outcome {
        Outcome::Reach {
            clients,
            dropped,
            missing,
        }
    }
}

impl From<Count> for Outcome {
    fn from(Count { value, missing }: Count) -> Outcome {
        Outcome::Count { value, missing }
    }
}

impl From<Page<String>> for Outcome {
    fn from(
        Page {
            items,
            next,
            missing,
        }: Page<String>,
    ) -> Outcome {
        Outcome::Page {
            items,
            next,
            missing,
        }
    }
}

impl From<Page<ClientId>> for Outcome {
    fn from(
        Page {
            items,
            next,
            missing,
        }: Page<ClientId>,
    ) -> Outcome {
        let items = items.into_iter().map(|client| client.to_string()).collect();
        Outcome::Page {
            items,
            next,
            missing,
        }
    }
}

impl From<Identity> for Outcome {
    fn from(
        Identity {
            plugin,
            generation,
            node,
        }: Identity,
    ) -> Outcome {
        Outcome::Identity {
            plugin,
            generation,
            node,
        }
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings, numbers and string maps are all JSON")
}
