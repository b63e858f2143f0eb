//! The functions of the contract that the host calls in a guest.

/// A function that a guest exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum GuestFunction {
    Start,
    Stop,
    Connect,
    Message,
    Close,
    Call,
    Timer,
}

impl GuestFunction {
    /// All functions, in the order of their numbers.
    pub(crate) const ALL: [GuestFunction; 7] = [
        GuestFunction::Start,
        GuestFunction::Stop,
        GuestFunction::Connect,
        GuestFunction::Message,
        GuestFunction::Close,
        GuestFunction::Call,
        GuestFunction::Timer,
    ];

    /// The name of the function in the contract.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            GuestFunction::Start => "on-start",
            GuestFunction::Stop => "on-stop",
            GuestFunction::Connect => "on-connect",
            GuestFunction::Message => "on-message",
            GuestFunction::Close => "on-close",
            GuestFunction::Call => "on-call",
            GuestFunction::Timer => "on-timer",
        }
    }
}
