//! The rules for changes of the plugins folder. A plain function takes looks at the folder and the
//! time, and returns the next plugin that must be loaded or removed.
//!
//! A file counts once it has been still for `SETTLE`. A plugin is removed when its name has been
//! missing for `REMOVAL_SETTLE` from the very folder that had it. If the path leads to another
//! folder now, because the former one was unmounted or moved away, a missing name removes nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::look::{FolderId, Found, Stamp};
use crate::limits::{REMOVAL_SETTLE, SETTLE};

/// The pause before the next try of a load that failed because of the machine, not the file.
pub(super) const RETRY: Duration = Duration::from_secs(5);

/// The time after a change in which the folder is looked at often. Somebody who changes one file
/// may change more.
const BUSY: Duration = Duration::from_secs(10);

/// The time between two looks at the folder while the folder changes.
const LOOK_BUSY: Duration = Duration::from_millis(100);
/// The time between two looks at the folder while nothing changes.
const LOOK_IDLE: Duration = Duration::from_millis(500);

/// The last view of the folder, and what was done about each plugin.
#[derive(Debug, Default)]
pub(super) struct FolderWatch {
    folder: Option<FolderId>,
    plugins: BTreeMap<String, WatchedName>,
    busy_until: Option<Instant>,
}

/// The files of one plugin, as they were seen.
#[derive(Debug)]
struct WatchedName {
    /// The stamp that was seen last; none if the name is missing.
    seen: Option<Stamp>,
    since: Instant,
    acted_on: Option<Stamp>,
    /// The folder that had the name last.
    folder: FolderId,
    /// Whether the absence of the name from another folder has been reported.
    is_displaced: bool,
    retry_at: Option<Instant>,
    /// Whether the last load was a retry with the same files as the load before.
    is_retry: bool,
    /// The error text of the last load, if that failed.
    failure: Option<String>,
}

/// The next action for one plugin of the folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FolderChange {
    /// The plugin's files are new, and have been still for long enough.
    Settled(String),
    /// The component has been missing for long enough.
    Removed(String),
    /// The path leads to another folder, which does not have the component.
    Displaced(String),
}

impl FolderWatch {
    /// Takes everything that was found as already acted on.
    pub(super) fn accept(&mut self, found: Found, now: Instant) {
        let folder = found.folder;
        self.folder = Some(folder);
        let watched = |stamp| WatchedName {
            acted_on: Some(stamp),
            ..WatchedName::new(Some(stamp), folder, now)
        };
        let plugins = found.plugins.into_iter();
        self.plugins = plugins
            .map(|(name, stamp)| (name, watched(stamp)))
            .collect();
    }

    /// Returns whether a look saw another folder than the look before.
    pub(super) fn is_other_folder(&self, found: &Found) -> bool {
        self.folder.is_some_and(|folder| folder != found.folder)
    }

    /// Takes the result of a look at the folder, and returns what is to be done first.
    pub(super) fn change(&mut self, mut found: Found, now: Instant) -> Option<FolderChange> {
        let folder = found.folder;
        let is_other_folder = self.is_other_folder(&found);
        self.folder = Some(folder);
        for name in found.plugins.keys() {
            let new = || WatchedName::new(None, folder, now);
            self.plugins.entry(name.clone()).or_insert_with(new);
        }
        let mut is_changing = is_other_folder;
        for (name, watched) in &mut self.plugins {
            is_changing |= watched.see(found.plugins.remove(name), folder, now);
            if is_other_folder && watched.seen.is_none() {
                watched.since = now;
            }
        }
        if is_changing {
            self.busy_until = Some(now + BUSY);
        }
        self.plugins
            .retain(|_, watched| watched.seen.is_some() || watched.acted_on.is_some());
        let mut plugins = self.plugins.iter_mut();
        let (name, watched) = plugins.find(|(_, watched)| watched.is_due(now))?;
        let name = name.clone();
        if watched.seen.is_none() && watched.folder != folder {
            watched.is_displaced = true;
            return Some(FolderChange::Displaced(name));
        }
        watched.acted_on = watched.seen;
        watched.is_retry = watched.retry_at.take().is_some();
        Some(match watched.seen {
            Some(_) => FolderChange::Settled(name),
            None => FolderChange::Removed(name),
        })
    }

