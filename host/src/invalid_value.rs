//! The error for a key of a configuration or a manifest whose value cannot be used.

/// A value that cannot be used, with its key and with advice.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct InvalidValue {
    /// The key with its section, joined by a dot: `jwt.leeway`.
    pub key: &'static str,
    /// The mistake in the value, and what to write instead.
    pub why: String,
}

impl InvalidValue {
    /// Creates the error that the value of `key` cannot be used, for the reason `why`.
    pub fn new(key: &'static str, why: impl Into<String>) -> InvalidValue {
        let why = why.into();
        InvalidValue { key, why }
    }
}
