//! What the plugins of a node do now, for whoever must know when they have done everything.

use std::sync::atomic::Ordering;

use super::folder::Plugins;
use super::handle::Plugin;

impl Plugins {
    /// Whether an event is under way, a timer is due, or a generation ends.
    pub fn is_busy(&self) -> bool {
        !self.retiring.is_empty() || self.all().iter().any(|plugin| plugin.is_busy())
    }

    /// The number of clients of all plugins whose `on-close` has not ended.
    pub fn session_count(&self) -> usize {
        let plugins = self.all();
        let sessions = plugins.iter().map(|plugin| &plugin.sessions);
        sessions.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// The number of frames that were sent to the clients that are here, or wait for them.
    pub fn frame_count(&self) -> u64 {
        let plugins = self.all().into_iter();
        let clients = plugins.flat_map(|plugin| plugin.namespace().clients());
        let frames = clients.map(|client| {
            let status = client.outbox().status();
            status.sent_frames + status.queued_frames
        });
        frames.sum()
    }
}

impl Plugin {
    fn is_busy(&self) -> bool {
        self.instances().0 > 0 || (self.runs() && self.namespace().timers().is_busy())
    }
}
