//! The subprotocol `jackfield.v1` (docs/protocol.md): what a client offers, and the control messages
//! of both sides.

use hyper::header::HeaderValue;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use crate::id::ClientId;
use crate::message::{Frame, MESSAGE_TAG, Message};

/// The name of the subprotocol.
pub(super) const NAME: &str = "jackfield.v1";

/// The beginning of the offer of a client that comes back.
const RESUME: &str = "jackfield.resume.";

/// The longest control message, in bytes.
const CONTROL_BYTES: usize = 1024;

/// The secret with which a client comes back.
#[derive(Clone, Copy)]
pub(super) struct ResumeSecret([u8; ResumeSecret::BYTES]);

/// The offer of a client that speaks `jackfield.v1`.
#[derive(Debug)]
pub(super) struct Offer {
    /// The client that it wants to go on being, if it was connected before.
    pub(super) resume: Option<ResumeOffer>,
}

/// What a client says that comes back.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResumeOffer {
    pub(super) client: ClientId,
    pub(super) secret: ResumeSecret,
    /// The number of messages that the client has received.
    pub(super) received: u64,
}

/// What a text of a client is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ClientText<'a> {
    /// A message for the plugin.
    Message(&'a str),
    /// The client has received the messages up to this number.
    Ack(u64),
    /// The client asks for a sign of life.
    Ping,
    /// A control message of a later version.
    Unknown,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum ClientControl {
    Ack {
        received: u64,
    },
    Ping,
    #[serde(other)]
    Unknown,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum NodeControl<'a> {
    Welcome(&'a Welcome),
    Ack { received: u64 },
    Pong,
}

/// The first control message of a connection.
#[derive(Debug, Serialize)]
pub(super) struct Welcome {
    pub(super) client: String,
    pub(super) resumed: bool,
    pub(super) received: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subprotocol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) resume: Option<WelcomeResume>,
}

/// How the client may come back.
#[derive(Clone, Debug, Serialize)]
pub(super) struct WelcomeResume {
    token: String,
    window_ms: u64,
}

impl ResumeSecret {
    const BYTES: usize = 16;

    /// Draws a secret from the system's randomness.
    pub(super) fn draw() -> Option<ResumeSecret> {
        let mut bytes = [0; ResumeSecret::BYTES];
        getrandom::fill(&mut bytes).ok()?;
        Some(ResumeSecret(bytes))
    }

    /// The secret from the bytes that another node has sent.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<ResumeSecret> {
        Some(ResumeSecret(bytes.try_into().ok()?))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether both are the same, in a time that does not tell how much of them is.
    pub(super) fn is(&self, other: &ResumeSecret) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

// A secret does not get into a log.
impl std::fmt::Debug for ResumeSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResumeSecret")
    }
}

impl Offer {
    /// Takes what concerns the node itself from the subprotocols that a client offers. Nothing is
    /// returned for a client that does not speak `jackfield.v1`.
    pub(super) fn take(offered: &mut Vec<String>) -> Option<Offer> {
        let mut resume = None;
        let mut speaks = false;
        offered.retain(|name| {
            if let Some(token) = name.strip_prefix(RESUME) {
                resume = resume.or(ResumeOffer::parse(token));
                return false;
            }
            speaks |= name == NAME;
            name != NAME
        });
        speaks.then_some(Offer { resume })
    }
}

