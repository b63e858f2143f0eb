//! The loads under way. Several plugins are loaded at the same time, so one that takes long keeps
//! no other waiting. A plugin has one load at a time: files that are newer end the load of the older
//! ones.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use super::generation::Digest;
use super::load::{BuildSource, LoadError};
use crate::manifest::Routes;

/// The most loads under way, since each of them holds its component in memory.
const UNDER_WAY: usize = 8;

/// The loads that are under way, and the plugins that wait for theirs. All loads run on the task
/// that waits for their ends, and end with that task.
#[derive(Default)]
pub(super) struct Loads {
    under_way: BTreeMap<String, Load>,
    waiting: VecDeque<WaitingLoad>,
}

/// A plugin that waits for its load.
struct WaitingLoad {
    plugin: String,
    /// Another plugin whose load must end first.
    after: Option<String>,
}

/// The load of a plugin whose files were read.
pub(super) struct Load {
    /// The routes that the plugin shall have.
    pub(super) routes: Routes,
    /// Where the files come from.
    pub(super) source: BuildSource,
    pub(super) digest: Digest,
    pub(super) run: Pin<Box<dyn Future<Output = LoadResult> + Send>>,
}

/// A load that has ended.
pub(super) struct EndedLoad {
    pub(super) plugin: String,
    /// Where the files come from.
    pub(super) source: BuildSource,
    pub(super) digest: Digest,
    pub(super) result: LoadResult,
}

/// The number of the new generation, if the files are other ones than those that run.
pub(super) type LoadResult = Result<Option<u64>, LoadError>;

impl Loads {
    /// Ends the load of a plugin that is under way, if there is one.
    pub(super) fn cancel(&mut self, plugin: &str) {
        self.under_way.remove(plugin);
        self.waiting.retain(|waiting| waiting.plugin != plugin);
    }

    /// Makes a plugin wait for its load. A load of older files ends.
    pub(super) fn enqueue(&mut self, plugin: String) {
        self.cancel(&plugin);
        let after = None;
        self.waiting.push_back(WaitingLoad { plugin, after });
    }

    /// Makes a plugin wait until the load of another one has ended.
    pub(super) fn enqueue_after(&mut self, plugin: String, other: String) {
        let after = Some(other);
        self.waiting.push_back(WaitingLoad { plugin, after });
    }

    /// Returns the next plugin whose load can begin. It waits until `start` or `cancel`.
    pub(super) fn first(&self) -> Option<&str> {
        if self.under_way.len() >= UNDER_WAY {
            return None;
        }
        let can_begin = |waiting: &&WaitingLoad| {
            let after = waiting.after.as_ref();
            after.is_none_or(|other| !self.is_under_way(other))
        };
        let first = self.waiting.iter().find(can_begin)?;
        Some(&first.plugin)
    }

    /// Whether the load of a plugin is under way.
    pub(super) fn is_under_way(&self, plugin: &str) -> bool {
        self.under_way.contains_key(plugin)
    }

    /// Whether a plugin waits for its load, or the load is under way.
    pub(super) fn has(&self, plugin: &str) -> bool {
        let waits = self.waiting.iter().any(|waiting| waiting.plugin == plugin);
        waits || self.is_under_way(plugin)
    }

    /// Adds a load, which then runs in `next`.
    pub(super) fn start(&mut self, plugin: String, load: Load) {
        self.cancel(&plugin);
        self.under_way.insert(plugin, load);
    }

    /// Returns whether all loads have ended.
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty() && self.waiting.is_empty()
    }

    /// Returns the plugins that are not loaded yet.
    pub(super) fn plugins(&self) -> Vec<String> {
        let waiting = self.waiting.iter().map(|waiting| &waiting.plugin);
        self.under_way.keys().chain(waiting).cloned().collect()
    }

    /// Returns the routes that the loads will give to their plugins.
    pub(super) fn routes(&self) -> impl Iterator<Item = (&str, &Routes)> {
        let loads = self.under_way.iter();
        loads.map(|(plugin, load)| (&**plugin, &load.routes))
    }

    /// Runs the loads until one of them has ended. Waits without end if there is none.
    pub(super) async fn next(&mut self) -> EndedLoad {
        let ended = poll_fn(|context| {
            for (plugin, load) in &mut self.under_way {
                if let Poll::Ready(result) = load.run.as_mut().poll(context) {
                    return Poll::Ready(EndedLoad {
                        plugin: plugin.clone(),
                        source: load.source,
                        digest: load.digest,
                        result,
                    });
                }
            }
            Poll::Pending
        });
        let ended = ended.await;
        self.under_way.remove(&ended.plugin);
        ended
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    fn load(run: impl Future<Output = LoadResult> + Send + 'static) -> Load {
        Load {
            routes: Routes::default(),
            source: BuildSource::Folder,
            digest: Digest::default(),
            run: Box::pin(run),
        }
    }

    #[tokio::test]
    async fn a_load_that_takes_long_keeps_no_other_waiting() {
        let mut loads = Loads::default();
        loads.start("long".to_owned(), load(pending()));
        loads.start("short".to_owned(), load(ready(Ok(Some(1)))));
        let ended = loads.next().await;
        assert_eq!(
            (&*ended.plugin, ended.result.ok()),
            ("short", Some(Some(1)))
        );
        assert_eq!(loads.plugins(), ["long"]);
    }

    #[tokio::test]
    async fn newer_files_end_the_load_of_older_ones() {
        let mut loads = Loads::default();
        let held = std::sync::Arc::new(());
        let of_load = held.clone();
        let long = async move {
            let _of_load = of_load;
            pending().await
        };
        loads.start("chat".to_owned(), load(long));
        loads.enqueue("chat".to_owned());
        assert_eq!(std::sync::Arc::strong_count(&held), 1);
        assert_eq!(loads.first(), Some("chat"));
        loads.cancel("chat");
        assert_eq!(loads.first(), None);
    }

    #[test]
    fn only_so_many_are_under_way() {
        let mut loads = Loads::default();
        for number in 0..=UNDER_WAY {
            loads.enqueue(format!("plugin-{number}"));
        }
        while let Some(plugin) = loads.first() {
            loads.start(plugin.to_owned(), load(pending()));
        }
        assert_eq!(loads.under_way.len(), UNDER_WAY);
        assert_eq!(loads.waiting.len(), 1);
        loads.cancel("plugin-3");
        assert!(loads.first().is_some());
    }

    #[test]
    fn a_load_can_wait_for_another_one() {
        let mut loads = Loads::default();
        loads.start("old".to_owned(), load(pending()));
        loads.enqueue_after("new".to_owned(), "old".to_owned());
        loads.enqueue("other".to_owned());
        assert_eq!(loads.first(), Some("other"));
        loads.cancel("other");
        assert_eq!(loads.first(), None);
        loads.cancel("old");
        assert_eq!(loads.first(), Some("new"));
    }
}