    /// Records that a load of the plugin failed with this text. Returns false if the load was a
    /// retry that failed like the load before, and true otherwise. If `may_pass` is true, the
    /// machine is to blame, and the load is due again after `RETRY`.
    pub(super) fn failed(
        &mut self,
        name: &str,
        failure: String,
        may_pass: bool,
        now: Instant,
    ) -> bool {
        let Some(watched) = self.plugins.get_mut(name) else {
            return true;
        };
        watched.retry_at = may_pass.then(|| now + RETRY);
        let is_new = !watched.is_retry || watched.failure.as_ref() != Some(&failure);
        watched.failure = Some(failure);
        is_new
    }

    /// Returns whether the folder has the plugin, or had it when it was last seen.
    pub(super) fn has(&self, name: &str) -> bool {
        let watched = self.plugins.get(name);
        watched.is_some_and(|watched| watched.acted_on.is_some())
    }

    /// Returns whether the last change of a plugin was only that it is tried again.
    pub(super) fn is_retry(&self, name: &str) -> bool {
        self.plugins
            .get(name)
            .is_some_and(|watched| watched.is_retry)
    }

    /// Makes a load of the plugin due again after a while.
    pub(super) fn retry_later(&mut self, name: &str, now: Instant) {
        if let Some(watched) = self.plugins.get_mut(name) {
            watched.retry_at = Some(now + RETRY);
        }
    }

    /// Records that a load of the plugin did not fail. Returns whether the load before failed.
    pub(super) fn loaded(&mut self, name: &str) -> bool {
        let watched = self.plugins.get_mut(name);
        watched.is_some_and(|watched| watched.failure.take().is_some())
    }

    /// Returns how long to wait until the next look.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        match self.busy_until.is_some_and(|until| now < until) {
            true => LOOK_BUSY,
            false => LOOK_IDLE,
        }
    }
}

impl WatchedName {
    fn new(seen: Option<Stamp>, folder: FolderId, since: Instant) -> WatchedName {
        WatchedName {
            seen,
            since,
            acted_on: None,
            folder,
            is_displaced: false,
            retry_at: None,
            is_retry: false,
            failure: None,
        }
    }

    /// Takes the stamp that a look saw for the name. Returns whether the stamp is new.
    fn see(&mut self, stamp: Option<Stamp>, folder: FolderId, now: Instant) -> bool {
        if stamp.is_some() {
            self.folder = folder;
            self.is_displaced = false;
        }
        let is_new = stamp != self.seen;
        if is_new {
            self.seen = stamp;
            self.since = now;
            self.retry_at = None;
        }
        is_new
    }

