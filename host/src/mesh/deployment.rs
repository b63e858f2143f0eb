//! Deployments: the builds that the nodes of the cluster are to run, and the steps of a deployment
//! that one node asks of another.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::queue::Queue;
use super::wire::answer::Answer;
use crate::id::Incarnation;
use crate::limits::{COMPONENT_BYTES, DEPLOYMENTS, MANIFEST_BYTES, NAME_BYTES_MAX};
use crate::manifest::fits_a_path;

pub use super::wire::deployment_state::Phase;
pub use super::wire::deployment_step::Step;
pub use super::wire::{
    BuildPart, BuildState, CanaryState, Deployment, DeploymentState, Prepare, ReadBuild, rollout,
    told_build, told_rollout,
};

/// The most steps of peers that wait for the code that handles them.
const WAITING: usize = 256;

/// The last deployment of each plugin, of at most `DEPLOYMENTS` plugins.
#[derive(Debug, Default)]
pub struct LastDeployments(BTreeMap<String, Deployment>);

/// What this node knows of deployments.
pub(super) struct KnownDeployments {
    pub(super) known: Mutex<LastDeployments>,
    /// Wakes the code that runs what was deployed.
    pub(super) heard: Notify,
    pub(super) steps: Queue<PeerStep>,
}

/// A step of a deployment that a peer asks for.
pub struct PeerStep {
    /// The node that asks.
    pub node: Incarnation,
    /// What it asks for.
    pub step: Step,
    pub(super) reply: Box<dyn FnOnce(Answer) + Send>,
}

impl PeerStep {
    /// Answers how far this node is.
    pub fn answer(self, state: DeploymentState) {
        (self.reply)(Answer::Deployment(state));
    }

    /// Answers with a part of a build.
    pub fn answer_part(self, bytes: Bytes) {
        (self.reply)(Answer::BuildPart(BuildPart { bytes }));
    }
}

impl Default for KnownDeployments {
    fn default() -> KnownDeployments {
        KnownDeployments {
            known: Mutex::default(),
            heard: Notify::new(),
            steps: Queue::new(WAITING),
        }
    }
}

impl LastDeployments {
    /// Returns the last deployment of a plugin.
    pub fn get(&self, plugin: &str) -> Option<&Deployment> {
        self.0.get(plugin)
    }

    /// Returns the last deployments of all plugins.
    pub fn all(&self) -> Vec<Deployment> {
        self.0.values().cloned().collect()
    }

    /// Returns whether a deployment counts more than the last one of its plugin.
    pub fn is_newer(&self, deployment: &Deployment) -> bool {
        match self.get(&deployment.plugin) {
            Some(last) => deployment.rank() > last.rank(),
            None => self.0.len() < DEPLOYMENTS,
        }
    }

    /// Notes a deployment. Returns whether it counts more than the last one of its plugin.
    pub fn note(&mut self, deployment: &Deployment) -> bool {
        let is_newer = self.is_newer(deployment);
        if is_newer {
            let plugin = deployment.plugin.clone();
            self.0.insert(plugin, deployment.clone());
        }
        is_newer
    }
}

impl Deployment {
    /// Whether there is nothing to run: the plugins folder counts.
    pub fn is_withdrawn(&self) -> bool {
        self.digest.is_empty()
    }

    /// Whether the build is for a part of the clients, and the others have another one.
    pub fn is_canary(&self) -> bool {
        self.rollout.is_some()
    }

    /// The deployment of the clients that the canary is not for. Nothing is returned if there is no
    /// canary, or if they have what the folders have.
    pub fn stable(&self) -> Option<&Deployment> {
        let stable = self.stable.as_deref();
        stable.filter(|stable| self.is_canary() && !stable.is_withdrawn())
    }

    /// Returns whether a build is this one, or that of the clients that the canary is not for.
    pub fn has_build(&self, digest: &[u8]) -> bool {
        let is_stable = self.stable().is_some_and(|stable| stable.digest == *digest);
        self.digest == *digest || is_stable
    }

    /// The next deployment: the canary is for all clients.
    pub fn promoted(&self) -> Deployment {
        Deployment {
            version: self.version + 1,
            rollout: None,
            stable: None,
            ..self.clone()
        }
    }

    /// The next deployment: there is no canary any more. It counts more than one of `promoted`.
    pub fn without_canary(&self) -> Deployment {
        let stable = self.stable().cloned();
        Deployment {
            version: self.version + 2,
            plugin: self.plugin.clone(),
            everywhere: self.everywhere,
            ..stable.unwrap_or_default()
        }
    }

    /// The rank among the deployments of the plugin: the greatest one counts.
    pub fn rank(&self) -> (u64, &[u8], u64) {
        (self.version, &self.digest, self.at_ms)
    }

