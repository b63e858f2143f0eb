//! A node's counters, as its log line `counters` has them.

use anyhow::Context as _;
use serde_json::Value;

use crate::LogLine;

/// What a node has counted.
#[derive(Clone, Debug)]
pub struct Counters(Value);

impl Counters {
    pub(crate) fn is_in(line: &LogLine) -> bool {
        line.message() == "counters"
    }

    pub(crate) fn from_line(line: &LogLine) -> Counters {
        Counters(serde_json::from_str(line.text("values")).unwrap_or_default())
    }

    /// Those of another node, too.
    pub(crate) fn add(&mut self, other: &Counters) {
        for (name, value) in other.all() {
            let sum = self.0[name].as_u64().unwrap_or_default() + value;
            self.0[name] = sum.into();
        }
    }

    /// One of them, by its name in `host/src/counters.rs`.
    pub fn get(&self, name: &str) -> anyhow::Result<u64> {
        self.0[name]
            .as_u64()
            .with_context(|| format!("no counter `{name}` in {}", self.0))
    }

    /// All of them, by name.
    pub fn all(&self) -> impl Iterator<Item = (&str, u64)> {
        let fields = self.0.as_object().into_iter().flatten();
        fields.filter_map(|(name, value)| Some((name.as_str(), value.as_u64()?)))
    }
}