    fn is_due(&self, now: Instant) -> bool {
        if self.seen.is_some() && self.retry_at.is_some_and(|at| now >= at) {
            return true;
        }
        let settle = match self.seen {
            Some(_) => SETTLE,
            None => REMOVAL_SETTLE,
        };
        self.seen != self.acted_on
            && !self.is_displaced
            && now.saturating_duration_since(self.since) >= settle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(100);

    /// A look in a test: the folder's number, and the number of the plugin's stamp if its name is
    /// there.
    type Look = (u64, Option<u64>);

    fn found((folder, stamp): Look) -> Found {
        let plugins = stamp.map(|stamp| ("chat".to_owned(), Stamp::numbered(stamp)));
        Found {
            folder: FolderId::numbered(folder),
            plugins: plugins.into_iter().collect(),
        }
    }

    /// Returns what a watch that has acted on `before` says to these looks, 100 ms apart.
    fn said(before: Look, looks: &[Look]) -> Vec<(usize, FolderChange)> {
        let start = Instant::now();
        let mut watch = FolderWatch::default();
        watch.accept(found(before), start);
        let mut said = Vec::new();
        let mut now = start;
        for (number, look) in looks.iter().enumerate() {
            said.extend(
                watch
                    .change(found(*look), now)
                    .map(|change| (number, change)),
            );
            now += EVERY;
        }
        said
    }

    fn settled(at: usize) -> Vec<(usize, FolderChange)> {
        vec![(at, FolderChange::Settled("chat".to_owned()))]
    }

    fn removed(at: usize) -> Vec<(usize, FolderChange)> {
        vec![(at, FolderChange::Removed("chat".to_owned()))]
    }

    fn displaced(at: usize) -> Vec<(usize, FolderChange)> {
        vec![(at, FolderChange::Displaced("chat".to_owned()))]
    }

    #[test]
    fn a_file_counts_once_it_is_still() {
        let looks = [None, Some(9), Some(9), Some(9), Some(9)];
        assert_eq!(said((1, None), &looks.map(|stamp| (1, stamp))), settled(3));
        let looks = [1, 2, 3, 4, 4, 4];
        let looks = looks.map(|stamp| (1, Some(stamp)));
        assert_eq!(said((1, Some(1)), &looks), settled(5));
        assert_eq!(said((1, Some(1)), &[(1, Some(1)); 9]), vec![]);
    }

    #[test]
    fn a_file_that_is_missing_for_a_moment_is_not_removed() {
        let looks = [Some(1), None, None, None, Some(1), Some(1), Some(1)];
        let looks = looks.map(|stamp| (1, stamp));
        assert_eq!(said((1, Some(1)), &looks), vec![]);
        assert_eq!(said((1, Some(1)), &[(1, None); 30]), removed(10));
    }

    #[test]
    fn another_folder_removes_nothing_until_it_has_had_the_file_itself() {
        // Unmounted: said once, however long it takes.
        assert_eq!(said((1, Some(1)), &[(2, None); 60]), displaced(10));
        // Mounted again, as it was or anew.
        for folder in [1, 3] {
            let mut looks = vec![(2, None); 12];
            looks.extend([(folder, Some(1)); 12]);
            assert_eq!(said((1, Some(1)), &looks), displaced(10));
            // It has the file, so it may remove it.
            looks.extend([(folder, None); 12]);
            let mut expected = displaced(10);
            expected.extend(removed(34));
            assert_eq!(said((1, Some(1)), &looks), expected);
        }
        // A release that is another folder behind a link, with a new build.
        assert_eq!(said((1, Some(1)), &[(2, Some(2)); 9]), settled(2));
    }

    #[test]
    fn a_folder_that_is_back_without_the_file_has_a_moment_to_show_it() {
        let mut looks = vec![(2, None); 12];
        looks.extend([(1, None); 5]);
        looks.extend([(1, Some(1)); 5]);
        assert_eq!(said((1, Some(1)), &looks), displaced(10));
    }

    #[test]
    fn a_load_that_failed_for_the_machines_sake_is_tried_again_and_said_once() {
        let start = Instant::now();
        let mut watch = FolderWatch::default();
        watch.accept(found((1, Some(1))), start);
        let failed = |watch: &mut FolderWatch, text: &str, at| {
            let is_news = watch.failed("chat", text.to_owned(), true, at);
            (is_news, at)
        };
        assert!(failed(&mut watch, "no memory", start).0);
        let mut now = start;
        for (text, is_news) in [("no memory", false), ("no file", true), ("no file", false)] {
            assert_eq!(watch.change(found((1, Some(1))), now), None);
            now += RETRY;
            let change = watch.change(found((1, Some(1))), now);
            assert_eq!(change, Some(FolderChange::Settled("chat".to_owned())));
            assert_eq!(failed(&mut watch, text, now).0, is_news, "{text}");
        }
        // Somebody saved it once more: what is still wrong is said again.
        watch.change(found((1, Some(2))), now);
        let change = watch.change(found((1, Some(2))), now + SETTLE);
        assert_eq!(change, Some(FolderChange::Settled("chat".to_owned())));
        assert!(failed(&mut watch, "no file", now).0);
        assert!(watch.loaded("chat"));
        assert!(!watch.loaded("chat"));
    }

    #[test]
    fn a_plugin_whose_last_load_failed_can_still_be_removed() {
        let start = Instant::now();
        let mut watch = FolderWatch::default();
        watch.accept(found((1, Some(1))), start);
        watch.failed("chat", "no memory".to_owned(), true, start);
        watch.change(found((1, None)), start);
        let change = watch.change(found((1, None)), start + REMOVAL_SETTLE);
        assert_eq!(change, Some(FolderChange::Removed("chat".to_owned())));
    }

    #[test]
    fn looks_are_few_while_nothing_changes() {
        let start = Instant::now();
        let mut watch = FolderWatch::default();
        watch.accept(found((1, Some(1))), start);
        watch.change(found((1, Some(1))), start);
        assert_eq!(watch.pause(start), LOOK_IDLE);
        watch.change(found((1, Some(2))), start);
        assert_eq!(watch.pause(start), LOOK_BUSY);
        assert_eq!(watch.pause(start + BUSY), LOOK_IDLE);
    }
}
