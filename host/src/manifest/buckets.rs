//! The buckets that a manifest grants.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::invalid_value::InvalidValue;

/// The longest name of a bucket, in bytes.
const NAME_BYTES: usize = 64;

/// The most buckets of one plugin.
const BUCKETS: usize = 64;

/// The section `[keyvalue]`, as it is written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WrittenBuckets {
    buckets: Vec<String>,
}

/// The names of a plugin's buckets.
#[derive(Debug, Default)]
pub(crate) struct Buckets(BTreeSet<String>);

impl Buckets {
    /// Reads the names of the buckets.
    ///
    /// # Errors
    ///
    /// There are too many names, or a name is not permitted.
    pub(crate) fn parse(written: WrittenBuckets) -> Result<Buckets, InvalidValue> {
        let wrong = |why: String| InvalidValue::new("keyvalue.buckets", why);
        if written.buckets.len() > BUCKETS {
            return Err(wrong(format!("has more than {BUCKETS} names")));
        }
        // The name is part of a server's key, where `:` is between the parts.
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let is_wrong =
            |name: &&String| !(1..=NAME_BYTES).contains(&name.len()) || !name.bytes().all(fits);
        if let Some(name) = written.buckets.iter().find(is_wrong) {
            return Err(wrong(format!(
                "{name:?} is no bucket's name: 1 to {NAME_BYTES} of a-z, A-Z, 0-9, -, _ and ."
            )));
        }
        Ok(Buckets(written.buckets.into_iter().collect()))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}
