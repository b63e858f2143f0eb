//! A key of a configuration or a manifest whose value cannot be used.

/// A value that cannot be used, with its key and what to do about it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct InvalidValue {
    /// The key, dotted: `jwt.leeway`.
    pub key: &'static str,
    /// What is wrong with the value, and what to write instead.
    pub why: String,
}

impl InvalidValue {
    /// The value of `key` cannot be used, for the reason `why`.
    pub fn new(key: &'static str, why: impl Into<String>) -> InvalidValue {
        let why = why.into();
        InvalidValue { key, why }
    }
}
