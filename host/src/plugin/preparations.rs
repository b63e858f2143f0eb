//! The builds that a node prepares for deployments.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::preparation::{Preparation, PreparationPhase};
use crate::mesh::deployment::Deployment;

/// The most builds that are prepared at once.
const PREPARATIONS: usize = 8;

/// The most preparations that are known, with those that are over.
const REMEMBERED: usize = 100;

/// The builds that are prepared, and the last one of each plugin that was.
#[derive(Default)]
pub(super) struct Preparations(Mutex<BTreeMap<String, Arc<Preparation>>>);

impl Preparations {
    /// Begins to prepare a build, or says why not.
    pub(super) fn begin(&self, preparation: Arc<Preparation>) -> Result<(), &'static str> {
        let mut all = self.0.lock();
        let name = &preparation.deployment.plugin;
        let is_under_way = |other: &Preparation| !other.is_over();
        if all.get(name).is_some_and(|other| is_under_way(other)) {
            return Err(
                "another deployment of the plugin is under way: try again when it has ended",
            );
        }
        let under_way = all.values().filter(|other| is_under_way(other)).count();
        if under_way >= PREPARATIONS {
            return Err("too many deployments are under way: try again later");
        }
        // Whoever has asked for one may still want to know how it has ended.
        if all.len() >= REMEMBERED {
            all.retain(|_, other| is_under_way(other));
        }
        all.insert(name.clone(), preparation);
        Ok(())
    }

    /// The preparation that has this number.
    pub(super) fn get(&self, id: u64) -> Option<Arc<Preparation>> {
        let all = self.0.lock();
        all.values().find(|one| one.id == id).cloned()
    }

    /// Whether a build of the plugin is prepared, or on trial.
    pub(super) fn is_under_way(&self, plugin: &str) -> bool {
        let all = self.0.lock();
        all.get(plugin).is_some_and(|one| !one.is_over())
    }

    /// Whether a build of the plugin is prepared, or on trial, that is not the one that is deployed.
    pub(super) fn has_another(&self, plugin: &str, deployed: Option<&Deployment>) -> bool {
        let all = self.0.lock();
        let one = all.get(plugin);
        one.is_some_and(|one| !one.is_over() && Some(&one.deployment) != deployed)
    }

    /// The preparation of what was deployed, if it is under way.
    pub(super) fn of(&self, deployment: &Deployment) -> Option<Arc<Preparation>> {
        let all = self.0.lock();
        let one = all.get(&deployment.plugin)?;
        let is_it =
            one.deployment == *deployment && !matches!(one.progress(), PreparationPhase::Failed(_));
        is_it.then(|| one.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(preparations: &Preparations, number: u64) -> Result<(), &'static str> {
        let deployment = Deployment {
            plugin: format!("plugin-{number}"),
            ..Deployment::default()
        };
        preparations.begin(Arc::new(Preparation::new(number, deployment)))
    }

    #[test]
    fn few_builds_are_prepared_at_once_and_few_are_remembered() {
        let preparations = Preparations::default();
        let most = u64::try_from(PREPARATIONS).expect("a small number");
        for number in 0..most {
            assert_eq!(begin(&preparations, number), Ok(()));
        }
        let refused = begin(&preparations, most).expect_err("one too many");
        assert!(refused.contains("too many deployments"), "{refused}");
        let refused = begin(&preparations, 0).expect_err("the same plugin");
        assert!(
            refused.contains("another deployment of the plugin"),
            "{refused}"
        );

        let end = |number| preparations.get(number).expect("it is known").end();
        for number in most..1_000 {
            end(number - most);
            assert_eq!(begin(&preparations, number), Ok(()));
            assert!(preparations.0.lock().len() <= REMEMBERED);
        }
        // Those under way are still known.
        for number in 1_000 - most..1_000 {
            end(number);
        }
    }
}
