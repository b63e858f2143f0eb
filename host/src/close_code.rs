//! The codes of close frames, by their names.

/// The code of a close frame, as RFC 6455, section 7.4, and the registry of IANA name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// 1000: the connection has done what it was opened for.
    Normal,
    /// 1001: the endpoint goes away, as a server that ends or a page that is left.
    GoingAway,
    /// 1002: the other side has broken the protocol.
    ProtocolError,
    /// 1005: the close frame has no code. This code is never sent.
    NoStatus,
    /// 1006: the connection broke, without a close frame. This code is never sent.
    Abnormal,
    /// 1007: a text message is not UTF-8.
    InvalidPayload,
    /// 1008: the other side has broken a rule of the node.
    PolicyViolation,
    /// 1009: a message is too large.
    MessageTooBig,
    /// 1011: the server has failed.
    InternalError,
    /// 1012: the server restarts.
    ServiceRestart,
    /// 1013: the server is too busy; the client may try again later.
    TryAgainLater,
    /// 4001: another client has taken over the uid. Codes from 4000 on are private, so a client
    /// library does not connect again at once.
    UidTakenOver,
    /// 4002: the client's token has expired.
    TokenExpired,
    /// 4900: a client that speaks `jackfield.v1` closes its connection and comes back.
    ComesBack,
    /// Another code, by its number.
    Other(u16),
}

/// The codes that have names, with their numbers.
const NAMED: [(u16, CloseCode); 14] = [
    (1000, CloseCode::Normal),
    (1001, CloseCode::GoingAway),
    (1002, CloseCode::ProtocolError),
    (1005, CloseCode::NoStatus),
    (1006, CloseCode::Abnormal),
    (1007, CloseCode::InvalidPayload),
    (1008, CloseCode::PolicyViolation),
    (1009, CloseCode::MessageTooBig),
    (1011, CloseCode::InternalError),
    (1012, CloseCode::ServiceRestart),
    (1013, CloseCode::TryAgainLater),
    (4001, CloseCode::UidTakenOver),
    (4002, CloseCode::TokenExpired),
    (4900, CloseCode::ComesBack),
];

impl CloseCode {
    /// The code with which a handshake is refused by a close frame: 4000 plus the HTTP status.
    pub fn refusal(status: u16) -> CloseCode {
        CloseCode::from(4000 + status)
    }

    /// Whether RFC 6455, section 7.4, lets an endpoint send this code in a close frame.
    pub fn may_be_sent(self) -> bool {
        matches!(u16::from(self), 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl From<u16> for CloseCode {
    fn from(number: u16) -> CloseCode {
        let named = NAMED.iter().find(|(named, _)| *named == number);
        named.map_or(CloseCode::Other(number), |(_, code)| *code)
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> u16 {
        match code {
            CloseCode::Other(number) => number,
            code => {
                let named = NAMED.iter().find(|(_, named)| *named == code);
                named.map_or(0, |(number, _)| *number)
            }
        }
    }
}

impl From<CloseCode> for u32 {
    fn from(code: CloseCode) -> u32 {
        u16::from(code).into()
    }
}

impl std::fmt::Display for CloseCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        u16::from(*self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_one_code_and_comes_back() {
        for number in 0..=u16::MAX {
            let code = CloseCode::from(number);
            assert_eq!(u16::from(code), number);
            let is_named = NAMED.iter().any(|(named, _)| *named == number);
            assert_eq!(matches!(code, CloseCode::Other(_)), !is_named);
        }
    }

    #[test]
    fn what_may_be_sent_is_what_the_standard_says() {
        for (number, may) in [
            (999, false),
            (1000, true),
            (1003, true),
            (1004, false),
            (1005, false),
            (1006, false),
            (1007, true),
            (1014, true),
            (1015, false),
            (2999, false),
            (3000, true),
            (4999, true),
            (5000, false),
        ] {
            assert_eq!(CloseCode::from(number).may_be_sent(), may, "{number}");
        }
    }
}