impl ResumeOffer {
    fn parse(token: &str) -> Option<ResumeOffer> {
        let mut parts = token.split('.');
        let offer = ResumeOffer {
            client: parts.next()?.parse().ok()?,
            secret: {
                let hex = parts.next()?.as_bytes();
                ResumeSecret::from_bytes(&data_encoding::HEXLOWER.decode(hex).ok()?)?
            },
            received: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(offer)
    }
}

impl WelcomeResume {
    pub(super) fn new(
        client: ClientId,
        secret: &ResumeSecret,
        window: std::time::Duration,
    ) -> Self {
        let secret = data_encoding::HEXLOWER.encode(secret.as_bytes());
        WelcomeResume {
            token: format!("{client}.{secret}"),
            window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// Whether a line of the header `Sec-WebSocket-Protocol` has anything that concerns the node itself.
pub(super) fn concerns_node(line: &HeaderValue) -> bool {
    let mut names = line.as_bytes().split(|byte| *byte == b',');
    names.any(|name| name.trim_ascii_start().starts_with(b"jackfield."))
}

/// Reads a text of a client.
///
/// # Errors
///
/// The text is neither a message nor a control message.
pub(super) fn read(text: &str) -> Result<ClientText<'_>, &'static str> {
    match text.as_bytes().first() {
        Some(&MESSAGE_TAG) => Ok(ClientText::Message(&text[1..])),
        Some(b'{') if text.len() > CONTROL_BYTES => {
            Err("a control message of jackfield.v1 may have 1024 bytes")
        }
        Some(b'{') => match serde_json::from_str(text) {
            Ok(ClientControl::Ack { received }) => Ok(ClientText::Ack(received)),
            Ok(ClientControl::Ping) => Ok(ClientText::Ping),
            Ok(ClientControl::Unknown) => Ok(ClientText::Unknown),
            Err(_) => Err("a control message of jackfield.v1 is one JSON object with a type"),
        },
        _ => Err("a text of jackfield.v1 begins with m or {"),
    }
}

/// The first frame of a connection.
pub(super) fn welcome(welcome: &Welcome) -> Frame {
    control(&NodeControl::Welcome(welcome))
}

/// Tells the client that the plugin has handled its messages up to this number.
pub(super) fn ack(received: u64) -> Frame {
    control(&NodeControl::Ack { received })
}

/// Answers a ping of the client.
pub(super) fn pong() -> Frame {
    control(&NodeControl::Pong)
}

fn control(message: &NodeControl<'_>) -> Frame {
    // Neither has a map whose keys are no texts.
    let json = serde_json::to_string(message).unwrap_or_default();
    Frame::message(Message::Text(&json))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::fuzz;

    fn offered(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    const CLIENT: &str = "0e1480x2np29400000001bh4ve";
    const SECRET: &str = "00112233445566778899aabbccddeeff";

    #[test]
    fn what_is_the_nodes_own_is_taken_from_the_offer() {
        let token = format!("jackfield.resume.{CLIENT}.{SECRET}.17");
        let mut names = offered(&["chat.v2", NAME, &token, "chat.v1"]);
        let offer = Offer::take(&mut names).expect("it speaks it");
        assert_eq!(names, ["chat.v2", "chat.v1"]);
        let resume = offer.resume.expect("a client that comes back");
        assert_eq!(resume.client.to_string(), CLIENT);
        assert_eq!(resume.received, 17);
        assert!(resume.secret.is(&resume.secret));

        // The secret is nothing for a plugin, even where the client does not speak it.
        let mut names = offered(&["chat.v2", &token]);
        assert!(Offer::take(&mut names).is_none());
        assert_eq!(names, ["chat.v2"]);
    }

    #[test]
    fn a_token_that_no_node_gave_out_is_none() {
        for token in [
            String::new(),
            format!("{CLIENT}.{SECRET}"),
            format!("{CLIENT}.{SECRET}.-1"),
            format!("{CLIENT}.{SECRET}.1.1"),
            format!("{CLIENT}.{}.1", &SECRET[2..]),
            format!("nobody.{SECRET}.1"),
        ] {
            let mut names = offered(&[NAME, &format!("jackfield.resume.{token}")]);
            let offer = Offer::take(&mut names).expect("it speaks it");
            assert!(offer.resume.is_none(), "{token}");
            assert!(names.is_empty());
        }
    }

    #[test]
    fn a_text_is_a_message_or_a_control_message() {
        assert_eq!(read("mhello"), Ok(ClientText::Message("hello")));
        assert_eq!(read("m"), Ok(ClientText::Message("")));
        assert_eq!(read("m{}"), Ok(ClientText::Message("{}")));
        assert_eq!(
            read(r#"{"type":"ack","received":3,"more":1}"#),
            Ok(ClientText::Ack(3))
        );
        assert_eq!(read(r#"{"type":"ping"}"#), Ok(ClientText::Ping));
        assert_eq!(read(r#"{"type":"later","a":[1]}"#), Ok(ClientText::Unknown));
        let longest = |bytes: usize| {
            let rest = "x".repeat(bytes - r#"{"type":"later","a":""}"#.len());
            format!(r#"{{"type":"later","a":"{rest}"}}"#)
        };
        assert_eq!(read(&longest(CONTROL_BYTES)), Ok(ClientText::Unknown));
        assert!(read(&longest(CONTROL_BYTES + 1)).is_err());
        for wrong in [
            "",
            "hello",
            "{",
            "{}",
            r#"{"type":"ack"}"#,
            r#"{"type":"ack","received":-1}"#,
            "é",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_text_breaks_the_reader() {
        fuzz("control-messages", 20_000, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            if let Ok(ClientText::Message(message)) = read(&text) {
                assert_eq!(format!("m{message}"), text);
            }
        });
    }

    #[test]
    fn the_control_messages_of_the_node_are_as_documented() {
        let text = |frame: Frame| String::from_utf8(frame.payload().to_vec()).expect("a text");
        assert_eq!(text(ack(12)), r#"{"type":"ack","received":12}"#);
        assert_eq!(text(pong()), r#"{"type":"pong"}"#);
        let mut names = offered(&[NAME, &format!("jackfield.resume.{CLIENT}.{SECRET}.0")]);
        let offer = Offer::take(&mut names).and_then(|offer| offer.resume);
        let offer = offer.expect("a client");
        let window = std::time::Duration::from_secs(30);
        let resume = WelcomeResume::new(offer.client, &offer.secret, window);
        let first = Welcome {
            client: CLIENT.to_owned(),
            resumed: false,
            received: 0,
            subprotocol: None,
            resume: Some(resume),
        };
        assert_eq!(
            text(welcome(&first)),
            format!(
                r#"{{"type":"welcome","client":"{CLIENT}","resumed":false,"received":0,"resume":{{"token":"{CLIENT}.{SECRET}","window_ms":30000}}}}"#
            )
        );
    }
}
