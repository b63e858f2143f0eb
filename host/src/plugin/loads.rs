//! The loads under way. Several plugins are loaded at the same time, so one that takes long keeps
//! no other waiting. A plugin has one load at a time: files that are newer end the load of the older
//! ones.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use super::load::LoadError;
use crate::manifest::Routes;

/// The most loads under way, since each of them holds its component in memory.
const UNDER_WAY: usize = 8;

/// The loads that are under way, and the plugins that wait for theirs. All loads run on the task
/// that waits for their ends, and end with that task.
#[derive(Default)]
pub(super) struct Loads {
    under_way: BTreeMap<String, Load>,
    waiting: VecDeque<String>,
}

/// The load of a plugin whose files were read.
pub(super) struct Load {
    /// The routes that the plugin shall have.
    pub(super) routes: Routes,
    pub(super) run: Pin<Box<dyn Future<Output = LoadResult> + Send>>,
}

/// The number of the new generation, if the files are other ones than those that run.
pub(super) type LoadResult = Result<Option<u64>, LoadError>;

impl Loads {
    /// Ends the load of a plugin that is under way, if there is one.
    pub(super) fn cancel(&mut self, plugin: &str) {
        self.under_way.remove(plugin);
        self.waiting.retain(|waiting| waiting != plugin);
    }

    /// Makes a plugin wait for its load. A load of older files ends.
    pub(super) fn enqueue(&mut self, plugin: String) {
        self.cancel(&plugin);
        self.waiting.push_back(plugin);
    }

    /// Returns the next plugin whose load can begin.
    pub(super) fn dequeue(&mut self) -> Option<String> {
        match self.under_way.len() < UNDER_WAY {
            true => self.waiting.pop_front(),
            false => None,
        }
    }

    /// Adds a load, which then runs in `next`.
    pub(super) fn start(&mut self, plugin: String, load: Load) {
        self.under_way.insert(plugin, load);
    }

    /// Returns the plugins that are not loaded yet.
    pub(super) fn plugins(&self) -> Vec<String> {
        self.under_way
            .keys()
            .chain(&self.waiting)
            .cloned()
            .collect()
    }

    /// Returns the routes that the loads will give to their plugins.
    pub(super) fn routes(&self) -> impl Iterator<Item = (&str, &Routes)> {
        let loads = self.under_way.iter();
        loads.map(|(plugin, load)| (&**plugin, &load.routes))
    }

    /// Runs the loads until one of them has ended. Waits without end if there is none.
    pub(super) async fn next(&mut self) -> (String, LoadResult) {
        let ended = poll_fn(|context| {
            for (plugin, load) in &mut self.under_way {
                if let Poll::Ready(result) = load.run.as_mut().poll(context) {
                    return Poll::Ready((plugin.clone(), result));
                }
            }
            Poll::Pending
        });
        let (plugin, result) = ended.await;
        self.under_way.remove(&plugin);
        (plugin, result)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    fn load(run: impl Future<Output = LoadResult> + Send + 'static) -> Load {
        Load {
            routes: Routes::default(),
            run: Box::pin(run),
        }
    }

    #[tokio::test]
    async fn a_load_that_takes_long_keeps_no_other_waiting() {
        let mut loads = Loads::default();
        loads.start("long".to_owned(), load(pending()));
        loads.start("short".to_owned(), load(ready(Ok(Some(1)))));
        let (plugin, result) = loads.next().await;
        assert_eq!((&*plugin, result.ok()), ("short", Some(Some(1))));
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
        assert_eq!(loads.dequeue().as_deref(), Some("chat"));
        assert_eq!(loads.dequeue(), None);
    }

    #[test]
    fn only_so_many_are_under_way() {
        let mut loads = Loads::default();
        for number in 0..=UNDER_WAY {
            loads.enqueue(format!("plugin-{number}"));
        }
        while let Some(plugin) = loads.dequeue() {
            loads.start(plugin, load(pending()));
        }
        assert_eq!(loads.under_way.len(), UNDER_WAY);
        assert_eq!(loads.waiting.len(), 1);
        loads.cancel("plugin-3");
        assert!(loads.dequeue().is_some());
    }
}