    /// Returns whether it is one that a node makes: with a name that can be part of a path, and with
    /// nothing longer or larger than it may be.
    pub fn is_sound(&self) -> bool {
        let stable = self.stable.as_deref();
        let is_stable = |stable: &Deployment| {
            let is_alone = stable.rollout.is_none() && stable.stable.is_none();
            is_alone && stable.plugin == self.plugin && stable.is_sound_alone()
        };
        self.is_sound_alone()
            && stable.is_none_or(is_stable)
            && self
                .rollout
                .as_ref()
                .is_none_or(|told| rollout(told).is_ok())
    }

    fn is_sound_alone(&self) -> bool {
        let texts = [&self.plugin, &self.origin, &self.by];
        texts.iter().all(|text| text.len() <= NAME_BYTES_MAX)
            && matches!(self.digest.len(), 0 | 32)
            && !self.plugin.is_empty()
            && fits_a_path(&self.plugin)
            && self.component_bytes <= COMPONENT_BYTES
            && self.manifest_bytes <= MANIFEST_BYTES
            && self.version < u64::MAX - 2
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::Rollout;
    use super::*;

    fn deployment(version: u64, digest: u8) -> Deployment {
        Deployment {
            plugin: "chat".to_owned(),
            version,
            digest: vec![digest; 32].into(),
            ..Deployment::default()
        }
    }

    /// The build 2 for a part of the clients, and the build 1 for the others.
    fn canary() -> Deployment {
        let rollout = Rollout {
            percent: 5.0,
            ..Rollout::default()
        };
        Deployment {
            rollout: Some(rollout),
            stable: Some(Box::new(deployment(1, 1))),
            ..deployment(2, 2)
        }
    }

    #[test]
    fn a_canary_ends_as_the_build_of_all_or_of_nobody() {
        let canary = canary();
        assert!(canary.is_sound() && canary.is_canary());
        assert!(canary.has_build(&[1; 32]) && canary.has_build(&[2; 32]));
        let promoted = canary.promoted();
        assert!(promoted == deployment(3, 2) && !promoted.has_build(&[1; 32]));
        let without = canary.without_canary();
        assert_eq!(without, deployment(4, 1));
        // Somebody promotes it, and it fails at the same time.
        let mut known = LastDeployments::default();
        for next in [&canary, &without, &promoted] {
            known.note(next);
        }
        assert_eq!(known.get("chat"), Some(&without));
        // The others have what the folders have.
        let of_folders = Deployment {
            stable: Some(Box::default()),
            ..canary.clone()
        };
        assert!(of_folders.stable().is_none() && !of_folders.has_build(&[]));
        assert!(of_folders.without_canary().is_withdrawn());
    }

    #[test]
    fn the_greatest_version_counts_and_between_equal_ones_the_greater_digest() {
        let mut known = LastDeployments::default();
        assert!(known.note(&deployment(2, 5)));
        assert!(!known.note(&deployment(2, 5)));
        assert!(!known.note(&deployment(1, 9)));
        assert!(known.note(&deployment(2, 6)));
        assert!(known.note(&deployment(3, 1)));
        assert_eq!(known.all(), [deployment(3, 1)]);
    }

    #[test]
    fn of_more_plugins_than_a_node_keeps_nothing_is_noted() {
        let mut known = LastDeployments::default();
        let of = |number: usize| Deployment {
            plugin: number.to_string(),
            ..deployment(1, 1)
        };
        assert!((0..DEPLOYMENTS).all(|number| known.note(&of(number))));
        assert!(!known.note(&of(DEPLOYMENTS)));
    }

    #[test]
    fn what_no_node_says_is_not_sound() {
        let long = "n".repeat(NAME_BYTES_MAX + 1);
        assert!(deployment(1, 1).is_sound());
        for unsound in [
            Deployment {
                plugin: String::new(),
                ..deployment(1, 1)
            },
            Deployment {
                plugin: "../chat".to_owned(),
                ..deployment(1, 1)
            },
            Deployment {
                component_bytes: COMPONENT_BYTES + 1,
                ..deployment(1, 1)
            },
            deployment(u64::MAX, 1),
            deployment(u64::MAX - 2, 1),
            Deployment {
                rollout: Some(Rollout::default()),
                ..deployment(1, 1)
            },
            Deployment {
                stable: Some(Box::new(deployment(u64::MAX, 1))),
                ..deployment(1, 1)
            },
            Deployment {
                stable: Some(Box::new(canary())),
                ..deployment(1, 1)
            },
            Deployment {
                origin: long,
                ..deployment(1, 1)
            },
            Deployment {
                digest: vec![1; 31].into(),
                ..deployment(1, 1)
            },
        ] {
            assert!(!unsound.is_sound(), "{unsound:?}");
        }
    }
}
