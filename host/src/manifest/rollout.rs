//! The section `[rollout]`: the build is for a part of the clients at first.

use std::time::Duration;

use serde::Deserialize;

use crate::invalid_value::InvalidValue;
use crate::rollout::{Rollout, WrittenRollout};

/// The section `[rollout]`, as it is written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RolloutSection {
    percent: f64,
    uids: Vec<String>,
    #[serde(with = "humantime_serde")]
    promote_after: Option<Duration>,
    max_p99_ratio: Option<f64>,
}

impl RolloutSection {
    /// Checks what is written.
    ///
    /// # Errors
    ///
    /// The build is for nobody, or a value is not permitted.
    pub(crate) fn check(self) -> Result<Rollout, InvalidValue> {
        Rollout::check(WrittenRollout {
            percent: self.percent,
            uids: self.uids,
            promote_after: self.promote_after,
            max_p99_ratio: self.max_p99_ratio,
        })
    }
}

/// Returns the rollout of a manifest, if it has a good one. What is wrong with a manifest is said where
/// it is loaded.
pub(crate) fn rollout(text: &str) -> Option<Rollout> {
    #[derive(Deserialize)]
    struct OnlyRollout {
        rollout: Option<RolloutSection>,
    }
    let manifest: OnlyRollout = toml::from_str(text).ok()?;
    manifest.rollout?.check().ok()
}
